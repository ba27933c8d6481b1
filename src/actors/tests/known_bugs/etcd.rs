//! etcd: lost, repeated and stale events, and what a late watch costs.
//!
//! Every compaction here is physical, so that what it deletes is gone when the watch comes for it.

use super::super::support::*;
use super::{late, late_and_stalled, told};
use crate::actors::EngineLimits;
use crate::actors::protocol::{Apply, Permit};
use crate::actors::store::Store;
use crate::actors::supervision::Shared;
use crate::model::{EventKind, KeyRange, Put, Revision, WatchSpec, Write};
use crate::storage::testing;
use actix::prelude::*;
use futures_util::future::join_all;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Store alone, on a disk in memory, without workers.
fn store_on(limits: EngineLimits, disk: testing::Store) -> Addr<Store> {
    let head = disk.view.revision();
    let shared = Shared::new(Arc::new(disk.view), head, limits, Arc::default());
    Store::new(disk.writer, Arc::new(shared), Vec::new()).start()
}

async fn permit() -> Permit {
    let one = || async {
        let room = Arc::new(Semaphore::new(1));
        room.acquire_owned().await.expect("room")
    };
    Permit {
        _request: one().await,
        _bytes: one().await,
    }
}

/// A server of one member answered a write when it was applied, beside the write of its log: a crash between the two lost
/// an acknowledged put. Here it would be a reply that Store sends before the group's sync has returned.
#[test]
fn etcd_14370_a_put_is_acknowledged_when_a_power_cut_cannot_take_it_any_more() {
    for calls in 0..12 {
        run(|| async move {
            let disk = testing::Store::new(testing::small());
            let memory = disk.disk.clone();
            memory.fail_after(calls);
            let store = store_on(EngineLimits::default(), disk);
            for number in 0..4 {
                let put = Put {
                    key: format!("k{number}").into(),
                    ..Put::default()
                };
                let apply = Apply {
                    write: Write::Put(put),
                    permit: permit().await,
                    worker: None,
                };
                let acknowledged = store.send(apply).await.expect("an answer").is_ok();
                // The power goes at the very moment of the answer.
                let after = memory.after_power_cut(0);
                let after = testing::Store::on(after, testing::small());
                let survived = after.get(&format!("k{number}"), 0).is_some();
                assert_eq!(acknowledged, survived, "put {number}, {calls} calls");
            }
        });
    }
}

