//! What etcd's own proxy gets wrong, each as a test of a relay in the same place.
//!
//! Each begins with what goes wrong there and how it would show here; what a watch is owed is known from what was written.

mod cluster_side;
mod life;

use crate::relay::raw::call;
use crate::support::pb::{WatchCreateRequest, WatchResponse};
use crate::support::requests::{on, on_prefix, prefix_end};
use crate::support::stream::{is_progress, revision_of, revisions_in};
use crate::support::{History, Http, Peer, PeerKind, Relay, Setup, Validator, WatchStream};
use bytes::Bytes;
use prost::Message;

/// From this size on a response is cut, if its watch has asked for it.
const CUT_BYTES: usize = 2 << 20;
/// Three of these fit into a message; four do not.
const LARGE_BYTES: usize = 600 << 10;

// A request for progress is logged by etcd's proxy and never answered: a client that waits for it here would wait for ever,
// or be told of less than the cluster had when it asked.
#[tokio::test]
async fn d01_progress_requests_are_answered() {
    let peer = Peer::relayed().await;
    let mut stream = peer.watch();
    stream.created(on("a")).await;
    for _ in 0..20 {
        // Nobody watches this.
        let put = peer.behind().client().put("b", "v").await;
        stream.progress();
        let response = stream.next().await;
        assert!(is_progress(&response), "{response:?}");
        assert_eq!((response.watch_id, revision_of(&response)), (-1, put));
    }
}

// The proxy numbers watches itself: a client that has chosen an id would be told of another.
#[tokio::test]
async fn d02_a_watch_has_the_id_that_its_client_chose() {
    let peer = Peer::relayed().await;
    let (mut one, mut other) = (peer.watch(), peer.watch());
    for stream in [&mut one, &mut other] {
        let chosen = WatchCreateRequest {
            watch_id: 77,
            ..on("a")
        };
        assert_eq!(stream.created(chosen.clone()).await.watch_id, 77);
        assert_eq!(stream.created(on("b")).await.watch_id, 0);
        stream.rejected(chosen).await;
    }
    peer.client().put("a", "v").await;
    for stream in [&mut one, &mut other] {
        assert_eq!(stream.next_events().await.watch_id, 77);
        stream.cancel(77);
        let canceled = stream.next().await;
        assert!(canceled.canceled && canceled.watch_id == 77);
    }
}

// The proxy ignores `fragment`: a response that is larger than the client takes would come in one piece.
#[tokio::test]
async fn d03_large_responses_come_in_fragments_to_those_who_ask() {
    let (peer, history) = (Peer::relayed().await, History::default());
    let client = peer.client();
    let value = Bytes::from(vec![b'v'; LARGE_BYTES]);
    for number in 0..4 {
        let key = format!("large/{number}");
        history.put(&client, key, value.clone()).await;
    }
    let create = |fragment| WatchCreateRequest {
        prev_kv: true,
        fragment,
        ..on_prefix("large/")
    };
    let mut logs = Vec::new();
    let (mut cut, mut whole) = (peer.watch(), peer.watch());
    let mut cut_log = vec![cut.created(create(true)).await];
    let mut whole_log = vec![whole.created(create(false)).await];
    // One revision, and a large one with the previous values.
    let end = prefix_end("large/");
    history.delete(&client, "large/", end).await;
    whole_log.extend(whole.events(4).await);
    assert_eq!(whole_log.len(), 2);
    assert!(whole_log[1].encoded_len() > CUT_BYTES && !whole_log[1].fragment);
    let fragments = cut.events(4).await;
    let (last, before) = fragments.split_last().expect("some");
    assert!(!last.fragment && !before.is_empty());
    assert!(before.iter().all(|fragment| fragment.fragment));
    assert!(fragments.iter().all(|it| it.encoded_len() < CUT_BYTES));
    cut_log.extend(fragments);
    logs.push((cut_log, create(true)));
    logs.push((whole_log, create(false)));
    for (log, create) in logs {
        holds(&history, &[create], &log);
    }
}

