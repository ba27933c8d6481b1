//! Watchers that stall: rules V1, V2 and B2.

use super::support::*;
use crate::actors::protocol::{Inspection, Roomy, Stalled, ToWatcher};
use crate::actors::stream::{Link, LinkState, WatchTerms};
use crate::actors::{EngineLimits, OutboxLimits};
use crate::model::{KeyRange, WatchId};
use crate::watch::{Entry, Owed, WatcherId};
use actix::prelude::{Actor, Context, Handler};
use std::time::Duration;

#[test]
fn v1_a_stalled_watcher_becomes_a_victim_and_loses_nothing() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let slow = test.watch(everything_from(0), 2).await;
        let live = test.watch(everything_from(0), 2).await;
        settle().await;
        slow.stall();
        for value in 0..40 {
            test.put("a", &value.to_string()).await;
            settle().await;
        }
        assert_eq!(
            live.revisions(),
            upto(2, 41),
            "a stalled watcher costs the others nothing"
        );
        assert_eq!(test.counts().await, (1, 0, 1));
        assert!(slow.revisions().len() < 10);
        slow.go_on();
        settle().await;
        assert_eq!(
            slow.revisions(),
            upto(2, 41),
            "in order, without a gap, once"
        );
        assert_eq!(test.counts().await, (2, 0, 0));
        drop((slow, live));
        test.finish().await;
    });
}

/// A watcher of the application's own.
struct Idle;

impl Actor for Idle {
    type Context = Context<Self>;
}

impl Handler<ToWatcher> for Idle {
    type Result = ();

    fn handle(&mut self, _message: ToWatcher, _ctx: &mut Self::Context) {}
}

/// A watcher on a thread of its own may have handled everything while its entry was on its way: nobody will tell of it.
#[test]
fn v1_a_victim_that_nobody_will_tell_of_is_tried_when_it_arrives() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let worker = test.worker();
        let stream = test.stream();
        let id = WatcherId(worker.next_number());
        let shared = LinkState::new((id, WatchId(1)), stream.state(), WatchTerms::default());
        let entry = Entry {
            id,
            class: everything_from(0).class,
            next_revision: worker.revision().next(),
            link: Link::new(Idle.start().recipient(), shared),
        };
        worker.tell_victim_retry(Stalled {
            victims: vec![(entry, Owed::Nothing)],
        });
        settle().await;
        assert_eq!(test.counts().await, (1, 0, 0));
        drop(stream);
        // Its stream does not know of it, so that nothing but the next event tells that it is gone.
        test.put("a", "1").await;
        test.finish().await;
    });
}

#[test]
fn v1_the_wake_up_comes_from_the_handled_message_and_not_from_the_net() {
    run(|| async {
        // A net that would come in an hour: whatever is woken is woken by the message guard.
        let net = Duration::from_hours(1);
        let limits = EngineLimits {
            retry_net_interval: net,
            sync_net_interval: net,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        let slow = test.watch(everything_from(0), 1).await;
        settle().await;
        for _ in 0..5 {
            slow.stall();
            for value in 0..8 {
                test.put("a", &value.to_string()).await;
                settle().await;
            }
            slow.go_on();
            settle().await;
        }
        assert_eq!(slow.revisions(), upto(2, 41));
        assert_eq!(test.synced().await, 1);
        drop(slow);
        settle().await;
        assert_eq!(test.synced().await, 0);
        test.engine.stop().await.expect("stopped");
    });
}

#[test]
fn v1_a_lost_wake_up_is_made_good_by_the_net() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let slow = test.watch(everything_from(0), 1).await;
        settle().await;
        slow.stall();
        for value in 0..8 {
            test.put("a", &value.to_string()).await;
            settle().await;
        }
        // A wake-up too early, while there is no room, must not be the last one.
        let victim = slow.shared().watcher;
        test.worker().tell_victim_retry(Roomy::Watcher(victim));
        settle().await;
        assert_eq!(test.counts().await, (0, 0, 1));
        slow.go_on();
        pass(Duration::from_secs(2)).await;
        assert_eq!(slow.revisions(), upto(2, 9));
        drop(slow);
        test.finish().await;
    });
}

#[test]
fn v2_beyond_the_pinned_bytes_a_victim_keeps_only_its_revision() {
    run(|| async {
        let limits = EngineLimits {
            pinned_bytes_max: 1,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        let slow = test.watch(everything_from(0), 1).await;
        settle().await;
        slow.stall();
        for value in 0..20 {
            test.put("a", &format!("a value of some length {value}"))
                .await;
            settle().await;
        }
        let pinned = test
            .engine
            .inspect()
            .await
            .into_iter()
            .find_map(|state| match state {
                Inspection::VictimRetry {
                    victims,
                    pinned_bytes,
                } => Some((victims, pinned_bytes)),
                _ => None,
            });
        assert_eq!(pinned, Some((1, 0)), "the victim is kept, its batch is not");
        slow.go_on();
        settle().await;
        assert_eq!(
            slow.revisions(),
            upto(2, 21),
            "what was dropped is read again"
        );
        drop(slow);
        test.finish().await;
    });
}

#[test]
fn b2_too_many_bytes_on_their_way_are_full_without_a_try() {
    run(|| async {
        let limits = EngineLimits {
            in_flight_bytes_max: 64,
            ..EngineLimits::default()
        };
        let test = TestEngine::start(limits).await;
        let slow = test.watch(everything_from(0), 1000).await;
        settle().await;
        slow.stall();
        for value in 0..20 {
            test.put("a", &format!("thirty bytes or something {value:04}"))
                .await;
            settle().await;
        }
        assert_eq!(
            test.counts().await,
            (0, 0, 1),
            "the mailbox has room for 1000 messages, and yet"
        );
        slow.go_on();
        settle().await;
        assert_eq!(slow.revisions(), upto(2, 21));
        drop(slow);
        test.finish().await;
    });
}

#[test]
fn b4_watchers_that_wait_for_the_same_outbox_are_served_first_come_first_served() {
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
        for _ in 0..5 {
            stream.create(create(KeyRange::everything(), 0)).await;
        }
        stream.drain().await;
        test.put("a", "v").await;
        settle().await;
        let mut order = Vec::new();
        // One item at a time fits, so each read lets exactly the next one in.
        for _ in 0..5 {
            if let Some(Response::Events(watch, _)) = stream.try_next().await {
                order.push(watch);
            }
            assert_eq!(
                stream.try_next().await,
                None,
                "they are not woken all at once"
            );
            settle().await;
        }
        assert_eq!(order, vec![0, 1, 2, 3, 4]);
        drop(stream);
        test.finish().await;
    });
}