/// A member that took over a snapshot sent its watches back to history from revisions that had not been kept up to date,
/// and they were told again of what they had seen. Here the whole roster goes to history when the ring overruns the
/// group; a stale cursor would repeat what was delivered live, or what lies before the watch.
#[test]
fn etcd_15271_watches_that_are_sent_back_to_history_do_not_travel_back_in_time() {
    run(|| async {
        let limits = EngineLimits {
            ring_bytes_max: 4 << 10,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        test.put("idle", "before the watch").await;
        let idle = WatchSpec::new(KeyRange::single("idle"), None);
        let (idle, all) = (
            test.watch(idle, 16).await,
            test.watch(everything_from(0), 16).await,
        );
        let future = test.watch(everything_from(12), 16).await;
        for value in 0..5 {
            test.put("busy", &value.to_string()).await;
            settle().await;
        }
        assert_eq!(all.revisions(), upto(3, 7), "live");
        let live = test.reads().await;
        test.put("large", &"v".repeat(8 << 10)).await;
        settle().await;
        assert_ne!(test.reads().await, live, "the ring has overrun the group");
        for value in 0..6 {
            test.put("busy", &value.to_string()).await;
        }
        test.put("idle", "now").await;
        settle().await;
        assert_eq!(all.revisions(), upto(3, 15));
        assert_eq!(idle.revisions(), vec![15]);
        assert_eq!(future.revisions(), upto(12, 15));
        drop((idle, all, future));
        test.finish().await;
    });
}

/// A watch whose next revision was compacted, on a stream whose queue was full, was neither told so nor held: it went on
/// behind the gap. Here the cancel would be given up when there is no room for it, and the cursor moved on.
#[test]
fn etcd_17529_a_stalled_watch_that_a_compaction_overtakes_is_cancelled_and_skips_nothing() {
    const WATCHES: i64 = 40;
    run(|| async {
        let test = TestEngine::start(late_and_stalled()).await;
        for value in 0..60 {
            test.put("a", &value.to_string()).await;
        }
        let mut stream = test.stream();
        for _ in 0..WATCHES {
            stream.create(create(KeyRange::everything(), 2)).await;
        }
        settle().await;
        // Nobody reads: each has something on its way, and the rest of history before it.
        let compacted = test.engine.compact(Revision(50), true).await;
        compacted.expect("compacted");
        for value in 0..10 {
            test.put("a", &value.to_string()).await;
            settle().await;
        }
        pass(std::time::Duration::from_secs(3)).await;
        let told = told(&stream.read_all().await);
        assert_eq!(told.len(), 40);
        for (watch, told) in told {
            let seen = i64::try_from(told.revisions.len()).expect("few");
            assert_eq!(told.revisions, upto(2, 1 + seen), "watch {watch}");
            assert_eq!(told.compacted, vec![50], "watch {watch} is told, once");
        }
        drop(stream);
        test.finish().await;
    });
}

/// A compaction at the revision of a delete that was its key's last change took the delete away too, and a watch that was
/// slow or began there never heard of it. Here the index or the disk would forget the tombstone.
#[test]
fn etcd_18089_a_tombstone_at_the_compact_revision_is_replayed() {
    run(|| async {
        let test = TestEngine::start(late()).await;
        test.put("a", "1").await;
        let slow = test.watch(everything_from(2), 1).await;
        settle().await;
        slow.stall();
        slow.push();
        let deleted = test.delete("a").await;
        test.put("b", "1").await;
        let compacted = test.engine.compact(deleted, true).await;
        compacted.expect("compacted");
        let mut late = Vec::new();
        for range in ["a", "b"].map(KeyRange::prefix) {
            late.push(test.watch(WatchSpec::new(range, Some(deleted)), 16).await);
        }
        let single = WatchSpec::new(KeyRange::single("a"), Some(deleted));
        late.push(test.watch(single, 16).await);
        late.push(test.watch(everything_from(deleted.0), 16).await);
        slow.go_on();
        pass(std::time::Duration::from_secs(1)).await;
        let of = |watch: &TestWatch| -> Vec<_> {
            let events = watch.events().into_iter();
            events.map(|seen| (seen.revision, seen.kind)).collect()
        };
        let (delete, put) = ((3, EventKind::Delete), (4, EventKind::Put));
        assert_eq!(of(&slow), vec![(2, EventKind::Put), delete, put]);
        let told: Vec<_> = late.iter().map(of).collect();
        let expected = [vec![delete], vec![put], vec![delete], vec![delete, put]];
        assert_eq!(told, expected);
        drop((slow, late));
        test.finish().await;
    });
}

/// Each pass over a watch that was far behind decoded all it lacked, of which it was given a thousand revisions, with the
/// lock of the writers in hand: writes stood still. Here it would be history read again for each delivery, or a writer
/// that waits for it.
#[test]
fn etcd_22264_a_watch_far_behind_reads_history_once_and_holds_up_no_writer() {
    const BEHIND: usize = 12_000;
    /// Revisions that one read covers.
    const STRETCH: usize = 1000;
    run(|| async {
        let limits = EngineLimits {
            ring_bytes_max: 1,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        let puts = (0..BEHIND).map(|number| test.engine.put("a", format!("{number}")));
        for put in join_all(puts).await {
            put.expect("a put");
        }
        let watch = test.watch(everything_from(2), 1).await;
        watch.stall();
        settle().await;
        let last = i64::try_from(BEHIND).expect("few") + 1;
        assert!(watch.revisions().len() <= 2 * STRETCH, "it is far behind");
        // The writer goes on while the watch is in the middle of its way.
        let next = test.put("a", "meanwhile").await;
        assert_eq!(next, Revision(last + 1));
        watch.go_on();
        settle().await;
        assert_eq!(watch.revisions(), upto(2, last + 1));
        let (stretches, _) = test.reads().await;
        let most = 2 * u64::try_from(BEHIND / STRETCH).expect("few") + 4;
        assert!(
            stretches <= most,
            "{stretches} reads of {STRETCH} revisions"
        );
        drop(watch);
        test.finish().await;
    });
}

/// With 512 watches behind or more, those that were compacted were taken off a copy of the list: each pass told them
/// again, and they stayed for ever. Here they would stay with Sync after a slice of the same 512.
#[test]
fn etcd_22294_more_than_a_slice_of_compacted_watches_are_each_told_once_and_gone() {
    const WATCHES: usize = 1300;
    run(|| async {
        let limits = late_and_stalled();
        assert!(limits.entries_per_slice_max < WATCHES / 2);
        let test = TestEngine::start(limits).await;
        for value in 0..10 {
            test.put("a", &value.to_string()).await;
        }
        let mut stream = test.stream();
        for _ in 0..WATCHES {
            stream.create(create(KeyRange::single("a"), 2)).await;
        }
        settle().await;
        assert_eq!(test.counts().await, (0, WATCHES, 0), "all wait together");
        let compacted = test.engine.compact(Revision(11), true).await;
        compacted.expect("compacted");
        // Many passes of the nets.
        pass(std::time::Duration::from_secs(30)).await;
        let told = told(&stream.read_all().await);
        pass(std::time::Duration::from_secs(30)).await;
        assert_eq!(stream.read_all().await, vec![], "and never again");
        assert_eq!(told.len(), WATCHES);
        assert!(told.values().all(|told| told.compacted == [11]));
        assert_eq!(test.counts().await, (0, 0, 0));
        drop(stream);
        test.finish().await;
    });
}
