//! Progress that claims too much, comes too late or not at all; and kine's compaction before the poll.
//!
//! Progress R is right when every event up to R came before it.

use super::super::progress::check_progress;
use super::super::support::*;
use super::{late, late_and_stalled};
use crate::actors::protocol::Committed;
use crate::actors::{EngineLimits, WatchCreate};
use crate::model::{EventKind, KeyRange, Revision, WatchId};
use std::sync::atomic::Ordering;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(10);

fn notified(range: KeyRange) -> WatchCreate {
    WatchCreate {
        progress_notify: true,
        ..create(range, 0)
    }
}

/// The answer to a progress request went past the events that were queued for the stream. Here it would be written while
/// an event waits for room in the outbox.
#[test]
fn etcd_15220_progress_that_is_asked_for_between_writes_never_passes_their_events() {
    run(|| async {
        let test = TestEngine::start(late_and_stalled()).await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::single("foo"), 0)).await;
        let mut responses = Vec::new();
        for round in 0..100 {
            stream.control.request_progress().await;
            test.put("foo", &format!("bar{round}")).await;
            stream.control.request_progress().await;
            // The client reads more slowly than the others write.
            if round % 3 == 0 {
                responses.extend(stream.try_next().await);
            }
        }
        responses.extend(stream.read_all().await);
        stream.control.request_progress().await;
        responses.extend(stream.read_all().await);
        check_progress(&responses, 1);
        let revisions: Vec<_> = responses.iter().flat_map(Response::revisions).collect();
        assert_eq!(revisions, upto(2, 101));
        assert_eq!(responses.last(), Some(&Response::Progress(-1, 101)));
        drop(stream);
        test.finish().await;
    });
}

/// Progress named the backend's revision while the events up to it were still in a channel on their way to the watch. Here
/// it would be the store's revision instead of that which the group has handled, asked for or told by the clock.
#[test]
fn kine_731_progress_names_what_the_group_has_handled_and_not_what_the_store_has() {
    run(|| async {
        let test = TestEngine::start(EngineLimits {
            progress_notify_interval: INTERVAL,
            ..EngineLimits::default()
        })
        .await;
        let mut stream = test.stream();
        stream.create(notified(KeyRange::everything())).await;
        settle().await;
        stream.drain().await;
        let worker = test.worker();
        // The channel is slow: the group does not hear of commits.
        worker.committed_in_flight.store(true, Ordering::SeqCst);
        test.put("a", "1").await;
        // The first tick would come too early for a new watch.
        pass(2 * INTERVAL).await;
        assert_eq!(stream.drain().await, vec![Response::Progress(0, 1)]);
        stream.control.request_progress().await;
        let asked = stream.read_all().await;
        check_progress(&asked, 1);
        assert_eq!(asked.len(), 2, "the event and the answer: {asked:?}");
        assert_eq!(asked[1], Response::Progress(-1, 2));
        test.put("a", "2").await;
        pass(2 * INTERVAL).await;
        let ticks = stream.drain().await;
        assert!(!ticks.is_empty(), "a quiet watch is told");
        assert!(ticks.iter().all(|it| *it == Response::Progress(0, 2)));
        worker.tell_group(Committed);
        pass(2 * INTERVAL).await;
        let later = stream.drain().await;
        assert_eq!(later[0].revisions(), vec![3]);
        check_progress(&later, 1);
        drop(stream);
        test.finish().await;
    });
}

/// A compaction took deletes away that the poll for watches had not read yet: a live watch never heard of them. Here the
/// group sleeps through writes and their compaction. What the ring has is delivered all the same; what it has lost is a
/// cancel and never a gap.
#[test]
fn kine_220_deletes_that_are_compacted_before_they_are_delivered_are_told_or_the_watch_is_cancelled()
 {
    for ring_is_lost in [false, true] {
        run(|| async move {
            let limits = if ring_is_lost {
                late()
            } else {
                EngineLimits::default()
            };
            let test = TestEngine::start(limits).await;
            let watch = test.watch(everything_from(0), 16).await;
            let first = test.put("a", "seen").await;
            settle().await;
            assert_eq!(watch.revisions(), vec![first.0]);
            let worker = test.worker();
            worker.committed_in_flight.store(true, Ordering::SeqCst);
            let mut last = first;
            for number in 0..100 {
                test.put(&format!("k{number}"), "v").await;
                last = test.delete(&format!("k{number}")).await;
            }
            let compacted = test.engine.compact(last, true).await;
            compacted.expect("compacted");
            worker.tell_group(Committed);
            pass(Duration::from_secs(1)).await;
            if ring_is_lost {
                assert_eq!(watch.revisions(), vec![first.0], "no gap");
                assert_eq!(watch.got().last(), Some(&Got::Compacted(last.0)));
            } else {
                assert_eq!(watch.revisions(), upto(first.0, last.0));
                let deletes = watch.events().into_iter();
                let deletes = deletes.filter(|seen| seen.kind == EventKind::Delete);
                assert_eq!(deletes.count(), 100);
            }
            drop(watch);
            test.finish().await;
        });
    }
}

