//! Watches that are created in odd places, or faster than they get level.
//!
//! What each is owed is known from the answers to the writes.

use crate::support::pb::{WatchCreateRequest, WatchResponse};
use crate::support::requests::{on, on_everything, on_prefix, op_delete, op_put};
use crate::support::{Client, History, Peer, Validator, on_both_peers};
use futures_util::future::join_all;
use std::cell::Cell;

on_both_peers! {
    etcd_20655_watches_created_faster_than_they_get_level_miss_nothing
    etcd_20693_a_watch_from_minus_one_takes_nothing_from_the_others
}

const WRITERS: usize = 4;
const CREATORS: usize = 6;
/// Watches that one client creates, one right after the other.
const CREATED: usize = 25;
/// Watches that are open on a client's stream at once.
const AT_ONCE: usize = 5;

async fn write(client: Client, history: &History, created: &Cell<usize>, writer: usize) {
    // Writes as long as watches are created.
    for round in 0.. {
        let key = |number: usize| format!("k{}", (writer * 5 + round + number) % 10);
        match round % 4 {
            0 => {
                let ops = vec![op_put(key(0), "t"), op_delete(key(1), "")];
                history.txn(&client, ops).await;
            }
            1 => history.delete(&client, key(2), "").await,
            _ => {
                history
                    .put(&client, key(0), format!("{writer}-{round}"))
                    .await;
            }
        }
        if created.get() == CREATORS * CREATED {
            return;
        }
    }
}

type Log = (Vec<(i64, WatchCreateRequest)>, Vec<WatchResponse>);

/// Opens watches from a little behind to a little before the present, as fast as it can, and reads each batch of them up
/// to what was written by then.
async fn create(
    client: Client,
    history: &History,
    created: &Cell<usize>,
    creator: usize,
) -> Vec<Log> {
    let mut logs = Vec::new();
    for batch in 0..CREATED / AT_ONCE {
        let mut stream = client.watch();
        let mut creates = Vec::new();
        for number in 0..AT_ONCE {
            let offset = (creator * 31 + batch * 17 + number * 23) % 110;
            let offset = i64::try_from(offset).expect("small") - 100;
            let create = WatchCreateRequest {
                watch_id: i64::try_from(number).expect("small") + 1,
                start_revision: (history.acknowledged() + offset).max(1),
                prev_kv: number % 2 == 0,
                // Wide ones are scanned for, narrow ones are looked up, and some hear of little.
                ..match number % 3 {
                    0 => on_everything(),
                    1 => on("k3"),
                    _ => on_prefix("k0001"),
                }
            };
            stream.create(create.clone());
            creates.push((create.watch_id, create));
            created.set(created.get() + 1);
        }
        let starts = creates.iter().map(|(_, create)| create.start_revision);
        let last = starts.max().expect("some").max(history.acknowledged());
        logs.push((creates, stream.read_through(|| Some(last)).await));
    }
    logs
}

/// Watches that were created in quick succession, close to the present, dropped events. Here a watch would be level by
/// the word of a pass that had not read for it.
async fn etcd_20655_watches_created_faster_than_they_get_level_miss_nothing(peer: Peer) {
    let (client, history) = (peer.client(), History::default());
    history.puts(&client, "k", 120).await;
    let created = Cell::new(0);
    let writers = (0..WRITERS).map(|writer| write(client.clone(), &history, &created, writer));
    let creators = async {
        let mut clients = Vec::new();
        for _ in 0..CREATORS {
            clients.push(peer.connect().await);
        }
        let creating = clients.into_iter().enumerate();
        let (history, created) = (&history, &created);
        join_all(creating.map(|(creator, client)| create(client, history, created, creator))).await
    };
    // A start in the future is reached only while somebody writes.
    let extra = async {
        while created.get() < CREATORS * CREATED {
            tokio::task::yield_now().await;
        }
        for _ in 0..20 {
            history.put(&client, "extra", "1").await;
        }
    };
    let (_, logs, ()) = tokio::join!(join_all(writers), creators, extra);
    let replay = history.replay();
    for (creates, log) in logs.into_iter().flatten() {
        let mut validator = Validator::new(peer.kind(), &replay, creates);
        validator.check_all(&log).expect("nothing is missing");
        assert!(validator.progress_seen() > 0, "it was read through");
    }
}

/// On a store that was never compacted a watch from revision -1 was taken, and the read of history that it shared with
/// others came back empty: those were level without their events. Here it is refused, between watches that are behind.
async fn etcd_20693_a_watch_from_minus_one_takes_nothing_from_the_others(peer: Peer) {
    let (client, history) = (peer.client(), History::default());
    history.puts(&client, "k", 300).await;
    let late = |watch_id| WatchCreateRequest {
        watch_id,
        start_revision: 2,
        ..on_everything()
    };
    let mut stream = peer.watch();
    // All of them wait for the same pass.
    for watch_id in 1..=20 {
        stream.create(late(watch_id));
        stream.create(WatchCreateRequest {
            watch_id: 100 + watch_id,
            start_revision: -1,
            ..on_everything()
        });
    }
    let mut log = Vec::new();
    let mut refused = 0;
    let (mut answered, mut events) = (0, 0);
    while answered < 40 || events < 20 * 300 {
        let response = stream.next().await;
        answered += usize::from(response.created);
        events += response.events.len();
        if response.canceled {
            assert!(response.created && response.watch_id == -1, "{response:?}");
            assert_eq!(
                response.cancel_reason,
                "etcdserver: mvcc: required revision has been compacted"
            );
            refused += 1;
        } else {
            log.push(response);
        }
    }
    assert_eq!(refused, 20);
    let replay = history.replay();
    let creates = (1..=20).map(|watch_id| (watch_id, late(watch_id)));
    let mut validator = Validator::new(peer.kind(), &replay, creates);
    validator.check_all(&log).expect("everything");
    validator.complete(history.last()).expect("all of it");
}
