//! Compactions that took an event from a watch that was owed it.
//!
//! What was written is known from the answers to the writes; a watch is owed all of it, or a cancel.

use crate::support::mvccpb::event::EventType;
use crate::support::pb::{CompactionRequest, WatchCreateRequest, WatchResponse};
use crate::support::requests::{on, on_everything, on_prefix};
use crate::support::stream::revisions_in;
use crate::support::wait::within;
use crate::support::{Client, History, Peer, Validator, on_both_peers};
use bytes::Bytes;
use std::collections::BTreeSet;

on_both_peers! {
    etcd_17529_hundreds_of_watches_on_a_stalled_stream_are_told_all_or_cancelled
    etcd_18089_a_compaction_at_a_delete_leaves_the_delete_to_watches
    etcd_19179_a_delete_at_the_compact_revision_is_told_after_a_crash
}

/// Watches on the one stream, as many as there were in the report.
const WATCHES: i64 = 200;
const REVISIONS: usize = 300;
const VALUE_BYTES: usize = 16 << 10;

/// A watch that was behind on a full stream, with its next revision compacted, went on behind the gap. Here the client
/// stops reading, a compaction overtakes most of what it is owed, and then it reads all there is.
async fn etcd_17529_hundreds_of_watches_on_a_stalled_stream_are_told_all_or_cancelled(peer: Peer) {
    let (client, history) = (peer.client(), History::default());
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let stalled = peer.connect().await;
    let mut stream = stalled.watch();
    let create = |watch_id| WatchCreateRequest {
        watch_id,
        start_revision: 2,
        prev_kv: watch_id % 2 == 0,
        ..on_prefix("pods/")
    };
    for watch_id in 1..=WATCHES {
        stream.create(create(watch_id));
    }
    for number in 0..REVISIONS {
        let key = format!("pods/{}", number % 40);
        if number % 5 == 4 {
            history.delete(&client, key, "").await;
        } else {
            history.put(&client, key, value.clone()).await;
        }
    }
    history.compact(&client, history.last() - 20).await;
    history.put(&client, "pods/last", "1").await;
    let log = within("everything or a cancel", read_all(&mut stream, &history)).await;
    let replay = history.replay();
    let creates = (1..=WATCHES).map(|watch_id| (watch_id, create(watch_id)));
    let mut validator = Validator::new(peer.kind(), &replay, creates);
    validator.check_all(&log).expect("no gap");
    validator.complete(history.last()).expect("all or a cancel");
    assert!(
        log.iter().any(|response| response.compact_revision != 0),
        "the compaction has overtaken somebody"
    );
}

/// Reads until each of the watches was told the last revision, or that it is over.
async fn read_all(
    stream: &mut crate::support::WatchStream,
    history: &History,
) -> Vec<WatchResponse> {
    let mut log = Vec::new();
    let mut open: BTreeSet<i64> = (1..=WATCHES).collect();
    while !open.is_empty() {
        let response = stream.next().await;
        if response.canceled || revisions_in(&response).last() == Some(&history.last()) {
            open.remove(&response.watch_id);
        }
        log.push(response);
    }
    log
}

/// Compacts, and returns when what is compacted is gone.
async fn compact_physically(client: &Client, revision: i64) {
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    let mut kv = crate::support::pb::kv_client::KvClient::new(client.channel());
    let compacted = within("a compaction", kv.compact(request)).await;
    compacted.expect("compacted");
}

/// The deletes that a watch is told, with what else it is told.
async fn told_from(
    peer: &Peer,
    create: WatchCreateRequest,
    start_revision: i64,
) -> Vec<(i64, bool)> {
    let last = peer.client().revision().await;
    let mut stream = peer.watch();
    stream.create(WatchCreateRequest {
        start_revision,
        ..create
    });
    let responses = stream.read_through(|| Some(last)).await;
    assert!(
        responses.iter().all(|response| !response.canceled),
        "the compact revision itself can be watched from: {responses:?}"
    );
    let events = responses.iter().flat_map(|response| &response.events);
    events
        .map(|event| {
            let kv = event.kv.as_ref().expect("a key");
            let is_delete = event.r#type == i32::from(EventType::Delete);
            (kv.mod_revision, is_delete)
        })
        .collect()
}

/// The tombstone of a key whose last change is a delete went with a compaction at exactly that revision, and a watch from
/// there was never told. Here nothing is left in memory either: the server is started anew.
async fn etcd_18089_a_compaction_at_a_delete_leaves_the_delete_to_watches(mut peer: Peer) {
    let client = peer.client();
    client.put("a", "1").await;
    client.put("b", "1").await;
    let deleted = client.delete("a", "").await;
    let deleted = deleted.header.expect("a header").revision;
    let after = client.put("b", "2").await;
    compact_physically(&client, deleted).await;
    for _ in 0..2 {
        let both = vec![(deleted, true), (after, false)];
        assert_eq!(told_from(&peer, on_everything(), deleted).await, both);
        assert_eq!(told_from(&peer, on("a"), deleted).await, both[..1]);
        assert_eq!(told_from(&peer, on_prefix("a"), deleted).await, both[..1]);
        peer.restart().await;
    }
}

/// A compaction at a delete was cut off by a crash before it was marked as finished; the restart did it again and took
/// the delete away, so that a watch from there began with the next. Here the kill follows the answer at once, round after
/// round.
async fn etcd_19179_a_delete_at_the_compact_revision_is_told_after_a_crash(mut peer: Peer) {
    for round in 0..4 {
        let client = peer.client();
        for number in 0..60 {
            client.put(format!("pods/{number}"), "v").await;
        }
        let mut deletes = Vec::new();
        for number in 0..60 {
            let answer = client.delete(format!("pods/{number}"), "").await;
            deletes.push((answer.header.expect("a header").revision, true));
        }
        let at = 10 * (round + 1);
        client.compact(deletes[at].0).await.expect("compacted");
        peer.restart().await;
        let told = told_from(&peer, on_prefix("pods/"), deletes[at].0).await;
        assert_eq!(told, deletes[at..], "round {round}");
    }
}
