//! Handing a commit to the watchers: rules W1 to W7.

use super::support::*;
use crate::actors::EngineLimits;
use crate::actors::protocol::{Committed, Inspect, Inspection};
use crate::model::{EventKind, KeyRange, Revision, WatchSpec};
use crate::watch::{BatchLimits, RingRead};
use std::sync::atomic::Ordering;

#[test]
fn w1_an_acknowledged_write_is_in_the_index_and_in_the_ring() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let revision = test.put("a", "1").await;
        // The moment the writer knows, everybody can know.
        assert_eq!(
            test.engine
                .get(KeyRange::single("a"))
                .await
                .expect("a range")
                .count,
            1
        );
        assert_eq!(test.engine.revision(), revision);
        let read = test
            .worker()
            .shared
            .ring
            .read(revision.previous(), usize::MAX, usize::MAX);
        assert!(matches!(read, RingRead::Commits(commits) if commits.len() == 1));
        test.finish().await;
    });
}

#[test]
fn w1_a_worker_is_told_once_however_many_groups_it_sleeps_through() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let worker = test.worker();
        settle().await;
        // As if a wake-up were on its way all the time: nothing more is sent.
        worker.committed_in_flight.store(true, Ordering::SeqCst);
        test.put("a", "1").await;
        test.put("a", "2").await;
        settle().await;
        assert_eq!(
            worker.group_revision(),
            Revision(1),
            "nobody told the group"
        );
        worker.tell_group(Committed);
        settle().await;
        assert_eq!(
            worker.group_revision(),
            Revision(3),
            "one wake-up is enough for both"
        );
        test.put("a", "3").await;
        settle().await;
        assert_eq!(worker.group_revision(), Revision(4), "the flag was cleared");
        test.finish().await;
    });
}

#[test]
fn w2_a_turn_takes_many_commits_and_is_one_message_per_watcher() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let watch = test.watch(everything_from(0), 16).await;
        let worker = test.worker();
        worker.committed_in_flight.store(true, Ordering::SeqCst);
        for value in 0..50 {
            test.put("a", &value.to_string()).await;
        }
        worker.tell_group(Committed);
        settle().await;
        let messages = watch
            .got()
            .into_iter()
            .filter(|got| matches!(got, Got::Events(_)))
            .count();
        assert_eq!((messages, watch.revisions()), (1, upto(2, 51)));
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn w2_slices_of_one_entry_serve_everyone_and_split_no_turn() {
    run(|| async {
        let limits = EngineLimits {
            entries_per_slice_max: 1,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        let mut watches = Vec::new();
        for _ in 0..20 {
            watches.push(test.watch(everything_from(0), 16).await);
        }
        for value in 0..10 {
            test.put("a", &value.to_string()).await;
        }
        settle().await;
        for watch in &watches {
            assert_eq!(watch.revisions(), upto(2, 11));
        }
        drop(watches);
        test.finish().await;
    });
}

#[test]
fn w3_a_new_watch_is_judged_after_the_group_is_level_with_the_ring() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let worker = test.worker();
        worker.committed_in_flight.store(true, Ordering::SeqCst);
        let revision = test.put("a", "1").await;
        // The group was not told of revision 2; the registration brings it level all the same.
        let watch = test.watch(everything_from(0), 16).await;
        assert_eq!(watch.watch.revision, revision);
        settle().await;
        assert_eq!(
            watch.events(),
            vec![],
            "what came before the registration is not delivered"
        );
        let next = test.put("a", "2").await;
        worker.tell_group(Committed);
        settle().await;
        assert_eq!(watch.revisions(), vec![next.0]);
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn w4_an_idle_watcher_that_leaves_the_roster_is_not_behind() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let idle = test
            .watch(WatchSpec::new(KeyRange::single("idle"), None), 16)
            .await;
        for value in 0..30 {
            test.put("busy", &value.to_string()).await;
        }
        settle().await;
        // The whole roster goes, as at an overrun, and comes back: nothing of the past is delivered again.
        let worker = test.worker();
        worker.shared.ring.advance(Revision(31));
        test.put("idle", "now").await;
        settle().await;
        assert_eq!(idle.revisions(), vec![32]);
        drop(idle);
        test.finish().await;
    });
}