// The proxy loses why a watch was cancelled: a client would be told nothing, or something else than by the cluster.
#[tokio::test]
async fn d04_a_cancel_says_why() {
    let peer = Peer::relayed().await;
    let client = peer.client();
    for value in ["1", "2", "3"] {
        client.put("a", value).await;
    }
    client.compact(3).await.expect("a compaction");
    let chosen = WatchCreateRequest {
        watch_id: 5,
        ..on("a")
    };
    let empty = WatchCreateRequest {
        range_end: "a".into(),
        ..on("b")
    };
    let compacted = WatchCreateRequest {
        start_revision: 2,
        ..on("a")
    };
    let mut told = Vec::new();
    for mut stream in [peer.watch(), peer.behind().watch()] {
        stream.created(chosen.clone()).await;
        let mut all = vec![stream.rejected(chosen.clone()).await];
        all.push(stream.rejected(empty.clone()).await);
        stream.created(compacted.clone()).await;
        all.push(stream.next().await);
        stream.cancel(5);
        all.push(stream.next().await);
        assert!(all.iter().all(|response| response.canceled), "{all:?}");
        assert!(all.iter().any(|response| response.compact_revision == 3));
        told.push(all);
    }
    let behind = told.pop().expect("two");
    for (ours, theirs) in told.pop().expect("two").into_iter().zip(behind) {
        assert_eq!(ours.cancel_reason, theirs.cancel_reason);
        assert_eq!(ours.watch_id, theirs.watch_id);
        assert_eq!(ours.created, theirs.created);
        assert_eq!(ours.compact_revision, theirs.compact_revision);
    }
}

// The proxy makes up a `created` without cluster and member: a client that checks whom it speaks to would give up.
#[tokio::test]
async fn d05_created_names_the_cluster_and_the_member() {
    let peer = Peer::relayed().await;
    let behind = peer.behind().client();
    for number in 0..5 {
        behind.put("a", "v").await;
        let key = format!("key/{number}");
        let ours = peer.watch().created(on(key.clone())).await;
        let theirs = peer.behind().watch().created(on(key)).await;
        assert_eq!(ours.header, theirs.header);
        let header = ours.header.expect("a header");
        assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);
    }
}

// A watch from now on joins an earlier one of the proxy: it could be told of what had happened before it was asked for.
#[tokio::test]
async fn d09_a_watch_from_now_on_is_told_of_nothing_before() {
    let peer = Peer::relayed().await;
    let behind = peer.behind().client();
    let mut earlier = peer.watch();
    earlier.created(on("a")).await;
    for _ in 0..20 {
        let before = behind.put("a", "before").await;
        let mut stream = peer.watch();
        let created = stream.created(on("a")).await;
        assert_eq!(revision_of(&created), before);
        let after = behind.put("a", "after").await;
        assert_eq!(revisions_in(&stream.next_events().await), [after]);
    }
    earlier.events(40).await;
}

// The proxy takes the header of a part of a catch-up for its position: watches that are merged meanwhile would miss events,
// or be told of progress that goes back.
#[tokio::test]
async fn d10_watches_that_catch_up_at_different_places_lose_nothing() {
    let (peer, history) = (Peer::relayed().await, History::default());
    let behind = peer.behind().connect().await;
    history.puts(&behind, "/a/", 3000).await;
    let create = |start_revision, prefix| WatchCreateRequest {
        start_revision,
        ..on_prefix(prefix)
    };
    let creates = [
        create(0, "/a/"),
        create(1, "/a/0000"),
        create(2900, "/"),
        create(1500, "/a/"),
        create(2, "/a/00002"),
    ];
    let writing = async {
        for number in 0..500 {
            history
                .put(&behind, format!("/a/{number:06}"), "again")
                .await;
        }
    };
    let reading = async {
        let mut streams = Vec::new();
        for create in &creates {
            let client = peer.connect().await;
            let mut stream = client.watch();
            let log = vec![stream.created(create.clone()).await];
            streams.push((stream, log));
        }
        streams
    };
    let ((), mut streams) = tokio::join!(writing, reading);
    for (create, (stream, log)) in creates.iter().zip(&mut streams) {
        log.extend(stream.read_through(|| Some(history.last())).await);
        holds(&history, std::slice::from_ref(create), log);
    }
}

