//! What etcd's proxy gets wrong while there is no cluster: starts and cancels that hang, and refusals that nobody hears of.
//!
//! The cluster is away for certain: the network between it and the relay is the test's.

use crate::support::requests::on;
use crate::support::stream::revisions_in;
use crate::support::{Peer, PeerKind, Relay, Wire, eventually, within};
use etcd_client::AuthClient;
use tonic::Code;

// The proxy hangs when watches are cancelled while the cluster is away, and deadlocks when it is started without one.
#[tokio::test]
async fn d14_starts_and_cancels_do_not_hang_without_a_cluster() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let wire = Wire::to(etcd.endpoint()).await;
    wire.cut();
    let relay = Relay::before(&[wire.endpoint()]).await;
    let client = relay.connect().await;
    let mut early = client.watch();
    early.create(on("a"));
    let told = within("what becomes of an early watch", early.receive()).await;
    assert_eq!(told.unwrap_err().code(), Code::Unavailable);
    wire.open();
    let mut stream = eventually("a watch is created", async || {
        let mut stream = client.watch();
        stream.create(on("a"));
        match within("an answer to a create", stream.receive()).await {
            Ok(Some(response)) if response.created => Ok(stream),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    stream.created(on("b")).await;
    wire.stall();
    stream.cancel(0);
    let canceled = stream.next().await;
    assert!(canceled.canceled && canceled.watch_id == 0, "{canceled:?}");
    wire.open();
    let put = etcd.client().put("b", "v").await;
    assert_eq!(revisions_in(&stream.next_events().await), [put]);
}

// The proxy makes up who answers. A stream here that is opened before the cluster was ever reached would be answered in the
// name of nobody.
#[tokio::test]
async fn d05_created_names_the_cluster_also_when_it_was_not_known_before() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let wire = Wire::to(etcd.endpoint()).await;
    wire.stall();
    let relay = Relay::before(&[wire.endpoint()]).await;
    let client = relay.connect().await;
    let mut stream = client.watch();
    stream.create(on("a"));
    // An answer that needs no cluster comes behind the opening of the stream.
    let refused = crate::support::pb::WatchCreateRequest {
        start_revision: -1,
        ..on("b")
    };
    let _ = client.watch().rejected(refused).await;
    wire.open();
    let created = stream.next().await;
    assert!(created.created && !created.canceled, "{created:?}");
    let theirs = etcd.watch().created(on("a")).await;
    assert_eq!(created.header, theirs.header);
}

async fn enable_auth(endpoint: &str) {
    let client = etcd_client::Client::connect([endpoint], None).await;
    let mut auth: AuthClient = client.expect("a connection").auth_client();
    auth.user_add("root", "secret", None).await.expect("a user");
    auth.role_add("root").await.expect("a role");
    let granted = auth.user_grant_role("root", "root").await;
    granted.expect("the user has the role");
    auth.auth_enable().await.expect("authentication");
}

// When the cluster refuses what the proxy watches for its clients, the proxy keeps that to itself: they would wait for ever
// for events that nobody may be told of.
#[tokio::test]
async fn d06_a_refusal_of_the_cluster_is_passed_on() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let wire = Wire::to(etcd.endpoint()).await;
    let relay = Relay::before(&[wire.endpoint()]).await;
    let client = relay.connect().await;
    let mut earlier = client.watch();
    earlier.created(on("a")).await;
    enable_auth(etcd.endpoint()).await;
    let ours = client.watch().rejected(on("a")).await;
    let theirs = etcd.watch().rejected(on("a")).await;
    assert_eq!(ours.cancel_reason, theirs.cancel_reason);
    assert!(!ours.cancel_reason.is_empty());
    // What was watched before is still told of, here as there, until the relay has to ask again.
    wire.cut();
    wire.open();
    let (_, ended) = earlier.end().await;
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    client.watch().rejected(on("a")).await;
}
