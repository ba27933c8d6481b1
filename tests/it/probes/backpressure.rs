//! Clients that do not read, and more to tell than one pass can: nobody else waits, and nobody is told twice.
//!
//! Nothing here measures time; that the others go on while one stalls is what is asked.

use crate::support::pb::{WatchCreateRequest, WatchResponse};
use crate::support::requests::on;
use crate::support::wait::within;
use crate::support::{History, Peer, PeerKind, Validator, WatchStream};
use bytes::Bytes;
use std::collections::BTreeMap;

/// More than etcd queues for a stream in responses, and far more than the connection takes in bytes.
const LARGE_EVENTS: usize = 140;
const EVENT_BYTES: usize = 1 << 20;

pub(super) async fn p46_a_stream_that_is_not_read_holds_up_nobody(peer: &Peer) {
    let history = History::default();
    let create = WatchCreateRequest {
        start_revision: 2,
        ..on("large")
    };
    let stalled_client = peer.connect().await;
    let (mut stalled, mut reader) = (stalled_client.watch(), peer.watch());
    let mut stalled_log = vec![stalled.created(create.clone()).await];
    let mut reader_log = vec![reader.created(create.clone()).await];
    let writer = peer.connect().await;
    for letter in (b'a'..=b'z').cycle().take(LARGE_EVENTS) {
        let value = Bytes::from(vec![letter; EVENT_BYTES]);
        let revision = history.put(&writer, "large", value).await;
        // The reader is level with the writer all the way.
        let response = reader.next_events().await;
        assert_eq!(response.events.len(), 1);
        let kv = response.events[0].kv.as_ref().expect("a key");
        assert_eq!(kv.mod_revision, revision);
        reader_log.push(response);
    }
    stalled_log.extend(stalled.events(LARGE_EVENTS).await);
    let replay = history.replay();
    for log in [stalled_log, reader_log] {
        let mut validator = Validator::new(peer.kind(), &replay, [(0, create.clone())]);
        validator.check_all(&log).expect("everything, in order");
        validator.complete(history.last()).expect("all of it");
    }
}

const COMPACTED: i64 = 600;

/// Asks for many watches below the compact revision, and counts what each is told until all were told.
async fn compacted(stream: &mut WatchStream, told: &mut BTreeMap<i64, usize>) {
    let before = told.len();
    let first = i64::try_from(before).expect("a count") + 1;
    for watch_id in first..first + COMPACTED {
        stream.create(WatchCreateRequest {
            watch_id,
            start_revision: 1,
            ..on("a")
        });
    }
    let wanted = before + usize::try_from(COMPACTED).expect("a count");
    while told.len() < wanted {
        count(&stream.next().await, told);
    }
}

fn count(response: &WatchResponse, told: &mut BTreeMap<i64, usize>) {
    if response.canceled {
        assert_eq!(response.compact_revision, 3, "{response:?}");
        *told.entry(response.watch_id).or_default() += 1;
    }
}

/// etcd takes 512 watches at a time for a pass and forgets to take the compacted ones off the list when there were more,
/// so that each pass tells them again (#22294).
pub(super) async fn p47_compacted_watches_are_told_once(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    for value in ["1", "2", "3"] {
        client.put("a", value).await;
    }
    client.compact(3).await.expect("a compaction");
    let mut told = BTreeMap::new();
    match peer.kind() {
        PeerKind::Vigil => {
            compacted(&mut stream, &mut told).await;
            // A live watch is told after them; a second telling would have come by then.
            stream.created(on("b")).await;
            client.put("b", "1").await;
            let response = stream.next().await;
            assert!(!response.events.is_empty(), "{response:?}");
            assert!(told.values().all(|count| *count == 1), "{told:?}");
        }
        PeerKind::Etcd => {
            let repeating = async {
                // It takes 512 that wait for the same pass, which is up to when the pass begins.
                while told.values().all(|count| *count == 1) {
                    compacted(&mut stream, &mut told).await;
                }
            };
            within("a watch is told twice", repeating).await;
        }
    }
}
