//! Interleavings that were wrong once, each named for the rule that it broke.

use super::support::*;
use crate::actors::sync::lose_an_answer_for_test;
use crate::actors::{
    AutoCompaction, Engine, EngineConfig, EngineLimits, OutboxLimits, Placement, WatchCreate,
};
use crate::model::{KeyRange, Revision, WatchId};
use crate::watch::BatchLimits;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

/// Nets that come in an hour: whatever happens before is not their doing.
fn without_nets() -> EngineLimits {
    let net = Duration::from_hours(1);
    EngineLimits {
        sync_net_interval: net,
        retry_net_interval: net,
        ..EngineLimits::default()
    }
}

/// An outbox with room for one batch.
fn tight_outbox() -> EngineLimits {
    let outbox = OutboxLimits {
        outbox_bytes_max: 1,
        ..OutboxLimits::default()
    };
    EngineLimits {
        outbox,
        ..without_nets()
    }
}

/// How many watches the engine counts.
fn watches(test: &TestEngine) -> usize {
    test.worker().shared.watches.load(Ordering::SeqCst)
}

#[test]
fn v1_room_that_created_leaves_behind_wakes_a_victim_too() {
    run(|| async {
        let test = TestEngine::start(without_nets()).await;
        for value in 0..3 {
            test.put("a", &value.to_string()).await;
        }
        // Busy before it is registered, so that `created` fills the mailbox.
        let watch = test.watch_while_busy(everything_from(2), 1).await;
        settle().await;
        test.put("a", "3").await;
        settle().await;
        assert_eq!(watch.events(), vec![]);
        watch.go_on();
        settle().await;
        assert_eq!(watch.revisions(), upto(2, 5));
        assert_eq!(test.counts().await, (1, 0, 0));
        drop(watch);
        settle().await;
        test.engine.stop().await.expect("stopped");
    });
}

#[test]
fn v2_a_stalled_victim_without_a_batch_costs_no_reads_while_it_is_stalled() {
    run(|| async {
        let limits = EngineLimits {
            pinned_bytes_max: 1,
            ring_bytes_max: 1,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        let slow = test.watch(everything_from(0), 1).await;
        settle().await;
        slow.stall();
        for value in 0..20 {
            test.put("a", &value.to_string()).await;
            settle().await;
        }
        pass(Duration::from_secs(5)).await;
        let before = test.reads().await;
        pass(Duration::from_mins(1)).await;
        assert_eq!(test.reads().await, before, "nobody has room, nobody reads");
        slow.go_on();
        pass(Duration::from_secs(5)).await;
        assert_eq!(slow.revisions(), upto(2, 21));
        drop(slow);
        test.finish().await;
    });
}

#[test]
fn l6_nothing_follows_the_compacted_cancel() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        for value in 0..5 {
            test.put("a", &value.to_string()).await;
        }
        let compacted = test.engine.compact(Revision(5), false).await;
        compacted.expect("compacted");
        let watch = test.watch(everything_from(2), 16).await;
        settle().await;
        assert_eq!(watch.got().last(), Some(&Got::Compacted(5)));
        test.engine.stop().await.expect("stopped");
        settle().await;
        assert_eq!(watch.got().last(), Some(&Got::Compacted(5)));
    });
}

