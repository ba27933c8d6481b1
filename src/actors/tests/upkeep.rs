//! Defragmentations, asked for and not, by the paused clock.

use super::support::*;
use crate::actors::{EngineError, EngineLimits};
use crate::storage::StorageLimits;
use std::time::Duration;

/// The log alone is far more than these tests have live.
fn storage(multiple: u64) -> StorageLimits {
    StorageLimits {
        auto_defragment_multiple: multiple,
        auto_defragment_bytes_min: 0,
        free_space_reserve_bytes: 0,
        ..StorageLimits::default()
    }
}

/// Commits, each of which does a part of whatever copies.
async fn commit_often(test: &TestEngine) {
    for _ in 0..20 {
        test.put("a", "1").await;
    }
}

#[test]
fn too_large_a_store_is_defragmented_once_and_again_when_it_has_grown() {
    run(|| async {
        let test = TestEngine::start_with(EngineLimits::default(), storage(2)).await;
        let has = |engine: &str| test.path().join(engine).exists();
        commit_often(&test).await;
        assert!(!has("engine.1"), "it is looked at once a minute");
        pass(Duration::from_secs(61)).await;
        commit_often(&test).await;
        assert!(has("engine.1") && !has("db"));
        for _ in 0..5 {
            pass(Duration::from_mins(1)).await;
            commit_often(&test).await;
        }
        assert!(
            has("engine.1") && !has("engine.2"),
            "it has not doubled since"
        );
        test.finish().await;
    });
}

#[test]
fn a_store_that_may_not_is_not_defragmented_unasked() {
    run(|| async {
        let test = TestEngine::start_with(EngineLimits::default(), storage(0)).await;
        pass(Duration::from_mins(3)).await;
        commit_often(&test).await;
        assert!(test.path().join("db").exists());
        let engine = test.engine.clone();
        let asked = actix::spawn(async move { engine.defragment().await });
        settle().await;
        assert!(test.engine.view().is_defragmenting());
        // Nobody writes.
        pass(Duration::from_secs(1)).await;
        assert_eq!(asked.await.expect("an answer"), Ok(()));
        assert!(!test.engine.view().is_defragmenting());
        assert!(!test.path().join("db").exists());
        test.finish().await;
    });
}

#[test]
fn who_waits_for_a_defragmentation_is_told_when_the_engine_stops() {
    run(|| async {
        let test = TestEngine::start_with(EngineLimits::default(), storage(0)).await;
        let engine = test.engine.clone();
        let asked = actix::spawn(async move { engine.defragment().await });
        settle().await;
        test.engine.stop().await.expect("stopped");
        let told = asked.await.expect("an answer");
        assert!(
            matches!(told, Err(EngineError::NotDefragmented(_))),
            "{told:?}"
        );
        assert_eq!(test.engine.defragment().await, Err(EngineError::Stopped));
    });
}