#[test]
fn w5_a_ring_that_has_overrun_the_group_sends_everyone_to_history_and_nobody_loses_anything() {
    run(|| async {
        // A ring that holds nothing: each turn is an overrun.
        let limits = EngineLimits {
            ring_bytes_max: 1,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        let all = test.watch(everything_from(0), 16).await;
        let one = test
            .watch(WatchSpec::new(KeyRange::single("k7"), None), 16)
            .await;
        for number in 0..20 {
            test.put(&format!("k{number}"), "v").await;
        }
        settle().await;
        pass(std::time::Duration::from_secs(1)).await;
        assert_eq!(all.revisions(), upto(2, 21));
        assert_eq!(one.revisions(), vec![9]);
        drop((all, one));
        test.finish().await;
    });
}

#[test]
fn w6_watchers_of_one_class_are_given_the_very_same_batch() {
    run(|| async {
        let limits = EngineLimits {
            batch: BatchLimits::default(),
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        let mut first = test.stream();
        let mut second = test.stream();
        first.create(create(KeyRange::prefix("a"), 0)).await;
        second.create(create(KeyRange::prefix("a"), 0)).await;
        test.put("a1", "v").await;
        settle().await;
        let (one, other) = (first.batches().await, second.batches().await);
        assert_eq!((one.len(), other.len()), (1, 1));
        assert!(
            one.iter()
                .zip(&other)
                .all(|(one, other)| std::sync::Arc::ptr_eq(one, other))
        );
        drop((first, second));
        test.finish().await;
    });
}

#[test]
fn w7_previous_values_are_taken_at_commit_while_somebody_wants_them() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        test.put("a", "1").await;
        let plain = test
            .watch(WatchSpec::new(KeyRange::single("a"), None), 16)
            .await;
        test.put("a", "2").await;
        settle().await;
        let ring = &test.worker().shared.ring;
        let known = |revision: i64| match ring.read(Revision(revision - 1), usize::MAX, 1) {
            RingRead::Commits(commits) => commits[0].events[0].prev().is_some(),
            _ => false,
        };
        assert!(!known(3), "nobody wanted it, so nobody looked it up");
        let spec = WatchSpec::new(KeyRange::single("a"), None).with_prev_kv();
        let with_prev = test.watch(spec, 16).await;
        test.put("a", "3").await;
        test.delete("a").await;
        test.put("a", "4").await;
        settle().await;
        assert!(known(4));
        let prevs: Vec<_> = with_prev
            .events()
            .into_iter()
            .map(|seen| seen.prev)
            .collect();
        assert_eq!(
            prevs,
            vec![Some("2".to_owned()), Some("3".to_owned()), None]
        );
        let kinds: Vec<_> = plain.events().into_iter().map(|seen| seen.kind).collect();
        assert_eq!(
            kinds,
            vec![
                EventKind::Put,
                EventKind::Put,
                EventKind::Delete,
                EventKind::Put
            ]
        );
        drop((plain, with_prev));
        test.finish().await;
    });
}

#[test]
fn w7_a_late_watcher_gets_previous_values_that_nobody_took_at_commit() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        for value in ["1", "2", "3"] {
            test.put("a", value).await;
        }
        let spec = WatchSpec::new(KeyRange::single("a"), Some(Revision(3))).with_prev_kv();
        let watch = test.watch(spec, 16).await;
        settle().await;
        let prevs: Vec<_> = watch.events().into_iter().map(|seen| seen.prev).collect();
        assert_eq!(prevs, vec![Some("1".to_owned()), Some("2".to_owned())]);
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn inspect_tells_what_each_actor_holds() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let watch = test.watch(everything_from(0), 16).await;
        let side = test.worker().watch_side().expect("a watch side");
        let state = side.group.send(Inspect).await.expect("a state");
        assert_eq!(
            state,
            Inspection::WatcherGroup {
                revision: Revision(1),
                synced: 1,
                held: 0
            }
        );
        assert_eq!(test.engine.inspect().await.len(), 4);
        drop(watch);
        test.finish().await;
    });
}
