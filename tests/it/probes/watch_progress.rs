//! Progress: when it is told, what it promises, and what it must never pass.
//!
//! Answers are counted by what follows them on the stream, never by waiting.

use crate::support::pb::WatchCreateRequest;
use crate::support::requests::{on, on_everything, on_prefix, op_delete, op_put};
use crate::support::stream::{is_progress, revision_of, revisions_in};
use crate::support::wait::within;
use crate::support::{Client, History, Peer, PeerKind, Validator, WatchStream};
use futures_util::future::join_all;
use std::cell::Cell;

pub(super) async fn p23_progress_of_a_synced_stream_is_the_stores_revision(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    client.put("a", "1").await;
    stream.created(on("a")).await;
    stream.created(on("b")).await;
    let revision = client.put("elsewhere", "1").await;
    stream.progress();
    let progress = stream.next().await;
    assert!(is_progress(&progress), "{progress:?}");
    assert_eq!((progress.watch_id, revision_of(&progress)), (-1, revision));
    assert!(!progress.fragment && progress.cancel_reason.is_empty());
    assert_eq!(stream.fence().await, vec![]);
}

pub(super) async fn p24_progress_without_watches_is_not_answered(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    stream.progress();
    let id = stream.created(on("a")).await.watch_id;
    let revision = client.put("a", "1").await;
    assert_eq!(stream.next_events().await.watch_id, id);
    // Now it is answered, once: the early request was not kept.
    stream.progress();
    let progress = stream.next().await;
    assert_eq!((progress.watch_id, revision_of(&progress)), (-1, revision));
    client.put("a", "2").await;
    assert_eq!(stream.next_events().await.watch_id, id);
}

pub(super) async fn p25_progress_waits_for_watches_that_are_behind(peer: &Peer) {
    const BEHIND: i64 = 2500;
    let (client, history, mut stream) = (peer.client(), History::default(), peer.watch());
    history.puts(&client, "a/", BEHIND).await;
    let late = WatchCreateRequest {
        start_revision: 1,
        watch_id: 1,
        ..on_prefix("a/")
    };
    let live = WatchCreateRequest {
        watch_id: 2,
        ..on_prefix("b/")
    };
    stream.create(live.clone());
    stream.create(late.clone());
    stream.progress();
    let mut log = vec![stream.next().await, stream.next().await];
    assert!(log.iter().all(|response| response.created), "{log:?}");
    let mut seen = 0;
    while seen < BEHIND {
        let response = stream.next().await;
        seen += i64::try_from(response.events.len()).expect("a count");
        log.push(response);
    }
    // An answer that came among the events is caught by the judge. etcd drops the request, unless the watch has caught
    // up before it is read; Vigil keeps it and answers now.
    if peer.kind() == PeerKind::Vigil {
        let answer = stream.next().await;
        assert!(is_progress(&answer), "{answer:?}");
        assert_eq!(revision_of(&answer), history.last());
        log.push(answer);
    }
    history.put(&client, "b/1", "1").await;
    log.extend(stream.read_through(|| Some(history.last())).await);
    let replay = history.replay();
    let mut validator = Validator::new(peer.kind(), &replay, [(2, live), (1, late)]);
    validator
        .check_all(&log)
        .expect("progress after the events");
    validator.complete(history.last()).expect("all of it");
}

/// In etcd a watch that was compacted away counts as behind until its client cancels it, so nobody on its stream hears of
/// progress meanwhile. Vigil has forgotten it.
pub(super) async fn p52_a_watch_that_was_compacted_away_holds_up_no_progress(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    for value in ["1", "2", "3"] {
        client.put("a", value).await;
    }
    client.compact(3).await.expect("a compaction");
    stream.created(on("b")).await;
    let compacted = WatchCreateRequest {
        start_revision: 1,
        watch_id: 7,
        ..on("a")
    };
    stream.created(compacted).await;
    assert_eq!(stream.next().await.compact_revision, 3);
    if peer.kind() == PeerKind::Etcd {
        stream.progress();
        assert_eq!(stream.fence().await, vec![]);
        stream.cancel(7);
        let answer = stream.next().await;
        assert!(answer.canceled && answer.watch_id == 7, "{answer:?}");
    }
    stream.progress();
    let answer = stream.next().await;
    assert!(is_progress(&answer), "{answer:?}");
    assert_eq!((answer.watch_id, revision_of(&answer)), (-1, 4));
}

