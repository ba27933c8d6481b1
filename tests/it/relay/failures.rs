//! Members that die, stop or lose each other: clients are told in a code that they can act on, and the relay finds its way.

use super::raw::call_with;
use super::upstream_in_use;
use crate::support::pb::lease_client::LeaseClient;
use crate::support::pb::{LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest};
use crate::support::requests::{get, on};
use crate::support::stream::revisions_in;
use crate::support::{
    Client, Cluster, Http, Peer, PeerKind, Relay, WatchStream, eventually, within,
};
use std::net::TcpListener;
use std::time::Duration;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Status};

async fn try_put(client: &Client) -> Result<i64, Status> {
    let put = PutRequest {
        key: "a".into(),
        value: "1".into(),
        ..PutRequest::default()
    };
    let put = client.try_put(put).await;
    put.map(|answer| answer.header.unwrap().revision)
}

/// Puts until one is accepted. Until then the relay says Unavailable; a member that finds no leader says that its own
/// deadline is over.
async fn put_in_the_end(client: &Client) -> i64 {
    eventually("a put is accepted", async || {
        let put = try_put(client).await;
        put.map_err(|status| {
            let code = status.code();
            let is_told = matches!(code, Code::Unavailable | Code::DeadlineExceeded);
            assert!(is_told, "{status}");
            status
        })
    })
    .await
}

/// The member that is in use, by its place in the list.
async fn in_use(relay: &Relay, cluster: &Cluster) -> usize {
    upstream_in_use(relay.endpoint(), &cluster.endpoints()).await
}

#[tokio::test]
async fn without_a_cluster_calls_are_unavailable_and_say_why() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let relay = Relay::before(&[&address]).await;
    let refused = try_put(&relay.connect().await).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains(&address), "{refused}");
    assert!(refused.message().contains("refused"), "{refused}");
    let http = Http::at(relay.endpoint());
    let ready = http.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains(&address), "{}", ready.text);
    assert_eq!(http.get("/livez").await.status, 200);
    assert_eq!(http.get("/health").await.status, 503);
    assert_eq!(http.get("/version").await.status, 503);
}

#[tokio::test]
async fn a_call_that_never_left_is_made_once_more_on_the_next_upstream() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let etcd = Peer::start(PeerKind::Etcd).await;
    let relay = Relay::before(&[&address, etcd.endpoint()]).await;
    assert_eq!(try_put(&relay.connect().await).await.unwrap(), 2);
}

#[tokio::test]
async fn when_the_member_in_use_dies_calls_go_on_with_another() {
    let mut cluster = Cluster::start().await;
    let relay = Relay::before(&cluster.endpoints()).await;
    let client = relay.connect().await;
    let first = put_in_the_end(&client).await;
    let killed = in_use(&relay, &cluster).await;
    cluster.members[killed].kill();
    assert!(put_in_the_end(&client).await > first);
    let next = in_use(&relay, &cluster).await;
    assert_ne!(next, killed);
    cluster.members[next].process.pause();
    // Two of three do not answer, so nothing is written.
    cluster.members[killed].restart();
    let last = put_in_the_end(&client).await;
    assert!(last > first);
    cluster.members[next].process.go_on();
    let read = client.range(get("a")).await.unwrap();
    assert!(read.header.unwrap().revision >= last);
}

#[tokio::test]
async fn without_a_quorum_the_relay_is_not_ready_and_recovers() {
    let mut cluster = Cluster::start().await;
    let relay = Relay::before(&cluster.endpoints()).await;
    let client = relay.connect().await;
    put_in_the_end(&client).await;
    let http = Http::at(relay.endpoint());
    let ready = http.get("/readyz").await;
    assert_eq!((ready.status, ready.text.as_str()), (200, "ok\n"));
    cluster.members[0].kill();
    cluster.members[1].kill();
    eventually("it is not ready for want of a leader", async || {
        let ready = http.get("/readyz").await;
        let is_told = ready.status == 503 && ready.text.contains("etcdserver: no leader");
        is_told.then_some(()).ok_or(ready.text)
    })
    .await;
    assert_eq!(http.get("/livez").await.status, 200);
    // Who asks for a leader is told at once that there is none; who does not is told what the member says in the end.
    let put = call_with(
        client.channel(),
        "/etcdserverpb.KV/Put",
        b"\x0a\x01a".to_vec(),
        &[("hasleader", "true")],
    );
    let (code, text, _) = put.await.unwrap_err();
    let told = (Code::Unavailable, "etcdserver: no leader");
    assert_eq!((code, text.as_str()), told);
    let direct = Client::connect(&cluster.members[2].endpoint).await.unwrap();
    let (ours, theirs) = tokio::join!(try_put(&client), try_put(&direct));
    assert_eq!(ours.unwrap_err().code(), theirs.unwrap_err().code());
    // One member alone still reads what it has, for whoever is content with that.
    let local = RangeRequest {
        serializable: true,
        ..get("a")
    };
    assert_eq!(client.range(local).await.unwrap().count, 1);
    cluster.members[0].restart();
    put_in_the_end(&client).await;
    eventually("it is ready again", async || {
        let ready = http.get("/readyz").await;
        (ready.status == 200).then_some(()).ok_or(ready.text)
    })
    .await;
}

