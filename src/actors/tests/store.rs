//! Store and its bounds: rules B1 and D4 as far as actors keep them.

use super::support::*;
use crate::actors::limits::StoreLimits;
use crate::actors::protocol::{Apply, Permit};
use crate::actors::{Engine, EngineConfig, EngineError, EngineLimits, Placement};
use crate::model::{KeyRange, Op, Put, Refusal, Revision, Txn, Write};
use actix::System;
use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

#[test]
fn b1_a_permit_travels_with_the_request_and_not_with_its_caller() {
    run(|| async {
        let store = StoreLimits {
            requests_in_flight_max: 1,
            ..StoreLimits::default()
        };
        let test = TestEngine::start(EngineLimits {
            store,
            ..EngineLimits::default()
        })
        .await;
        let mut first = Box::pin(test.engine.put("a", "1"));
        // Sent, and then its caller goes away.
        let sent =
            std::future::poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await;
        assert!(sent);
        drop(first);
        assert_eq!(
            test.engine.requests_free_for_test(),
            0,
            "its message still waits"
        );
        settle().await;
        assert_eq!(test.engine.requests_free_for_test(), 1);
        // A message whose caller is gone before it is handled may be passed over; the next is served.
        test.put("a", "2").await;
        test.finish().await;
    });
}

/// On threads of its own: only then is there a moment between a write's queue and its disk.
#[test]
fn b1_a_permit_is_held_until_the_write_is_seen() {
    System::new().block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = Engine::start(EngineConfig {
            placement: Placement::Threads { workers: 1 },
            ..EngineConfig::new(dir.path())
        })
        .await
        .expect("an engine");
        let room = Arc::new(Semaphore::new(2));
        for number in 0..20 {
            let room_for_one = || Arc::clone(&room).try_acquire_owned().expect("room");
            let permit = Permit {
                _request: room_for_one(),
                _bytes: room_for_one(),
            };
            let put = Put {
                key: "a".into(),
                ..Put::default()
            };
            engine.store_for_test().do_send(Apply {
                write: Write::Put(put),
                permit,
                worker: None,
            });
            while room.available_permits() < 2 {
                yield_now().await;
            }
            assert_eq!(
                engine.revision(),
                Revision(2 + number),
                "free, and not seen"
            );
        }
        engine.stop().await.expect("stopped");
    });
}

#[test]
fn b1_a_request_larger_than_all_room_takes_all_of_it_and_is_served() {
    run(|| async {
        let store = StoreLimits {
            request_bytes_in_flight_max: 1,
            ..StoreLimits::default()
        };
        let test = TestEngine::start(EngineLimits {
            store,
            ..EngineLimits::default()
        })
        .await;
        assert_eq!(test.put("a", "more than one byte").await, Revision(2));
        test.finish().await;
    });
}

#[test]
fn many_writers_share_a_group_and_each_gets_a_revision_of_its_own() {
    run(|| async {
        let store = StoreLimits {
            group_ops_max: 7,
            ..StoreLimits::default()
        };
        let test = TestEngine::start(EngineLimits {
            store,
            ..EngineLimits::default()
        })
        .await;
        let watch = test.watch(everything_from(0), 16).await;
        let writers = (0..50).map(|writer| {
            let engine = test.engine.clone();
            actix::spawn(async move {
                engine
                    .put(format!("k{writer}"), "v")
                    .await
                    .expect("a put")
                    .0
            })
        });
        let writers: Vec<_> = writers.collect();
        let mut revisions = Vec::new();
        for writer in writers {
            revisions.push(writer.await.expect("a writer"));
        }
        revisions.sort_unstable();
        assert_eq!(revisions, upto(2, 51));
        settle().await;
        assert_eq!(watch.revisions(), upto(2, 51));
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn a_refused_write_changes_nothing_and_harms_no_other_of_its_group() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let ignore = Put {
            key: "missing".into(),
            ignore_value: true,
            ..Put::default()
        };
        let (refused, accepted) = tokio::join!(
            test.engine.write(Write::Put(ignore)),
            test.engine.put("present", "1")
        );
        assert_eq!(refused, Err(EngineError::Refused(Refusal::KeyNotFound)));
        assert_eq!(accepted, Ok(Revision(2)));
        test.finish().await;
    });
}

#[test]
fn a_transaction_is_one_revision_and_one_delivery() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        let watch = test.watch(everything_from(0), 16).await;
        test.put_all(&["a", "b", "c"]).await;
        settle().await;
        assert_eq!(watch.revisions(), vec![2, 2, 2]);
        let keys: Vec<_> = watch.events().into_iter().map(|seen| seen.key).collect();
        assert_eq!(keys, vec!["a", "b", "c"]);
        let too_many = (0..129).map(|key| {
            Op::Put(Put {
                key: format!("{key}").into(),
                ..Put::default()
            })
        });
        let txn = Txn {
            success: too_many.collect(),
            ..Txn::default()
        };
        let refused = test.engine.write(Write::Txn(txn)).await;
        assert_eq!(
            refused,
            Err(EngineError::Refused(Refusal::TooManyOperations {
                max: 128
            }))
        );
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn a_restart_serves_the_same_revisions_and_the_same_history() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        for value in 0..10 {
            test.put("a", &value.to_string()).await;
        }
        test.delete("a").await;
        let test = test.restart(EngineLimits::default()).await;
        assert_eq!(test.engine.revision(), Revision(12));
        assert_eq!(
            test.engine
                .get(KeyRange::everything())
                .await
                .expect("a range")
                .count,
            0
        );
        let watch = test.watch(everything_from(2), 16).await;
        assert_eq!(test.put("b", "1").await, Revision(13));
        settle().await;
        assert_eq!(watch.revisions(), upto(2, 13));
        drop(watch);
        test.finish().await;
    });
}

#[test]
fn a_physical_compaction_is_answered_when_it_is_done() {
    run(|| async {
        let test = TestEngine::start(EngineLimits::default()).await;
        for value in 0..100 {
            test.put("a", &value.to_string()).await;
        }
        assert_eq!(
            test.engine.compact(Revision(50), true).await,
            Ok(Revision(101))
        );
        let again = test.engine.compact(Revision(50), false).await;
        assert!(
            matches!(again, Err(EngineError::Refused(Refusal::Compacted { .. }))),
            "{again:?}"
        );
        let future = test.engine.compact(Revision(1000), false).await;
        assert!(
            matches!(
                future,
                Err(EngineError::Refused(Refusal::FutureRevision { .. }))
            ),
            "{future:?}"
        );
        test.finish().await;
    });
}