/// Ticks in which the busy watch gets an event each.
const BUSY_TICKS: usize = 6;

/// Of two watches that ask for periodic progress, one gets an event in every tick. The quiet one is told of progress each
/// time and so counts the ticks; the busy one is passed over, and without the rule it would be told as often. An event
/// and a tick can cross on the way, so once is tolerated, and the probe tries until it has seen it.
pub(super) async fn p26_an_event_takes_the_place_of_periodic_progress(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    let notified = |key: &'static str| WatchCreateRequest {
        progress_notify: true,
        ..on(key)
    };
    let quiet = stream.created(notified("quiet")).await.watch_id;
    let busy = stream.created(notified("busy")).await.watch_id;
    let trying = async {
        loop {
            let mut busy_told = 0;
            for _ in 0..BUSY_TICKS {
                let revision = client.put("busy", "1").await;
                let (mut event, mut tick) = (false, false);
                while !(event && tick) {
                    let response = stream.next().await;
                    if is_progress(&response) {
                        assert!(revision_of(&response) <= revision, "{response:?}");
                        busy_told += usize::from(response.watch_id == busy);
                        tick |= event && response.watch_id == quiet;
                    } else {
                        assert_eq!(revisions_in(&response), [revision]);
                        event = true;
                    }
                }
            }
            if busy_told <= 1 {
                return;
            }
        }
    };
    within("ticks that pass over the watch with events", trying).await;
    // With no more events it is told again.
    let told = async { while stream.next().await.watch_id != busy {} };
    within("progress of the watch that was busy", told).await;
}

/// Large enough that a stream that is not read fills up.
const VALUE_BYTES: usize = 8 << 10;

/// One of several writers: puts, deletes and transactions over few keys, so that events follow each other closely. After
/// each write it asks `asked` for progress.
async fn write(client: Client, history: &History, asked: &WatchStream, writer: usize) {
    for round in 0..60 {
        let key = |number: usize| format!("k{}", (writer * 7 + round + number) % 10);
        match round % 5 {
            0 => {
                let ops = vec![
                    op_put(key(0), "t"),
                    op_put(key(1), "t"),
                    op_delete(key(2), ""),
                ];
                history.txn(&client, ops).await;
            }
            1 => history.delete(&client, key(0), "").await,
            _ => {
                let value = format!("{writer}-{round:>VALUE_BYTES$}");
                history.put(&client, key(0), value).await;
            }
        }
        asked.progress();
    }
}

fn of_all_kinds() -> [WatchCreateRequest; 5] {
    [
        on_everything(),
        WatchCreateRequest {
            prev_kv: true,
            progress_notify: true,
            ..on_prefix("k")
        },
        WatchCreateRequest {
            filters: vec![0],
            ..on_everything()
        },
        WatchCreateRequest {
            start_revision: 1,
            fragment: true,
            ..on("k3")
        },
        WatchCreateRequest {
            start_revision: 40,
            prev_kv: true,
            ..on_everything()
        },
    ]
}

/// Two streams: one that is read all the while, and one that is asked for progress all the while and read only at the
/// end, so that its answers have every occasion to pass the events that wait for room.
pub(super) async fn p27_progress_never_overtakes_events(peer: &Peer) {
    let history = History::default();
    let other = peer.connect().await;
    let (mut read, mut asked) = (peer.watch(), other.watch());
    for create in of_all_kinds() {
        read.create(create.clone());
        asked.create(create);
    }
    let writing = Cell::new(true);
    let client = peer.client();
    let writers = async {
        let write = |writer| write(client.clone(), &history, &asked, writer);
        join_all((0..16).map(write)).await;
        writing.set(false);
    };
    let last = || (!writing.get()).then(|| history.last());
    let ((), read_log) = tokio::join!(writers, read.read_through(last));
    let asked_log = asked.read_through(|| Some(history.last())).await;
    let replay = history.replay();
    for log in [read_log, asked_log] {
        let mut validator = Validator::new(peer.kind(), &replay, (0..).zip(of_all_kinds()));
        validator
            .check_all(&log)
            .expect("what was written is what was told");
        validator.complete(history.last()).expect("all of it");
        assert!(validator.progress_seen() > 0, "progress was told");
    }
}