/// One watch that was slow, or waits for the future, starved its whole stream of progress: requests were dropped. Here the
/// request would be forgotten, or the clock would pass over the watches that are level.
#[test]
fn etcd_20242_a_slow_watch_or_a_future_one_delays_progress_and_starves_nobody() {
    run(|| async {
        let test = TestEngine::start(EngineLimits {
            progress_notify_interval: INTERVAL,
            ..late_and_stalled()
        })
        .await;
        for value in 0..20 {
            test.put("a", &value.to_string()).await;
        }
        let mut stream = test.stream();
        stream.create(notified(KeyRange::single("level"))).await;
        stream.create(create(KeyRange::everything(), 2)).await;
        // Asked once, while the second watch has all of history before it.
        stream.control.request_progress().await;
        let responses = stream.read_all().await;
        check_progress(&responses, 2);
        assert_eq!(responses.last(), Some(&Response::Progress(-1, 21)));
        // The answer for the stream has to wait for a watch of the future, the answer of the clock for its own watch not.
        stream.create(create(KeyRange::single("a"), 100)).await;
        stream.drain().await;
        stream.control.request_progress().await;
        pass(2 * INTERVAL).await;
        assert_eq!(stream.drain().await, vec![Response::Progress(0, 21)]);
        stream.control.cancel(WatchId(2)).await;
        settle().await;
        let expected = vec![Response::Canceled(2), Response::Progress(-1, 21)];
        assert_eq!(stream.drain().await, expected, "not asked again");
        drop(stream);
        test.finish().await;
    });
}

/// A watch that has seen nothing for a while knows no revision to resume from but an old one; when history was compacted
/// between two ticks of its progress, a reconnect cost it everything. Here a compaction would come without telling the
/// watches that asked for progress how far they have come.
#[test]
fn etcd_20262_a_compaction_tells_quiet_watches_where_to_resume_first() {
    run(|| async {
        let test = TestEngine::start(EngineLimits {
            progress_notify_interval: Duration::from_hours(1),
            ..EngineLimits::default()
        })
        .await;
        let mut stream = test.stream();
        stream.create(notified(KeyRange::single("quiet"))).await;
        stream.create(create(KeyRange::single("deaf"), 0)).await;
        let mut future = test.stream();
        let ahead = WatchCreate {
            start_revision: 1000,
            ..notified(KeyRange::single("quiet"))
        };
        future.create(ahead).await;
        let first = test.put("quiet", "the last it sees").await;
        settle().await;
        for value in 0..50 {
            test.put("busy", &value.to_string()).await;
        }
        let now = test.engine.revision();
        stream.read_all().await;
        future.read_all().await;
        test.engine.compact(now, true).await.expect("compacted");
        settle().await;
        let told = stream.read_all().await;
        assert_eq!(told, vec![Response::Progress(0, now.0)], "who asked");
        assert_eq!(future.read_all().await, vec![], "not before its start");
        // The connection breaks. From where it was told it goes on; from the last event it could not.
        drop((stream, future));
        let mut resumed = test.stream();
        for start in [now.next(), first.next()] {
            let range = KeyRange::single("quiet");
            resumed.create(create(range, start.0)).await;
        }
        let next = test.put("quiet", "goes on").await;
        let responses = resumed.read_all().await;
        let revisions: Vec<_> = responses.iter().flat_map(Response::revisions).collect();
        assert_eq!(revisions, vec![next.0]);
        assert!(responses.contains(&Response::Compacted(1, now.0)));
        assert_eq!(test.engine.revision(), Revision(now.0 + 1));
        drop(resumed);
        test.finish().await;
    });
}
