//! Every actor is killed once on purpose, and the table of `supervision.rs` holds: rule P6.

use super::support::*;
use crate::actors::lease::Lease;
use crate::actors::store::Store;
use crate::actors::sync::Sync;
use crate::actors::victim_retry::VictimRetry;
use crate::actors::watcher::Watcher;
use crate::actors::watcher_group::WatcherGroup;
use crate::actors::{EngineError, EngineLimits, StreamEnd, WatchStream};
use crate::model::{KeyRange, WatchId};
use actix::{Handler, Message};
use std::sync::Arc;

/// Kills the actor that handles it.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Poison;

macro_rules! dies_of_poison {
    ($($actor:ty),*) => {$(
        impl Handler<Poison> for $actor {
            type Result = ();

            fn handle(&mut self, _poison: Poison, _ctx: &mut Self::Context) {
                // Without a word: a simulation kills often.
                std::panic::resume_unwind(Box::new("killed on purpose"));
            }
        }
    )*};
}

dies_of_poison!(Store, WatcherGroup, Sync, VictimRetry, Watcher, Lease);

/// What the clients of a worker see when one of the three actors of its watch side dies.
async fn the_watch_side_starts_again(kill: impl FnOnce(&TestEngine)) {
    let test = TestEngine::start(EngineLimits::default()).await;
    let mut before = test.stream();
    before.create(create(KeyRange::everything(), 0)).await;
    let own = test.watch(everything_from(0), 16).await;
    test.put("a", "1").await;
    settle().await;
    kill(&test);
    settle().await;
    let responses = before.drain().await;
    let end = Response::End(StreamEnd::Unavailable("the watch side has failed"));
    assert_eq!(responses.last(), Some(&end), "clients resume by revision");
    assert_eq!(
        own.got().last(),
        Some(&Got::Cancelled),
        "an application's own actor is told"
    );
    // Writes never noticed, and a client that resumes misses nothing.
    test.put("a", "2").await;
    let mut after = test.stream();
    after.create(create(KeyRange::everything(), 2)).await;
    test.put("a", "3").await;
    settle().await;
    let revisions: Vec<_> = after
        .read_all()
        .await
        .iter()
        .flat_map(Response::revisions)
        .collect();
    assert_eq!(revisions, upto(2, 4));
    drop((before, after, own));
    test.finish().await;
}

#[test]
fn p6_a_dead_watcher_group_ends_its_streams_and_starts_again_empty() {
    run(|| {
        the_watch_side_starts_again(|test| {
            test.worker()
                .watch_side()
                .expect("a side")
                .group
                .do_send(Poison);
        })
    });
}

#[test]
fn p6_a_dead_sync_ends_the_streams_and_starts_again_empty() {
    run(|| {
        the_watch_side_starts_again(|test| {
            test.worker()
                .watch_side()
                .expect("a side")
                .sync
                .do_send(Poison);
        })
    });
}

#[test]
fn p6_a_dead_victim_retry_ends_the_streams_and_starts_again_empty() {
    run(|| {
        the_watch_side_starts_again(|test| {
            test.worker()
                .watch_side()
                .expect("a side")
                .victim_retry
                .do_send(Poison);
        })
    });
}

#[test]
fn p6_a_dead_watcher_ends_its_own_stream_with_unavailable_and_no_other() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let mut mine = test.stream();
        let mut other = test.stream();
        for stream in [&mut mine, &mut other] {
            stream.create(create(KeyRange::everything(), 0)).await;
            stream.create(create(KeyRange::single("b"), 0)).await;
        }
        mine.poison_watcher_for_test(0);
        settle().await;
        test.put("a", "1").await;
        settle().await;
        let end = Response::End(StreamEnd::Unavailable("a watcher failed"));
        assert_eq!(mine.drain().await.last(), Some(&end));
        let revisions: Vec<_> = other
            .drain()
            .await
            .iter()
            .flat_map(Response::revisions)
            .collect();
        assert_eq!(revisions, vec![2]);
        assert_eq!(test.counts().await, (2, 0, 0));
        drop((mine, other));
        test.finish().await;
    });
}

impl TestStream {
    /// Starts a watcher of this stream's that dies at once.
    fn poison_watcher_for_test(&mut self, watch_id: i64) {
        assert!(poison_watcher(&self.control, watch_id));
    }
}

/// Starts a watcher of a stream's that dies at once, beside one that is there; false when there is none any more.
pub(super) fn poison_watcher(control: &WatchStream, watch_id: i64) -> bool {
    let state = control.state_for_test();
    let live = state.watches().get(WatchId(watch_id)).cloned();
    let shared = live.and_then(|live| live.shared.upgrade());
    let is_there = shared.is_some();
    if let Some(shared) = shared {
        let twin = Watcher::new(shared, Arc::clone(control.outbox()));
        control.nursery_for_test().start(twin, 1).do_send(Poison);
    }
    is_there
}

#[test]
fn p6_a_dead_store_ends_all_streams_and_the_engine_says_why() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::everything(), 0)).await;
        test.put("a", "1").await;
        settle().await;
        test.engine.store_for_test().do_send(Poison);
        let why = test.engine.failed().await;
        assert!(why.contains("Store"), "{why}");
        let end = Response::End(StreamEnd::Unavailable("the store has failed"));
        assert_eq!(stream.drain().await.last(), Some(&end));
        let refused = test.engine.put("a", "2").await;
        assert!(
            matches!(refused, Err(EngineError::Failed(_))),
            "{refused:?}"
        );
        // What was read before can be read still.
        assert_eq!(
            test.engine
                .get(KeyRange::single("a"))
                .await
                .expect("a range")
                .count,
            1
        );
    });
}
