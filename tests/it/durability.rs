//! What was acknowledged is there after a crash, and history goes on where it was.
//!
//! A crash here is SIGKILL: what the process had not yet given to the system is lost. Power cuts are not simulated.

use crate::support::mvccpb::Event;
use crate::support::pb::{
    PutRequest, RangeRequest, RangeResponse, WatchCreateRequest, WatchResponse,
};
use crate::support::requests::{get_prefix, on_everything, op_delete, op_put, prefix_end};
use crate::support::{Change, Client, History, Peer, Validator, on_both_peers, within};
use bytes::Bytes;
use futures_util::future::join_all;
use std::cell::Cell;
use std::collections::BTreeMap;
use tonic::Code;

on_both_peers! {
    every_acknowledged_put_survives_a_kill
    a_restart_serves_the_same_keys_and_revisions
    a_watch_goes_on_after_a_restart_where_it_was
}

const WRITERS: usize = 8;
const ROUNDS: usize = 3;
/// Acknowledgements in a round before the kill.
const ACKNOWLEDGED: usize = 300;

/// Puts until the server is gone, and returns the one put whose fate is not known.
async fn write_until_killed(
    client: Client,
    history: &History,
    acknowledged: &Cell<usize>,
    writer: usize,
    round: usize,
) -> (Bytes, Bytes) {
    for number in 0.. {
        let key = Bytes::from(format!("w{writer}/{}", number % 5));
        let value = Bytes::from(format!("{round}-{number}"));
        let request = PutRequest {
            key: key.clone(),
            value: value.clone(),
            ..PutRequest::default()
        };
        let Ok(answer) = client.try_put(request).await else {
            return (key, value);
        };
        let revision = answer.header.expect("a header").revision;
        history.record(revision, vec![Change::Put { key, value }]);
        acknowledged.set(acknowledged.get() + 1);
    }
    unreachable!("the writers are stopped by the kill");
}

/// All events there are, from the first revision to now.
async fn everything(peer: &Peer) -> (WatchCreateRequest, Vec<WatchResponse>) {
    let revision = peer.client().revision().await;
    let create = WatchCreateRequest {
        start_revision: 1,
        ..on_everything()
    };
    let mut stream = peer.watch();
    let mut log = vec![stream.created(create.clone()).await];
    log.extend(stream.read_through(|| Some(revision)).await);
    (create, log)
}

/// A put that was under way at the kill may have been made. What the events say of it has to be what was asked.
fn settle(history: &History, unknown: &[(Bytes, Bytes)], log: &[WatchResponse]) {
    let known = history.revisions();
    let mut unknown: BTreeMap<&Bytes, &Bytes> =
        unknown.iter().map(|(key, value)| (key, value)).collect();
    for event in log.iter().flat_map(|response| &response.events) {
        let kv = event.kv.as_ref().expect("a key");
        if known.contains(&kv.mod_revision) {
            continue;
        }
        let asked = unknown.remove(&kv.key);
        assert_eq!(asked, Some(&kv.value), "nobody has put this: {event:?}");
        let (key, value) = (kv.key.clone(), kv.value.clone());
        history.record(kv.mod_revision, vec![Change::Put { key, value }]);
    }
}

async fn every_acknowledged_put_survives_a_kill(mut peer: Peer) {
    let history = History::default();
    for round in 0..ROUNDS {
        let acknowledged = Cell::new(0);
        let mut clients = Vec::new();
        for _ in 0..WRITERS {
            clients.push(peer.connect().await);
        }
        let writers = clients.into_iter().enumerate().map(|(writer, client)| {
            write_until_killed(client, &history, &acknowledged, writer, round)
        });
        let kill = async {
            while acknowledged.get() < ACKNOWLEDGED {
                tokio::task::yield_now().await;
            }
            peer.process().kill();
        };
        let (unknown, ()) = within("a load and a kill", async {
            tokio::join!(join_all(writers), kill)
        })
        .await;
        peer.restart().await;
        let (create, log) = everything(&peer).await;
        settle(&history, &unknown, &log);
        // `replay` finds a hole in the revisions, `Validator` anything that was lost, repeated or changed.
        let replay = history.replay();
        let mut validator = Validator::new(peer.kind(), &replay, [(0, create)]);
        validator
            .check_all(&log)
            .expect("what was acknowledged is there");
        validator.complete(history.last()).expect("all of it");
        assert_eq!(peer.client().revision().await, history.last());
        same_keys(&replay.events, &peer.client()).await;
    }
    let next = peer.client().put("after", "1").await;
    assert_eq!(next, history.last() + 1, "no revision is skipped");
}

