//! Watches that begin in the past or in the future, and what the events they get look like.
//!
//! Content is held against a history made from the answers to the writes.

use crate::support::mvccpb::event::EventType;
use crate::support::pb::{WatchCreateRequest, WatchResponse};
use crate::support::requests::{on, on_everything, on_prefix, op_delete, op_put, prefix_end};
use crate::support::stream::{is_progress, revision_of, revisions_in};
use crate::support::{History, Peer, PeerKind, Validator};

fn from(start_revision: i64, create: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest {
        start_revision,
        ..create
    }
}

/// Judges the log of a stream with one watch, id 0, which has to have been told of everything.
fn judge(peer: &Peer, history: &History, create: WatchCreateRequest, log: &[WatchResponse]) {
    let replay = history.replay();
    let mut validator = Validator::new(peer.kind(), &replay, [(0, create)]);
    validator
        .check_all(log)
        .expect("what was written is what was told");
    validator.complete(history.last()).expect("all of it");
}

pub(super) async fn p13_a_watch_from_revision_one_sees_everything(peer: &Peer) {
    let (client, history, mut stream) = (peer.client(), History::default(), peer.watch());
    history.put(&client, "b", "1").await;
    history.put(&client, "a", "2").await;
    history.delete(&client, "b", "").await;
    history.put(&client, "b", "3").await;
    let create = from(1, on_everything());
    let mut log = vec![stream.created(create.clone()).await];
    log.extend(stream.events(4).await);
    judge(peer, &history, create, &log);
}

