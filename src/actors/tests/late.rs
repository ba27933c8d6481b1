//! Late watchers: rules L1 to L7 as far as actors keep them.

use super::support::*;
use crate::actors::protocol::Committed;
use crate::actors::{EngineLimits, OutboxLimits, WatchCreate, WatchRejection};
use crate::model::{EventFilters, KeyRange, Revision, WatchSpec};
use crate::storage::StorageLimits;
use crate::watch::BatchLimits;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Limits under which the ring forgets at once and every batch is one revision.
fn tiny() -> EngineLimits {
    let batch = BatchLimits {
        delivery_bytes_max: 1,
        revisions_per_batch_max: 1,
    };
    EngineLimits {
        ring_bytes_max: 1,
        batch,
        ..EngineLimits::default()
    }
}

#[test]
fn l1_history_is_never_delivered_beyond_what_the_group_has_handled() {
    run(|| async {
        let test = TestEngine::start(tiny()).await;
        for value in 0..10 {
            test.put("a", &value.to_string()).await;
        }
        settle().await;
        let worker = test.worker();
        // The group sleeps at revision 11 while three more are committed.
        worker.committed_in_flight.store(true, Ordering::SeqCst);
        for value in 0..3 {
            test.put("a", &value.to_string()).await;
        }
        assert_eq!(worker.group_revision(), Revision(11));
        let watch = test.watch(everything_from(2), 16).await;
        settle().await;
        // Its registration has brought the group level, and nothing came twice.
        assert_eq!(worker.group_revision(), Revision(14));
        assert_eq!(watch.revisions(), upto(2, 14));
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn l1_sync_stops_where_its_group_has_come_though_the_store_is_further() {
    run(|| async {
        let test = TestEngine::start(tiny()).await;
        for value in 0..10 {
            test.put("a", &value.to_string()).await;
        }
        let watch = test.watch(everything_from(2), 16).await;
        watch.stall();
        settle().await;
        // The group sleeps while the watch is on its way, and more is committed.
        let worker = test.worker();
        worker.committed_in_flight.store(true, Ordering::SeqCst);
        for value in 0..3 {
            test.put("a", &value.to_string()).await;
        }
        watch.go_on();
        pass(Duration::from_secs(2)).await;
        assert_eq!(worker.group_revision(), Revision(11));
        assert_eq!(watch.revisions(), upto(2, 11), "progress 11 would be a lie");
        worker.tell_group(Committed);
        settle().await;
        assert_eq!(watch.revisions(), upto(2, 14));
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn l2_a_hand_off_ends_while_writes_go_on() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        for value in 0..200 {
            test.put("a", &value.to_string()).await;
        }
        let watch = test.watch(everything_from(2), 16).await;
        // A write between any two steps of the hand-off.
        for value in 0..50 {
            test.put("a", &value.to_string()).await;
            tokio::task::yield_now().await;
        }
        settle().await;
        assert_eq!(watch.revisions(), upto(2, 251));
        assert_eq!(test.counts().await, (1, 0, 0));
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn l3_a_lagging_watcher_has_one_delivery_outstanding_at_most() {
    run(|| async {
        let test = TestEngine::start(tiny()).await;
        for value in 0..50 {
            test.put("a", &value.to_string()).await;
        }
        let watch = test.watch(everything_from(2), 16).await;
        watch.stall();
        settle().await;
        // `created` keeps it busy, and one delivery waits behind it, though the mailbox has room for 16.
        let shared = watch.shared();
        assert!(shared.in_flight() <= 2, "{shared:?}");
        assert_eq!(test.counts().await, (0, 1, 0));
        watch.go_on();
        settle().await;
        assert_eq!(watch.revisions(), upto(2, 51));
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn l3_full_in_sync_is_a_victim_too() {
    run(|| async {
        // One delivery may be on its way to all watches of a stream, and while nobody reads it stays there.
        let limits = EngineLimits {
            in_flight_bytes_max: 1,
            outbox: OutboxLimits {
                outbox_bytes_max: 1,
                ..OutboxLimits::default()
            },
            ..tiny()
        };
        let test = TestEngine::start(limits).await;
        for value in 0..10 {
            test.put("a", &value.to_string()).await;
        }
        let mut stream = test.stream();
        stream.create(create(KeyRange::everything(), 2)).await;
        stream.create(create(KeyRange::single("a"), 2)).await;
        settle().await;
        assert_eq!(
            test.counts().await,
            (0, 1, 1),
            "Sync found one of them full"
        );
        let responses = stream.read_all().await;
        for watch_id in 0..2 {
            let of_watch = responses
                .iter()
                .filter(|response| matches!(response, Response::Events(id, _) if *id == watch_id));
            let revisions: Vec<_> = of_watch.flat_map(Response::revisions).collect();
            assert_eq!(revisions, upto(2, 11), "watch {watch_id}");
        }
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn l4_a_key_that_seldom_changes_is_looked_up_and_not_scanned_for() {
    run(|| async {
        let test = TestEngine::start(EngineLimits {
            ring_bytes_max: 1,
            ..EngineLimits::default()
        })
        .await;
        test.put("rare", "1").await;
        for value in 0..3000 {
            test.put("often", &value.to_string()).await;
        }
        test.put("rare", "2").await;
        let watch = test
            .watch(
                WatchSpec::new(KeyRange::single("rare"), Some(Revision(2))),
                16,
            )
            .await;
        settle().await;
        assert_eq!(watch.revisions(), vec![2, 3003]);
        assert_eq!(test.reads().await.0, 0, "no stretch of history was decoded");
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn l4_what_is_looked_up_by_revision_is_filtered_too() {
    run(|| async {
        let test = TestEngine::start(tiny()).await;
        for value in 0..3 {
            test.put("a", &value.to_string()).await;
            test.delete("a").await;
        }
        let mut stream = test.stream();
        let deletes = WatchCreate {
            filters: EventFilters {
                no_put: true,
                ..EventFilters::default()
            },
            ..create(KeyRange::single("a"), 2)
        };
        stream.create(deletes).await;
        let responses = stream.read_all().await;
        let (_, picks) = test.reads().await;
        assert!(picks > 0, "it was looked up");
        let revisions: Vec<_> = responses.iter().flat_map(Response::revisions).collect();
        assert_eq!(revisions, [3, 5, 7]);
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn l5_many_late_watchers_are_one_pass_over_history() {
    run(|| async {
        let test = TestEngine::start(EngineLimits {
            ring_bytes_max: 1,
            ..EngineLimits::default()
        })
        .await;
        for value in 0..3000 {
            test.put("a", &value.to_string()).await;
        }
        let alone = test.watch(everything_from(2), 16).await;
        settle().await;
        let (one_pass, _) = test.reads().await;
        assert_eq!(alone.revisions(), upto(2, 3001));
        let mut watches = vec![alone];
        for _ in 0..20 {
            watches.push(test.watch(everything_from(2), 16).await);
        }
        settle().await;
        for watch in &watches {
            assert_eq!(watch.revisions(), upto(2, 3001));
        }
        let (both, _) = test.reads().await;
        assert!(
            both <= 10 * one_pass,
            "21 watchers cost {both} reads where one costs {one_pass}"
        );
        drop(watches);
        test.finish().await;
    });
}

#[test]
fn l6_a_start_below_the_compact_revision_is_cancelled_once_though_the_ring_still_has_it() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        for value in 0..10 {
            test.put("a", &value.to_string()).await;
        }
        test.engine
            .compact(Revision(6), false)
            .await
            .expect("compacted");
        let mut stream = test.stream();
        stream.create(create(KeyRange::single("a"), 3)).await;
        stream.create(create(KeyRange::single("a"), 6)).await;
        settle().await;
        pass(Duration::from_secs(3)).await;
        let responses = stream.drain().await;
        let compacted: Vec<_> = responses
            .iter()
            .filter(|it| matches!(it, Response::Compacted(..)))
            .collect();
        assert_eq!(compacted, vec![&Response::Compacted(0, 6)]);
        let second: Vec<_> = responses
            .iter()
            .filter_map(|response| match response {
                Response::Events(1, events) => Some(events.iter().map(|seen| seen.revision)),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(
            second,
            upto(6, 11),
            "from the compact revision on everything is there"
        );
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn l6_a_watcher_that_a_compaction_overtakes_is_told_and_given_nothing_older() {
    run(|| async {
        let test = TestEngine::start(tiny()).await;
        for value in 0..100 {
            test.put("a", &value.to_string()).await;
        }
        let watch = test.watch(everything_from(2), 16).await;
        watch.stall();
        settle().await;
        test.engine
            .compact(Revision(90), true)
            .await
            .expect("compacted");
        watch.go_on();
        settle().await;
        let got = watch.got();
        assert_eq!(got.last(), Some(&Got::Compacted(90)));
        let before = watch.revisions();
        assert_eq!(
            before,
            upto(2, 1 + i64::try_from(before.len()).expect("few")),
            "in order up to the cut"
        );
        assert!(before.len() < 20);
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn l6_the_compacted_cancel_waits_for_room_like_any_other_message() {
    run(|| async {
        let test = TestEngine::start(tiny()).await;
        for value in 0..10 {
            test.put("a", &value.to_string()).await;
        }
        let watch = test.watch(everything_from(2), 1).await;
        watch.stall();
        watch.push();
        test.engine
            .compact(Revision(9), false)
            .await
            .expect("compacted");
        settle().await;
        watch.go_on();
        pass(Duration::from_secs(3)).await;
        let compacted = watch
            .got()
            .into_iter()
            .filter(|got| *got == Got::Compacted(9))
            .count();
        assert_eq!(compacted, 1);
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn l7_a_late_watcher_never_sees_what_is_not_published() {
    run(|| async {
        let storage = StorageLimits::default();
        let test = TestEngine::start_with(tiny(), storage).await;
        test.put("a", "1").await;
        let watch = test.watch(everything_from(2), 16).await;
        let future = test.watch(everything_from(5), 16).await;
        for value in 0..10 {
            test.put("a", &value.to_string()).await;
            settle().await;
            let published = test.engine.revision().0;
            assert!(
                watch
                    .revisions()
                    .iter()
                    .all(|revision| *revision <= published)
            );
        }
        assert_eq!(watch.revisions(), upto(2, 12));
        assert_eq!(future.revisions(), upto(5, 12));
        drop((watch, future));
        test.finish().await;
    });
}

#[test]
fn a_bad_start_is_refused_and_the_stream_stays_open() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::single("a"), -1)).await;
        stream
            .create(create(KeyRange::from_wire("b".into(), "a".into()), 0))
            .await;
        stream.create(create(KeyRange::single("a"), 0)).await;
        assert_eq!(
            stream.drain().await,
            vec![
                Response::Rejected(WatchRejection::NegativeStart),
                Response::Rejected(WatchRejection::EmptyRange),
                Response::Created(0, 1),
            ]
        );
        drop(stream);
        test.finish().await;
    });
}
