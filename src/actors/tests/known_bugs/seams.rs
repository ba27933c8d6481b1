//! The seam between history and live events, where every store that watches has lost or repeated something: a write falls
//! at each step between a request for a watch and the moment when it is level.
//!
//! The steps are turns of the one thread that everything here runs on, so each run is the same.

use super::super::support::*;
use super::late;
use crate::actors::EngineLimits;
use crate::model::{KeyRange, RangeQuery, WatchSpec};
use std::collections::BTreeMap;
use tokio::task::yield_now;

/// More turns than a watch takes to get level.
const TURNS: usize = 60;
/// How many keys are written while a client sets its watch up.
const KEYS: usize = 12;

/// The ring that has everything and the one that has nothing: two ways from history to live.
fn both_ways() -> [EngineLimits; 2] {
    [EngineLimits::default(), late()]
}

async fn turns(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// The events since the requested revision were read, and then the watch was registered: what was written between was
/// lost. Here the group would take an entry back from Sync without what was committed since Sync read.
#[test]
fn xline_166_a_write_between_the_read_of_history_and_the_registration_is_told() {
    for limits in both_ways() {
        run(|| async move {
            let test = TestEngine::start(limits).await;
            for turn in 0..TURNS {
                let first = test.put("a", "0").await.0;
                for value in 1..5 {
                    test.put("a", &value.to_string()).await;
                }
                let write = async {
                    turns(turn).await;
                    test.put("a", "between").await
                };
                let watch = test.watch(everything_from(first), 16);
                let (watch, revision) = tokio::join!(watch, write);
                settle().await;
                assert_eq!(watch.revisions(), upto(first, revision.0), "turn {turn}");
            }
            test.finish().await;
        });
    }
}

/// A client that lists and then watches from there, while somebody writes a new key every few turns. Returns how often it
/// heard of each key, in the list or in an event.
async fn list_and_watch(test: &TestEngine, turn: usize) -> BTreeMap<String, usize> {
    let range = KeyRange::prefix(format!("{turn}/"));
    let write = async {
        turns(turn % 20).await;
        for number in 0..KEYS {
            test.put(&format!("{turn}/{number}"), "v").await;
            turns(turn % 3).await;
        }
    };
    let client = async {
        turns(7).await;
        let query = RangeQuery::latest(range.clone());
        let (revision, list) = test.engine.range(query).await.expect("a list");
        // The list is there, and the watch is not: the first seam.
        turns(turn % 7).await;
        let spec = WatchSpec::new(range.clone(), Some(revision.next()));
        (list, test.watch(spec, 16).await)
    };
    let ((), (list, watch)) = tokio::join!(write, client);
    settle().await;
    let mut heard: BTreeMap<String, usize> = BTreeMap::new();
    let listed = list.kvs.iter().map(|kv| kv.key.clone());
    let listed = listed.map(|key| String::from_utf8_lossy(&key).into_owned());
    for key in listed.chain(watch.events().into_iter().map(|seen| seen.key)) {
        *heard.entry(key).or_default() += 1;
    }
    heard
}

/// The watch was registered, and then the present state was sent: a key that was put between was told twice. Here an entry
/// would be in the roster and with Sync at once, or come back with a cursor behind what it was given.
#[test]
fn databend_18005_a_write_while_a_watch_is_set_up_is_not_told_twice() {
    for limits in both_ways() {
        run(|| async move {
            let test = TestEngine::start(limits).await;
            for turn in 0..TURNS {
                let heard = list_and_watch(&test, turn).await;
                let twice: Vec<_> = heard.iter().filter(|(_, times)| **times > 1).collect();
                assert!(twice.is_empty(), "turn {turn}: {twice:?}");
            }
            test.finish().await;
        });
    }
}

/// The other way round: between the read of the snapshot and the registration writes went on, and were lost. Here it would
/// be a registration that is judged against another revision than the group has handled.
#[test]
fn databend_18888_a_write_while_a_watch_is_set_up_is_not_lost() {
    for limits in both_ways() {
        run(|| async move {
            let test = TestEngine::start(limits).await;
            for turn in 0..TURNS {
                let heard = list_and_watch(&test, turn).await;
                assert_eq!(heard.len(), KEYS, "turn {turn}: {heard:?}");
            }
            test.finish().await;
        });
    }
}