/// A regression of etcd's up to 3.5.17: the delete was dropped by the compaction.
pub(super) async fn p14_a_delete_at_the_compact_revision_is_still_told(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    client.put("a", "1").await;
    client.delete("a", "").await;
    client.compact(3).await.expect("a compaction");
    stream.created(from(3, on("a"))).await;
    let response = stream.next_events().await;
    assert_eq!(revisions_in(&response), [3]);
    let event = &response.events[0];
    assert_eq!(event.r#type, EventType::Delete as i32);
    let kv = event.kv.clone().expect("a key");
    assert_eq!((kv.key.as_ref(), kv.value.as_ref()), (&b"a"[..], &b""[..]));
    assert_eq!((kv.create_revision, kv.version, kv.lease), (0, 0, 0));
}

pub(super) async fn p15_a_start_below_the_compact_revision_is_created_and_then_cancelled(
    peer: &Peer,
) {
    let (client, mut stream) = (peer.client(), peer.watch());
    for value in ["1", "2", "3", "4"] {
        client.put("a", value).await;
    }
    client.compact(4).await.expect("a compaction");
    let create = WatchCreateRequest {
        watch_id: 7,
        ..from(3, on("a"))
    };
    let created = stream.created(create.clone()).await;
    assert_eq!((created.watch_id, revision_of(&created)), (7, 5));
    let compacted = stream.next().await;
    assert!(compacted.canceled && !compacted.created && compacted.events.is_empty());
    assert_eq!((compacted.watch_id, compacted.compact_revision), (7, 4));
    assert_eq!(compacted.cancel_reason, "");
    assert_eq!(
        revision_of(&compacted),
        0,
        "the one response without a revision"
    );
    // etcd keeps the id until the client cancels, and answers that. In Vigil the watch is over: the id is free at once,
    // and a cancel, which common clients send all the same, finds nothing.
    match peer.kind() {
        PeerKind::Etcd => {
            stream.rejected(create).await;
            stream.cancel(7);
            let answer = stream.next().await;
            assert!(answer.canceled && answer.watch_id == 7, "{answer:?}");
        }
        PeerKind::Vigil => {
            stream.cancel(7);
            assert_eq!(stream.fence().await, vec![]);
        }
    }
    let again = WatchCreateRequest {
        watch_id: 7,
        ..from(4, on("a"))
    };
    stream.created(again).await;
    assert_eq!(revisions_in(&stream.next_events().await), [4, 5]);
}

pub(super) async fn p16_a_watch_of_the_future_is_silent_until_then(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    let now = client.put("a", "0").await;
    let created = stream.created(from(now + 5, on("a"))).await;
    assert_eq!(revision_of(&created), now);
    stream.progress();
    for value in ["1", "2", "3", "4", "5"] {
        client.put("a", value).await;
    }
    // Neither the four events before the start nor an answer to the request come first.
    let first = stream.next_events().await;
    assert_eq!(revisions_in(&first), [now + 5]);
    // A request that cannot be answered yet is dropped by etcd; Vigil answers it once it can.
    if peer.kind() == PeerKind::Vigil {
        let late = stream.next().await;
        assert!(is_progress(&late), "{late:?}");
        assert_eq!((late.watch_id, revision_of(&late)), (-1, now + 5));
    }
    stream.progress();
    let answer = stream.next().await;
    assert!(is_progress(&answer), "{answer:?}");
    assert_eq!((answer.watch_id, revision_of(&answer)), (-1, now + 5));
    // No second answer: progress and events share a queue, so it would be here by now.
    client.put("a", "6").await;
    assert_eq!(revisions_in(&stream.next_events().await), [now + 6]);
}

pub(super) async fn p17_a_long_backlog_comes_in_batches_of_whole_revisions(peer: &Peer) {
    const REVISIONS: i64 = 2500;
    let (client, history, mut stream) = (peer.client(), History::default(), peer.watch());
    history.puts(&client, "a/", REVISIONS - 50).await;
    for round in 0..50 {
        let ops = ["x", "y", "z"].map(|key| op_put(format!("a/{key}"), format!("{round}")));
        history.txn(&client, ops.to_vec()).await;
    }
    let current = history.last();
    let create = from(1, on_prefix("a/"));
    let mut log = vec![stream.created(create.clone()).await];
    let batches = stream.events(2600).await;
    for batch in &batches {
        let mut revisions = revisions_in(batch);
        let last = *revisions.last().expect("events");
        revisions.dedup();
        assert!(
            revisions.len() <= 1000,
            "{} revisions at once",
            revisions.len()
        );
        // etcd says how far the store is, Vigil how far this watch is, so that who trusts headers loses nothing.
        let header = match peer.kind() {
            PeerKind::Etcd => current,
            PeerKind::Vigil => last,
        };
        assert_eq!(revision_of(batch), header);
    }
    assert!(batches.len() >= 3, "{} batches", batches.len());
    log.extend(batches);
    judge(peer, &history, create, &log);
}

pub(super) async fn p18_a_transaction_is_one_response_in_the_order_of_its_operations(peer: &Peer) {
    let (client, history, mut stream) = (peer.client(), History::default(), peer.watch());
    history.put(&client, "d/2", "old").await;
    history.put(&client, "d/1", "old").await;
    let create = from(history.last() + 1, on_everything());
    let mut log = vec![stream.created(create.clone()).await];
    let ops = vec![
        op_put("c", "1"),
        op_put("a", "2"),
        op_delete("d/", prefix_end("d/")),
        op_put("b", "3"),
    ];
    let revision = history.txn(&client, ops).await;
    let response = stream.next_events().await;
    let keys: Vec<_> = response
        .events
        .iter()
        .map(|event| event.kv.as_ref().expect("a key").key.clone())
        .collect();
    assert_eq!(keys, ["c", "a", "d/1", "d/2", "b"]);
    assert_eq!(revisions_in(&response), [revision; 5]);
    log.push(response);
    judge(peer, &history, create, &log);
}

pub(super) async fn p19_a_delete_of_nothing_is_no_revision_and_no_event(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    let before = client.put("a", "1").await;
    stream.created(on_everything()).await;
    let answer = client.delete("b", "z").await;
    assert_eq!(answer.deleted, 0);
    assert_eq!(answer.header.expect("a header").revision, before);
    let after = client.put("a", "2").await;
    assert_eq!(after, before + 1);
    assert_eq!(revisions_in(&stream.next_events().await), [after]);
}

pub(super) async fn p20_a_put_of_the_same_value_is_an_event(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    stream.created(on("a")).await;
    for version in 1..=3 {
        let revision = client.put("a", "same").await;
        let response = stream.next_events().await;
        let kv = response.events[0].kv.clone().expect("a key");
        assert_eq!((kv.mod_revision, kv.version), (revision, version));
        assert_eq!((kv.create_revision, kv.value.as_ref()), (2, &b"same"[..]));
    }
}

pub(super) async fn p21_updates_and_deletes_carry_the_previous_value(peer: &Peer) {
    let (client, history) = (peer.client(), History::default());
    let asking = |start| WatchCreateRequest {
        prev_kv: true,
        ..from(start, on_everything())
    };
    let (mut live, mut late) = (peer.watch(), peer.watch());
    let mut live_log = vec![live.created(asking(2)).await];
    history.put(&client, "a", "1").await;
    history.put(&client, "a", "2").await;
    history.delete(&client, "a", "").await;
    history.put(&client, "a", "3").await;
    let ops = vec![op_put("a", "4"), op_put("b", "5")];
    history.txn(&client, ops).await;
    live_log.extend(live.events(6).await);
    judge(peer, &history, asking(2), &live_log);
    let previous: Vec<_> = live_log
        .iter()
        .flat_map(|response| &response.events)
        .map(|event| event.prev_kv.as_ref().map(|kv| kv.value.clone()))
        .collect();
    let value = |text: &'static str| Some(text.into());
    assert_eq!(
        previous,
        [None, value("1"), value("2"), None, value("3"), None]
    );
    // The same from history.
    let mut late_log = vec![late.created(asking(1)).await];
    late_log.extend(late.events(6).await);
    judge(peer, &history, asking(1), &late_log);
}

pub(super) async fn p22_a_compacted_previous_value_is_absent(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    for value in ["1", "2", "3"] {
        client.put("a", value).await;
    }
    client.compact(3).await.expect("a compaction");
    let create = WatchCreateRequest {
        prev_kv: true,
        ..from(3, on("a"))
    };
    stream.created(create).await;
    let responses = stream.events(2).await;
    let previous: Vec<Option<i64>> = responses
        .iter()
        .flat_map(|response| &response.events)
        .map(|event| event.prev_kv.as_ref().map(|kv| kv.mod_revision))
        .collect();
    assert_eq!(previous, [None, Some(3)]);
}
