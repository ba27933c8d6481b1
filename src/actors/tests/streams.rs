//! Streams, ids and cancels: rules P3 to P5, and T3.

use super::support::*;
use crate::actors::{EngineLimits, OutboxLimits, StreamEnd, WatchCreate, WatchRejection};
use crate::model::{KeyRange, WatchId};

#[test]
fn p3_created_is_the_first_response_of_a_watch_even_when_history_waits() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        for value in 0..5 {
            test.put("a", &value.to_string()).await;
        }
        let mut stream = test.stream();
        for _ in 0..3 {
            stream.create(create(KeyRange::single("a"), 2)).await;
        }
        settle().await;
        let responses = stream.drain().await;
        for watch in 0..3 {
            let of_watch = |it: &&Response| match it {
                Response::Created(id, _) | Response::Events(id, _) => *id == watch,
                _ => false,
            };
            let first = responses.iter().find(of_watch);
            assert_eq!(first, Some(&Response::Created(watch, 6)));
        }
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p3_ids_are_the_clients_or_counted_from_zero_and_free_after_canceled() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let mut stream = test.stream();
        let chosen = |id| WatchCreate {
            watch_id: WatchId(id),
            ..create(KeyRange::single("a"), 0)
        };
        stream.create(chosen(1)).await;
        stream.create(chosen(0)).await;
        stream.create(chosen(0)).await;
        stream.create(chosen(1)).await;
        stream.create(chosen(-7)).await;
        stream.control.cancel(WatchId(1)).await;
        stream.create(chosen(1)).await;
        assert_eq!(
            stream.drain().await,
            vec![
                Response::Created(1, 1),
                Response::Created(0, 1),
                Response::Created(2, 1),
                Response::Rejected(WatchRejection::DuplicateId),
                Response::Rejected(WatchRejection::InvalidId),
                Response::Canceled(1),
                Response::Created(1, 1),
            ]
        );
        drop(stream);
        test.finish().await;
    });
}

/// However many a client asks for at once, it may tell the answers apart by their order.
#[test]
fn p3_creates_that_arrive_together_are_answered_in_their_order() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        test.put("a", "1").await;
        let mut stream = test.stream();
        let chosen = |id, start| WatchCreate {
            watch_id: WatchId(id),
            ..create(KeyRange::single("a"), start)
        };
        let creates = [
            chosen(7, 0),
            chosen(8, 2),
            chosen(8, 0),
            chosen(9, -1),
            chosen(0, 0),
        ];
        stream.control.create(creates).await;
        let mut answers = stream.drain().await;
        // What the one from the past is told stands behind its own `created`, wherever that is.
        let events = |answer: &Response| matches!(answer, Response::Events(8, _));
        let created = answers
            .iter()
            .position(|answer| *answer == Response::Created(8, 2));
        assert!(answers.iter().position(events) > created);
        answers.retain(|answer| !events(answer));
        assert_eq!(
            answers,
            vec![
                Response::Created(7, 2),
                Response::Created(8, 2),
                Response::Rejected(WatchRejection::DuplicateId),
                Response::Rejected(WatchRejection::NegativeStart),
                Response::Created(0, 2),
            ]
        );
        drop(stream);
        test.finish().await;
    });
}