// The relay holds its watches through the want of a leader, so clients that would rather hear of that would not.
#[tokio::test]
async fn watches_that_ask_for_a_leader_end_without_one_as_they_do_at_a_member() {
    let mut cluster = Cluster::start().await;
    let relay = Relay::before(&cluster.endpoints()).await;
    let client = relay.connect().await;
    put_in_the_end(&client).await;
    let direct = Client::connect(&cluster.members[2].endpoint).await.unwrap();
    let asking = |client: &Client| {
        let mut metadata = MetadataMap::new();
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        WatchStream::open_with(client.channel(), metadata)
    };
    let (mut ours, mut theirs, mut content) = (asking(&client), asking(&direct), client.watch());
    for stream in [&mut ours, &mut theirs, &mut content] {
        stream.created(on("a")).await;
    }
    cluster.members[0].kill();
    cluster.members[1].kill();
    let told = |status: Status| (status.code(), status.message().to_owned());
    let due = (Code::Unavailable, "etcdserver: no leader".to_owned());
    for stream in [&mut ours, &mut theirs] {
        let (_, end) = stream.end().await;
        assert_eq!(told(end.unwrap_err()), due);
    }
    for client in [&client, &direct] {
        let (_, end) = asking(client).end().await;
        assert_eq!(told(end.unwrap_err()), due);
    }
    cluster.members[0].restart();
    let put = put_in_the_end(&client).await;
    // Who did not ask has waited, and is told of everything.
    let mut seen = Vec::new();
    while seen.last() != Some(&put) {
        seen.extend(revisions_in(&content.next_events().await));
    }
    eventually("who asks for a leader is let in", async || {
        let mut again = asking(&client);
        again.create(on("a"));
        match again.receive().await {
            Ok(Some(response)) if response.created && !response.canceled => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

// A learner answers reads of its own, and refuses everything else at once: it would be well, and be used for ever.
#[tokio::test]
async fn a_learner_is_left_for_a_member() {
    let mut cluster = Cluster::start().await;
    cluster.add_learner().await;
    let endpoints = cluster.endpoints();
    let (member, learner) = (endpoints[0], endpoints[3]);
    let relay = Relay::before(&[learner, member]).await;
    let client = relay.connect().await;
    eventually("a put is accepted", async || try_put(&client).await).await;
    let mut stream = client.watch();
    stream.created(on("a")).await;
    let put = try_put(&client).await.unwrap();
    assert_eq!(revisions_in(&stream.next_events().await), [put]);
    let used = upstream_in_use(relay.endpoint(), &[learner, member]).await;
    assert_eq!(used, 1);
    // Alone it is used for what it answers, and said to be what it is.
    let relay = Relay::before(&[learner]).await;
    let client = relay.connect().await;
    eventually("it is not ready for want of a member", async || {
        let ready = Http::at(relay.endpoint()).get("/readyz").await;
        let words = "etcdserver: rpc not supported for learner";
        let is_told = ready.status == 503 && ready.text.contains(words);
        is_told.then_some(()).ok_or(ready.text)
    })
    .await;
    let own = RangeRequest {
        serializable: true,
        ..get("a")
    };
    assert_eq!(client.range(own).await.unwrap().count, 1);
}

#[tokio::test]
async fn a_stream_on_a_member_that_stops_answering_ends_and_the_client_can_go_on() {
    let cluster = Cluster::start().await;
    let relay = Relay::before(&cluster.endpoints()).await;
    let client = relay.connect().await;
    put_in_the_end(&client).await;
    let mut leases = LeaseClient::new(client.channel());
    let grant = LeaseGrantRequest { id: 0, ttl: 600 };
    let id = leases.lease_grant(grant).await.unwrap().into_inner().id;
    let (sender, requests) = tokio::sync::mpsc::channel(4);
    let keep = LeaseKeepAliveRequest { id };
    sender.send(keep).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut kept = leases
        .lease_keep_alive(requests)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(kept.message().await.unwrap().unwrap().ttl, 600);
    let paused = in_use(&relay, &cluster).await;
    cluster.members[paused].process.pause();
    let ended = within("the end of the stream", kept.message()).await;
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    put_in_the_end(&client).await;
    cluster.members[paused].process.go_on();
}

#[tokio::test]
async fn a_deadline_goes_up_with_its_call() {
    let peer = Peer::relayed().await;
    let client = peer.client();
    let mut relayed = etcd_client::Client::connect([peer.endpoint()], None)
        .await
        .unwrap();
    let held = relayed.lock("door", None).await.unwrap();
    let mut waiting = vigil::api::pb::v3lockpb::lock_client::LockClient::new(client.channel());
    let mut request = Request::new(vigil::api::pb::v3lockpb::LockRequest {
        name: "door".into(),
        lease: 0,
    });
    request.set_timeout(Duration::from_millis(500));
    let late = within("the deadline", waiting.lock(request)).await;
    let code = late.unwrap_err().code();
    assert!(
        matches!(code, Code::DeadlineExceeded | Code::Cancelled),
        "{code}"
    );
    eventually("nobody waits any more", async || {
        let line = client
            .range(crate::support::requests::get_prefix("door/"))
            .await
            .unwrap();
        (line.count == 1).then_some(()).ok_or(line.count)
    })
    .await;
    relayed.unlock(held.key()).await.unwrap();
}

#[tokio::test]
async fn a_relay_that_is_told_to_stop_ends_its_streams() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let mut relay = Relay::before(&[etcd.endpoint()]).await;
    let client = relay.connect().await;
    let mut leases = LeaseClient::new(client.channel());
    let grant = LeaseGrantRequest { id: 0, ttl: 600 };
    let id = leases.lease_grant(grant).await.unwrap().into_inner().id;
    let (sender, requests) = tokio::sync::mpsc::channel(4);
    sender.send(LeaseKeepAliveRequest { id }).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut kept = leases
        .lease_keep_alive(requests)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(kept.message().await.unwrap().unwrap().ttl, 600);
    relay.process().terminate();
    let ended = within("the end of the stream", kept.message()).await;
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    drop((sender, kept, leases, client));
    let exit = relay.process().wait_exit().await;
    assert!(exit.success(), "{}", relay.process().output());
}