#[test]
fn p2_progress_never_goes_back_behind_what_a_watch_created_meanwhile_was_sent() {
    run(|| async {
        let test = TestEngine::start(tight_outbox()).await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::single("a"), 0)).await;
        stream.drain().await;
        for value in 0..2 {
            test.put("a", &value.to_string()).await;
            settle().await;
        }
        // One waits for room, so that the stream is held at revision 3.
        stream.control.request_progress().await;
        test.put("b", "4").await;
        test.put("a", "5").await;
        settle().await;
        stream.create(create(KeyRange::single("b"), 2)).await;
        settle().await;
        let responses = stream.read_all().await;
        let mut last = 0;
        for response in &responses {
            let revisions = response.revisions();
            last = revisions.into_iter().fold(last, i64::max);
            if let Response::Progress(_, revision) = response {
                assert!(*revision >= last, "{responses:?}");
            }
        }
        assert!(
            responses.contains(&Response::Progress(-1, 5)),
            "{responses:?}"
        );
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p2_progress_is_told_when_a_start_is_reached_though_nothing_is_delivered() {
    run(|| async {
        let test = TestEngine::start(without_nets()).await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::single("quiet"), 3)).await;
        stream.drain().await;
        stream.control.request_progress().await;
        for value in 0..2 {
            test.put("a", &value.to_string()).await;
        }
        settle().await;
        assert_eq!(stream.drain().await, vec![Response::Progress(-1, 3)]);
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p2_progress_is_told_when_the_watch_in_its_way_is_cancelled() {
    run(|| async {
        let test = TestEngine::start(without_nets()).await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::single("a"), 0)).await;
        stream.create(create(KeyRange::single("a"), 100)).await;
        stream.control.request_progress().await;
        stream.drain().await;
        stream.control.cancel(WatchId(1)).await;
        settle().await;
        let expected = vec![Response::Canceled(1), Response::Progress(-1, 1)];
        assert_eq!(stream.drain().await, expected);
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p2_periodic_progress_of_a_stream_that_nobody_reads_does_not_pile_up() {
    run(|| async {
        let interval = Duration::from_secs(1);
        let limits = EngineLimits {
            progress_notify_interval: interval,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        let mut stream = test.stream();
        for _ in 0..20 {
            let notified = WatchCreate {
                progress_notify: true,
                ..create(KeyRange::single("a"), 0)
            };
            stream.create(notified).await;
        }
        stream.drain().await;
        pass(interval * 100).await;
        let waiting = stream.drain().await.len();
        assert!((20..=60).contains(&waiting), "{waiting} wait");
        pass(interval * 2).await;
        assert!(stream.drain().await.len() >= 20, "a reader is told again");
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p3_periodic_progress_never_follows_a_cancel() {
    run(|| async {
        let interval = Duration::from_secs(1);
        let limits = EngineLimits {
            progress_notify_interval: interval,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        let mut stream = test.stream();
        let notified = WatchCreate {
            progress_notify: true,
            ..create(KeyRange::single("a"), 0)
        };
        stream.create(notified).await;
        pass(interval).await;
        stream.drain().await;
        // The watcher has said `canceled`, and its `Forget` has not reached the group.
        stream.cancel_without_forget(WatchId(0));
        pass(interval * 2).await;
        assert_eq!(stream.drain().await, vec![]);
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p5_an_applications_watch_that_is_given_up_while_it_is_created_leaves_nothing() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        // Sent, and given up before the group has looked at it.
        let mut sent = Box::pin(test.watch(everything_from(0), 16));
        poll_fn(|cx| Poll::Ready(sent.as_mut().poll(cx).is_ready())).await;
        drop(sent);
        settle().await;
        assert_eq!((test.counts().await, watches(&test)), ((0, 0, 0), 0));
        // Registered, and given up before the answer was taken.
        let mut registered = Box::pin(test.watch(everything_from(0), 16));
        poll_fn(|cx| Poll::Ready(registered.as_mut().poll(cx).is_ready())).await;
        settle().await;
        drop(registered);
        settle().await;
        assert_eq!((test.counts().await, watches(&test)), ((0, 0, 0), 0));
        test.finish().await;
    });
}

#[test]
fn p5_a_watch_that_outlives_its_engine_keeps_nothing_of_it() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let watch = test.watch(everything_from(0), 16).await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::everything(), 0)).await;
        let shared = Arc::downgrade(&test.worker().shared);
        test.engine.stop().await.expect("stopped");
        drop((test, watch, stream));
        settle().await;
        assert_eq!(shared.strong_count(), 0, "ring, caches and index are freed");
    });
}

#[test]
fn an_engine_that_is_dropped_without_a_stop_ends_too() {
    run(|| async {
        // Whatever it would do by itself later.
        let limits = EngineLimits {
            auto_compaction: AutoCompaction::Revisions(1),
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        test.put("a", "1").await;
        let shared = Arc::downgrade(&test.worker().shared);
        drop(test);
        settle().await;
        assert_eq!(shared.strong_count(), 0);
    });
}

#[test]
fn p6_a_stream_that_asks_while_there_is_no_watch_side_ends_with_unavailable() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let mut stream = test.stream();
        test.worker().stop_watch_side();
        settle().await;
        stream.create(create(KeyRange::everything(), 0)).await;
        let responses = stream.drain().await;
        assert!(
            matches!(responses.last(), Some(Response::End(_))),
            "{responses:?}"
        );
        settle().await;
        assert_eq!(watches(&test), 0);
        test.engine.stop().await.expect("stopped");
    });
}

#[test]
fn p6_a_wake_up_that_was_sent_to_a_dead_group_is_not_the_last() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let worker = test.worker();
        worker.start_watch_side();
        // Store has told the group that died a moment ago.
        worker.committed_in_flight.store(true, Ordering::SeqCst);
        let watch = test.watch(everything_from(0), 16).await;
        test.put("a", "1").await;
        settle().await;
        assert_eq!(watch.revisions(), vec![2]);
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn p6_two_deaths_of_one_watch_side_are_one_restart() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let worker = test.worker();
        let epoch = worker.epoch_for_test();
        assert!(worker.retire(epoch), "the first death");
        assert!(!worker.retire(epoch), "the second");
        worker.start_watch_side();
        let watch = test.watch(everything_from(0), 16).await;
        test.put("a", "1").await;
        settle().await;
        assert_eq!(watch.revisions(), vec![2]);
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn a_read_that_dies_without_an_answer_ends_its_streams_and_blocks_nobody() {
    run(|| async {
        let batch = BatchLimits {
            delivery_bytes_max: 1,
            revisions_per_batch_max: 1,
        };
        let limits = EngineLimits {
            batch,
            ring_bytes_max: 1,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        for value in 0..3 {
            test.put("a", &value.to_string()).await;
        }
        let unlucky = test.watch_while_busy(everything_from(2), 16).await;
        settle().await;
        let side = test.worker().watch_side().expect("a watch side");
        lose_an_answer_for_test(side.sync.clone());
        drop(side);
        unlucky.go_on();
        settle().await;
        assert_eq!(unlucky.got().last(), Some(&Got::Cancelled));
        let watch = test.watch(everything_from(2), 16).await;
        settle().await;
        assert_eq!(watch.revisions(), upto(2, 4));
        drop((watch, unlucky));
        test.finish().await;
    });
}

#[test]
fn workers_on_threads_serve_stop_with_writes_in_flight_and_start_again_at_once() {
    actix::System::new().block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let mut acknowledged = 0;
        for round in 0..3 {
            let engine = Engine::start(EngineConfig {
                placement: Placement::Threads { workers: 2 },
                ..EngineConfig::new(dir.path())
            })
            .await
            .expect("an engine");
            assert!(engine.revision().0 >= acknowledged, "round {round}");
            let watch = TestWatch::start(&engine, everything_from(0), 16, false).await;
            let writers = (0..20).map(|writer| {
                let engine = engine.clone();
                actix::spawn(async move { engine.put(format!("k{writer}"), "v").await })
            });
            let writers: Vec<_> = writers.collect();
            tokio::task::yield_now().await;
            let (first, second) = tokio::join!(engine.stop(), engine.stop());
            assert!(first.is_ok() || second.is_ok());
            for writer in writers {
                if let Ok(revision) = writer.await.expect("a writer") {
                    acknowledged = acknowledged.max(revision.0);
                }
            }
            let seen = watch.revisions();
            assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
        }
    });
}