/// A client that left the ids to us tells the answers apart by their order alone, also when there are more than run in one go.
#[test]
fn p3_a_refusal_does_not_overtake_the_many_that_were_created_before_it() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let mut stream = test.stream();
        settle().await;
        let many = (0..500).map(|_| create(KeyRange::single("a"), 0));
        let refused = create(KeyRange::single("a"), -1);
        stream.control.create(many.chain([refused])).await;
        let answers = stream.drain().await;
        let created = (0..500).map(|id| Response::Created(id, 1));
        let refused = Response::Rejected(WatchRejection::NegativeStart);
        assert_eq!(answers, created.chain([refused]).collect::<Vec<_>>());
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p3_a_watch_id_used_again_gets_nothing_of_the_watch_before() {
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
        let chosen = |key| WatchCreate {
            watch_id: WatchId(7),
            ..create(KeyRange::single(key), 0)
        };
        stream.create(chosen("old")).await;
        for value in 0..5 {
            test.put("old", &value.to_string()).await;
            settle().await;
        }
        // The watcher waits for room with more behind it in its mailbox.
        stream.control.cancel(WatchId(7)).await;
        stream.create(chosen("new")).await;
        test.put("old", "again").await;
        test.put("new", "1").await;
        settle().await;
        let responses = stream.read_all().await;
        let canceled = responses
            .iter()
            .position(|it| *it == Response::Canceled(7))
            .expect("canceled");
        let after: Vec<_> = responses[canceled + 1..]
            .iter()
            .filter_map(|response| match response {
                Response::Events(_, events) => Some(events.clone()),
                _ => None,
            })
            .flatten()
            .map(|seen| seen.key)
            .collect();
        assert_eq!(after, vec!["new".to_owned()]);
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p3_control_items_are_bounded_by_the_edge_that_stops_reading() {
    run(|| async {
        let outbox = OutboxLimits {
            control_items_max: 2,
            ..OutboxLimits::default()
        };
        let test = TestEngine::start(EngineLimits {
            outbox,
            ..EngineLimits::default()
        })
        .await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::single("a"), -1)).await;
        stream.create(create(KeyRange::single("a"), -1)).await;
        let outbox = std::sync::Arc::clone(stream.control.outbox());
        let full =
            tokio::time::timeout(std::time::Duration::from_secs(1), outbox.control_room()).await;
        assert!(full.is_err(), "two wait, so nothing more is read");
        stream.try_next().await;
        outbox.control_room().await;
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p4_created_carries_the_registration_revision() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        test.put("a", "1").await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::single("a"), 0)).await;
        test.put("a", "2").await;
        settle().await;
        let responses = stream.drain().await;
        assert_eq!(responses.first(), Some(&Response::Created(0, 2)));
        assert!(matches!(&responses[1], Response::Events(0, events) if events[0].revision == 3));
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p5_a_cancel_reaches_a_watcher_wherever_its_entry_is() {
    run(|| async {
        let outbox = OutboxLimits {
            outbox_bytes_max: 1,
            ..OutboxLimits::default()
        };
        let limits = EngineLimits {
            outbox,
            mailbox_messages_max: 1,
            ring_bytes_max: 1,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        for value in 0..20 {
            test.put("a", &value.to_string()).await;
        }
        let mut stream = test.stream();
        stream.create(create(KeyRange::single("a"), 0)).await; // becomes a victim
        stream.create(create(KeyRange::everything(), 2)).await; // lags
        stream.create(create(KeyRange::single("b"), 0)).await; // stays in the roster
        for value in 0..10 {
            test.put("a", &value.to_string()).await;
            settle().await;
        }
        for id in 0..3 {
            stream.control.cancel(WatchId(id)).await;
        }
        let responses = stream.read_all().await;
        let canceled = responses
            .iter()
            .filter(|it| matches!(it, Response::Canceled(_)))
            .count();
        assert_eq!(canceled, 3);
        pass(std::time::Duration::from_secs(2)).await;
        assert_eq!(test.counts().await, (0, 0, 0));
        stream.control.cancel(WatchId(0)).await;
        stream.control.cancel(WatchId(99)).await;
        assert_eq!(
            stream.drain().await,
            vec![],
            "an unknown id is passed over in silence"
        );
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn p5_the_end_of_a_stream_is_the_end_of_its_watchers() {
    run(|| async {
        let test = TestEngine::start(EngineLimits {
            mailbox_messages_max: 1,
            ..EngineLimits::default()
        })
        .await;
        let mut stream = test.stream();
        for _ in 0..10 {
            stream.create(create(KeyRange::everything(), 0)).await;
        }
        let other = test.watch(everything_from(0), 16).await;
        assert_eq!(test.counts().await, (11, 0, 0));
        drop(stream);
        settle().await;
        assert_eq!(test.counts().await, (1, 0, 0));
        assert_eq!(
            test.worker()
                .shared
                .watches
                .load(std::sync::atomic::Ordering::SeqCst),
            1
        );
        drop(other);
        test.finish().await;
    });
}

#[test]
fn t3_cancellation_reaches_a_watcher_in_its_wait() {
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
        stream.create(create(KeyRange::single("a"), 0)).await;
        for value in 0..3 {
            test.put("a", &value.to_string()).await;
            settle().await;
        }
        // Nobody reads the outbox, so only the cancellation can end the wait.
        stream.control.cancel(WatchId(0)).await;
        let responses = stream.drain().await;
        assert_eq!(responses.last(), Some(&Response::Canceled(0)));
        assert_eq!(
            responses.len(),
            3,
            "created, the event that had room, canceled"
        );
        drop(stream);
        test.finish().await;
    });
}

#[test]
fn shutdown_ends_streams_with_unavailable() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let mut stream = test.stream();
        stream.create(create(KeyRange::single("a"), 0)).await;
        test.engine.stop().await.expect("stopped");
        let end = Response::End(StreamEnd::Unavailable("the server is shutting down"));
        assert_eq!(stream.drain().await, vec![end]);
    });
}

#[test]
fn watches_are_limited_per_stream_and_in_all() {
    run(|| async {
        let limits = EngineLimits {
            watches_per_stream_max: 1,
            watches_max: 2,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        let (mut one, mut two, mut three) = (test.stream(), test.stream(), test.stream());
        for stream in [&mut one, &mut two, &mut three] {
            stream.create(create(KeyRange::single("a"), 0)).await;
        }
        one.create(create(KeyRange::single("a"), 0)).await;
        let refused = |max| Response::Rejected(WatchRejection::TooManyWatches { max });
        assert_eq!(one.drain().await, vec![Response::Created(0, 1), refused(1)]);
        assert_eq!(three.drain().await, vec![refused(2)]);
        drop((one, two, three));
        test.finish().await;
    });
}

#[test]
fn b3_an_entry_a_watcher_and_what_they_share_are_small() {
    use crate::actors::stream::{Link, LinkState};
    use crate::actors::watcher::Watcher;
    use crate::watch::Entry;
    let entry = size_of::<Entry<Link>>();
    assert!(entry <= 80, "an entry has {entry} bytes");
    let actor = size_of::<Watcher>() + size_of::<LinkState>();
    assert!(
        actor <= 96,
        "a watcher has {actor} bytes beside its mailbox"
    );
}