// The proxy ends a stream whose client does not read for 50 ms: a slow client would lose its stream, or others theirs.
#[tokio::test]
async fn d11_a_slow_receiver_keeps_its_stream_and_holds_up_nobody() {
    let (peer, history) = (Peer::relayed().await, History::default());
    let (slow_client, writer) = (peer.connect().await, peer.connect().await);
    let (mut slow, mut reader): (WatchStream, WatchStream) = (slow_client.watch(), peer.watch());
    let mut slow_log = vec![slow.created(on_prefix("k")).await];
    let mut reader_log = vec![reader.created(on_prefix("k")).await];
    // More than connections and the outbox take, twice, so that it becomes a victim and comes back.
    for _ in 0..2 {
        for number in 0..40 {
            let value = Bytes::from(vec![b'v'; 1 << 20]);
            let put = history.put(&writer, format!("k{number}"), value).await;
            let response = reader.next_events().await;
            assert_eq!(revisions_in(&response), [put]);
            reader_log.push(response);
        }
        slow_log.extend(slow.read_through(|| Some(history.last())).await);
    }
    for log in [slow_log, reader_log] {
        holds(&history, &[on_prefix("k")], &log);
    }
}

// The proxy has a bound of its own on requests, and lacks calls that its cluster knows: what the cluster takes would be
// refused, and be told of by no watch.
#[tokio::test]
async fn d16_the_bounds_and_the_calls_are_those_of_the_cluster() {
    let setup = Setup::new(PeerKind::Etcd).flag("--max-request-bytes", "8388608");
    let etcd = setup.start().await;
    let relay = Relay::before(&[etcd.endpoint()]).await;
    let client = relay.connect().await;
    let mut stream = client.watch();
    stream.created(on("large")).await;
    let put = client.put("large", vec![b'v'; 6 << 20]).await;
    assert_eq!(revisions_in(&stream.next_events().await), [put]);
    // Zeros as base64.
    let large = "AAAA".repeat(2 << 20);
    let json = format!("{{\"key\":\"bGFyZ2U=\",\"value\":\"{large}\"}}");
    let answer = Http::at(relay.endpoint()).post("/v3/kv/put", &json).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(revisions_in(&stream.next_events().await), [put + 1]);
    for (path, message) in [
        ("/etcdserverpb.KV/RangeStream", b"\x0a\x01a".to_vec()),
        ("/etcdserverpb.Cluster/MemberPromote", b"\x08\x01".to_vec()),
        ("/etcdserverpb.KV/Put", large_put((8 << 20) + 1000)),
        ("/etcdserverpb.KV/Put", large_put(9 << 20)),
        ("/etcdserverpb.KV/Put", large_put(40 << 20)),
    ] {
        let ours = call(client.channel(), path, message.clone()).await;
        let theirs = call(etcd.client().channel(), path, message).await;
        assert!(theirs.is_err());
        assert_eq!(ours, theirs, "{path}");
    }
}

fn large_put(bytes: usize) -> Vec<u8> {
    let put = crate::support::pb::PutRequest {
        key: "a".into(),
        value: vec![b'v'; bytes].into(),
        ..Default::default()
    };
    put.encode_to_vec()
}

/// These watches of one stream, which count from 0, were told everything, once and in order.
fn holds(history: &History, creates: &[WatchCreateRequest], log: &[WatchResponse]) {
    let replay = history.replay();
    let creates = (0..).zip(creates.iter().cloned());
    let mut validator = Validator::new(PeerKind::Vigil, &replay, creates);
    validator.check_all(log).expect("in order, and once");
    validator.complete(history.last()).expect("all of it");
}
