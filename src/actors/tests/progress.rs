//! How far a stream has come: rules P1 and P2.

use super::support::*;
use crate::actors::{EngineLimits, OutboxLimits, WatchCreate};
use crate::model::KeyRange;
use crate::watch::BatchLimits;
use std::time::Duration;

#[test]
fn p1_what_is_on_its_way_is_counted_until_it_is_in_the_outbox() {
    run(|| async {
        let outbox = OutboxLimits {
            outbox_bytes_max: 1,
            ..OutboxLimits::default()
        };
        let test = TestEngine::start(EngineLimits {
            outbox,
            ..EngineLimits::default()
        })
        .await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::everything(), 0)).await;
        stream.drain().await;
        let state = stream.state();
        assert!(state.is_quiet());
        for value in 0..3 {
            test.put("a", &value.to_string()).await;
            settle().await;
        }
        // One is in the outbox, one waits for room, one is in the mailbox.
        assert_eq!(state.in_flight(), 2);
        while !stream.drain().await.is_empty() {
            settle().await;
        }
        assert!(state.is_quiet());
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p2_manual_progress_of_a_quiet_stream_is_answered_at_once_with_the_current_revision() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let mut stream = test.stream();
        stream.control.request_progress().await;
        assert_eq!(
            stream.drain().await,
            vec![],
            "without a watch there is nothing to tell"
        );
        stream.create(create(KeyRange::single("quiet"), 0)).await;
        stream.drain().await;
        test.put("a", "1").await;
        stream.control.request_progress().await;
        assert_eq!(stream.drain().await, vec![Response::Progress(-1, 2)]);
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p2_progress_never_overtakes_an_event_that_waits_for_room() {
    run(|| async {
        let outbox = OutboxLimits {
            outbox_bytes_max: 1,
            ..OutboxLimits::default()
        };
        let test = TestEngine::start(EngineLimits {
            outbox,
            ..EngineLimits::default()
        })
        .await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::everything(), 0)).await;
        stream.create(create(KeyRange::everything(), 0)).await;
        stream.drain().await;
        for value in 0..3 {
            test.put("a", &value.to_string()).await;
        }
        settle().await;
        stream.control.request_progress().await;
        // More writes while it waits: the stream is held, so that it falls quiet at all.
        test.put("a", "held").await;
        settle().await;
        let responses = stream.read_all().await;
        check_progress(&responses, 2);
        assert!(
            responses.contains(&Response::Progress(-1, 4)),
            "{responses:?}"
        );
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p2_progress_waits_for_a_late_watcher_and_holds_nobody_meanwhile() {
    run(|| async {
        let batch = BatchLimits {
            delivery_bytes_max: 1,
            revisions_per_batch_max: 1,
        };
        let outbox = OutboxLimits {
            outbox_bytes_max: 1,
            ..OutboxLimits::default()
        };
        let limits = EngineLimits {
            ring_bytes_max: 1,
            batch,
            outbox,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        for value in 0..20 {
            test.put("a", &value.to_string()).await;
        }
        let mut stream = test.stream();
        stream.create(create(KeyRange::single("live"), 0)).await;
        stream.create(create(KeyRange::everything(), 2)).await;
        stream.control.request_progress().await;
        test.put("live", "1").await;
        settle().await;
        let responses = stream.read_all().await;
        check_progress(&responses, 2);
        let progress: Vec<_> = responses
            .iter()
            .filter(|it| matches!(it, Response::Progress(..)))
            .collect();
        assert_eq!(
            progress,
            vec![&Response::Progress(-1, 22)],
            "once, when all have everything"
        );
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p2_progress_is_not_told_below_a_start_in_the_future() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::everything(), 4)).await;
        stream.drain().await;
        stream.control.request_progress().await;
        test.put("a", "2").await;
        test.put("a", "3").await;
        settle().await;
        assert_eq!(stream.drain().await, vec![]);
        test.put("a", "4").await;
        settle().await;
        test.put("a", "5").await;
        settle().await;
        let responses = stream.read_all().await;
        check_progress(&responses, 1);
        assert!(
            responses
                .iter()
                .any(|it| matches!(it, Response::Progress(-1, 4..))),
            "{responses:?}"
        );
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p2_periodic_progress_is_told_to_quiet_watchers_that_want_it_and_to_no_other() {
    run(|| async {
        let interval = Duration::from_secs(10);
        let limits = EngineLimits {
            progress_notify_interval: interval,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        let mut stream = test.stream();
        let notified = |range| WatchCreate {
            progress_notify: true,
            ..create(range, 0)
        };
        stream.create(notified(KeyRange::single("quiet"))).await;
        stream.create(notified(KeyRange::single("busy"))).await;
        stream.create(create(KeyRange::single("silent"), 0)).await;
        stream.drain().await;
        pass(interval).await;
        stream.drain().await;
        test.put("busy", "1").await;
        settle().await;
        stream.drain().await;
        pass(interval).await;
        assert_eq!(
            stream.drain().await,
            vec![Response::Progress(0, 2)],
            "the busy one has just had an event"
        );
        pass(interval).await;
        let mut both = stream.drain().await;
        both.sort_by_key(|response| format!("{response:?}"));
        assert_eq!(
            both,
            vec![Response::Progress(0, 2), Response::Progress(1, 2)]
        );
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p2_periodic_progress_waits_for_what_is_on_its_way() {
    run(|| async {
        let interval = Duration::from_secs(10);
        let outbox = OutboxLimits {
            outbox_bytes_max: 1,
            ..OutboxLimits::default()
        };
        let test = TestEngine::start(EngineLimits {
            progress_notify_interval: interval,
            outbox,
            ..EngineLimits::default()
        })
        .await;
        let mut stream = test.stream();
        let notified = WatchCreate {
            progress_notify: true,
            ..create(KeyRange::everything(), 0)
        };
        stream.create(notified).await;
        for value in 0..2 {
            test.put("a", &value.to_string()).await;
            settle().await;
        }
        // One event fills the outbox, the other waits for room while the ticks go by.
        pass(5 * interval).await;
        let responses = stream.read_all().await;
        check_progress(&responses, 1);
        assert_eq!(responses.iter().flat_map(Response::revisions).count(), 2);
        drop(stream);
        test.finish().await;
    });
}

/// A victim whose batch was not kept is on its way through history with nothing in flight.
#[test]
fn p2_progress_waits_for_a_victim_that_reads_history() {
    run(|| async {
        // Room for two events, so that two arrive at once and nothing is on its way when the victim is told of room.
        let outbox = OutboxLimits {
            outbox_bytes_max: 600,
            ..OutboxLimits::default()
        };
        let test = TestEngine::start(EngineLimits {
            mailbox_messages_max: 1,
            pinned_bytes_max: 1,
            ring_bytes_max: 1,
            outbox,
            ..EngineLimits::default()
        })
        .await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::everything(), 0)).await;
        for value in 0..8 {
            test.put("a", &value.to_string()).await;
            settle().await;
        }
        assert_eq!(test.counts().await, (0, 0, 1));
        stream.control.request_progress().await;
        let responses = stream.read_all().await;
        check_progress(&responses, 1);
        let revisions: Vec<_> = responses.iter().flat_map(Response::revisions).collect();
        assert_eq!(revisions, upto(2, 9));
        assert_eq!(responses.last(), Some(&Response::Progress(-1, 9)));
        drop(stream);
        test.finish().await;
    });
}

/// Bookmarkable: progress R is behind every event up to R of every watch, and no event up to R follows it.
pub(super) fn check_progress(responses: &[Response], watches: i64) {
    let mut last_event = 0;
    let mut progress = 0;
    for response in responses {
        match response {
            Response::Events(watch, events) => {
                assert!((0..watches).contains(watch));
                for seen in events {
                    assert!(
                        seen.revision > progress,
                        "event {seen:?} after progress {progress}"
                    );
                    last_event = last_event.max(seen.revision);
                }
            }
            Response::Progress(_, revision) => {
                assert!(*revision >= last_event && *revision >= progress);
                progress = *revision;
            }
            _ => {}
        }
    }
}
