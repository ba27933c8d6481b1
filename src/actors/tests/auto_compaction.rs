//! Compaction that nobody asks for, by the paused clock.

use super::support::*;
use crate::actors::{AutoCompaction, EngineError, EngineLimits};
use crate::model::{Refusal, Revision};
use std::time::Duration;

fn limits(auto_compaction: AutoCompaction) -> EngineLimits {
    EngineLimits {
        auto_compaction,
        ..EngineLimits::default()
    }
}

#[test]
fn a_period_passes_before_what_was_there_at_its_begin_is_compacted() {
    run(|| async {
        let period = Duration::from_mins(10);
        let test = TestEngine::start(limits(AutoCompaction::Periodic(period))).await;
        let compacted = || test.engine.view().compact_revision();
        for value in ["1", "2", "3"] {
            test.put("a", value).await;
        }
        // Taken as the store's revision from the second sample on; the first was of the empty store.
        pass(Duration::from_secs(570)).await;
        assert_eq!(compacted(), Revision::NEVER_COMPACTED);
        pass(Duration::from_mins(1)).await;
        assert_eq!(compacted(), Revision(1));
        pass(period).await;
        assert_eq!(compacted(), Revision(4));
        // Nothing was written since, and nothing is compacted twice.
        pass(period * 5).await;
        assert_eq!(compacted(), Revision(4));
        test.finish().await;
    });
}

#[test]
fn so_many_revisions_are_kept_and_a_client_that_was_faster_is_no_fault() {
    run(|| async {
        let test = TestEngine::start(limits(AutoCompaction::Revisions(2))).await;
        for value in ["1", "2", "3", "4"] {
            test.put("a", value).await;
        }
        pass(Duration::from_secs(301)).await;
        assert_eq!(test.engine.view().compact_revision(), Revision(3));
        test.engine.compact(Revision(5), true).await.unwrap();
        test.put("a", "5").await;
        pass(Duration::from_mins(5)).await;
        let refused = test.engine.compact(Revision(5), false).await;
        let compact_revision = Revision(5);
        assert_eq!(
            refused,
            Err(EngineError::Refused(Refusal::Compacted {
                compact_revision
            }))
        );
        test.put("a", "6").await;
        test.put("a", "7").await;
        pass(Duration::from_mins(5)).await;
        assert_eq!(test.engine.view().compact_revision(), Revision(6));
        test.finish().await;
    });
}
