//! Places in a line, whose callers give up: nobody is left standing there.
//!
//! What a lock or an election does with a place is asked by clients, in `tests/it`.

use crate::actors::{Engine, EngineConfig, Placement};
use crate::api::Place;
use crate::backend::{LocalBackend, StoreBackend};
use crate::model::{KeyRange, LeaseId, RangeQuery};
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::timeout;

// The key was there, and whoever came next waited for a lease that nobody knew of.
#[test]
fn whoever_gives_up_while_joining_leaves_no_key_behind() {
    actix_rt::System::new().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            placement: Placement::Threads { workers: 1 },
            ..EngineConfig::new(dir.path())
        };
        let engine = Engine::start(config).await.unwrap();
        let backend = LocalBackend::new(engine.clone(), 0);
        for _ in 0..5 {
            let before = engine.revision();
            {
                let mut joins = pin!(Place::join(&backend, b"door", LeaseId::NONE, Bytes::new()));
                let begins = poll_fn(|cx| Poll::Ready(joins.as_mut().poll(cx).is_pending()));
                assert!(begins.await);
            }
            let left = async {
                // Its key was put and deleted.
                while engine.revision().0 < before.0 + 2 {
                    yield_now().await;
                }
            };
            let left = timeout(Duration::from_secs(20), left).await;
            left.expect("the key is still there");
            let line = RangeQuery::latest(KeyRange::prefix("door/"));
            assert!(backend.range(line).await.unwrap().1.kvs.is_empty());
        }
        engine.stop().await.unwrap();
    });
}