/// The keys that are served are those that the history leaves.
async fn same_keys(events: &[Event], client: &Client) {
    let mut live = BTreeMap::new();
    for kv in events.iter().filter_map(|event| event.kv.clone()) {
        live.insert(kv.key.clone(), kv);
    }
    let answer = client.range(get_prefix("w")).await.expect("a range");
    let expected: Vec<_> = live.into_values().collect();
    assert_eq!(answer.kvs, expected);
}

/// What is answered at each revision that can be asked for, without what changes with each start.
async fn picture(client: &Client, revisions: std::ops::RangeInclusive<i64>) -> Vec<RangeResponse> {
    let mut answers = Vec::new();
    for revision in revisions {
        let request = RangeRequest {
            revision,
            ..get_prefix("k")
        };
        let mut answer = client.range(request).await.expect("a range");
        if let Some(header) = &mut answer.header {
            header.raft_term = 0;
        }
        answers.push(answer);
    }
    answers
}

async fn a_restart_serves_the_same_keys_and_revisions(mut peer: Peer) {
    let client = peer.client();
    for value in ["1", "2", "3"] {
        client.put("k1", value).await;
        client.put("k2", value).await;
    }
    client.delete("k1", "").await;
    let history = History::default();
    let ops = vec![
        op_put("k3", "a"),
        op_put("k1", "b"),
        op_delete("k2", prefix_end("k2")),
    ];
    let last = history.txn(&client, ops).await;
    client.put("k3", Bytes::from(vec![b'x'; 1 << 20])).await;
    client.compact(4).await.expect("a compaction");
    let before = picture(&client, 4..=last + 1).await;
    for graceful in [false, true] {
        if graceful {
            peer.terminate().await;
        }
        peer.restart().await;
        let client = peer.client();
        assert_eq!(picture(&client, 4..=last + 1).await, before);
        let compacted = RangeRequest {
            revision: 3,
            ..get_prefix("k")
        };
        let refused = client
            .range(compacted)
            .await
            .expect_err("it stays compacted");
        assert_eq!(refused.code(), Code::OutOfRange);
        assert!(client.compact(4).await.is_err(), "it stays compacted");
    }
    let client = peer.client();
    assert_eq!(client.put("k4", "1").await, last + 2, "revisions go on");
    client.put("k3", "b").await;
    let kvs = client.range(get_prefix("k3")).await.expect("a range").kvs;
    assert_eq!(
        (kvs[0].version, kvs[0].create_revision),
        (3, last),
        "versions go on"
    );
}

/// A client that resumes by revision on the new process sees everything once, also what came while it was away.
async fn a_watch_goes_on_after_a_restart_where_it_was(mut peer: Peer) {
    let history = History::default();
    history.puts(&peer.client(), "a/", 300).await;
    let mut seen = Vec::new();
    let mut start_revision = 1;
    for round in 0..3 {
        let create = WatchCreateRequest {
            start_revision,
            ..on_everything()
        };
        let mut stream = peer.watch();
        let mut log = vec![stream.created(create.clone()).await];
        // Only part of what there is, so that the rest has to come from the next process.
        let enough = history.last() - 100;
        while start_revision <= enough {
            let response = stream.next_events().await;
            let last = response.events.last().and_then(|event| event.kv.as_ref());
            start_revision = last.expect("a key").mod_revision + 1;
            log.push(response);
        }
        seen.push((create, log));
        peer.restart().await;
        history
            .puts(&peer.client(), &format!("b{round}/"), 150)
            .await;
    }
    let create = WatchCreateRequest {
        start_revision,
        ..on_everything()
    };
    let mut stream = peer.watch();
    let mut log = vec![stream.created(create.clone()).await];
    log.extend(stream.read_through(|| Some(history.last())).await);
    seen.push((create, log));
    let replay = history.replay();
    let mut events = 0;
    for (create, log) in seen {
        let mut validator = Validator::new(peer.kind(), &replay, [(0, create)]);
        validator
            .check_all(&log)
            .expect("each part follows its start");
        events += log
            .iter()
            .map(|response| response.events.len())
            .sum::<usize>();
    }
    assert_eq!(events, replay.events.len(), "everything, once");
}
