//! What a compaction keeps, what it leaves on the disk, and that it goes on after a crash at any step.

use super::super::testing::{Store, delete, history, plain, put, read, refusal, small, tiny};
use super::super::{ApplyError, CompactionStep, StorageLimits, Wanted};
use crate::model::{KeyRange, KeyValue, RangeQuery, Refusal, Revision};

fn compact_refusal(store: &mut Store, revision: i64) -> Refusal {
    match store.writer.compact(Revision(revision)).unwrap_err() {
        ApplyError::Refused(refusal) => refusal,
        ApplyError::Failed(error) => panic!("{error}"),
    }
}

#[test]
fn compaction_is_refused_below_the_last_and_beyond_the_present() {
    let mut store = Store::new(small());
    store.put("a", "1");
    store.put("a", "2");
    let current = Revision(3);
    assert_eq!(
        compact_refusal(&mut store, 4),
        Refusal::FutureRevision { current }
    );
    let compact_revision = Revision(-1);
    assert_eq!(
        compact_refusal(&mut store, -1),
        Refusal::Compacted { compact_revision }
    );
    store.compact(0);
    assert_eq!(store.get("a", 2).unwrap().value, "1");
    store.compact(3);
    let compact_revision = Revision(3);
    assert_eq!(
        compact_refusal(&mut store, 3),
        Refusal::Compacted { compact_revision }
    );
    assert_eq!(
        compact_refusal(&mut store, 2),
        Refusal::Compacted { compact_revision }
    );
    assert_eq!(store.get("a", 3).unwrap().value, "2");
}

#[test]
fn l6_compact_revision_is_published_and_durable_before_anything_is_deleted() {
    let mut store = Store::new(tiny());
    store.put("a", "1");
    store.put("a", "2");
    let before = store.disk.records();
    store.writer.compact(Revision(3)).unwrap();
    assert_eq!(store.view.compact_revision(), Revision(3));
    let compact_revision = Revision(3);
    let early = history(&store.view, 2, 3);
    assert_eq!(refusal(early), Refusal::Compacted { compact_revision });
    let cut = Store::on(store.disk.after_power_cut(0), tiny());
    assert_eq!(cut.view.compact_revision(), Revision(3));
    let after = store.disk.records();
    assert!(before.keys().all(|key| after.contains_key(key)));
}

#[test]
fn l6_index_never_says_that_nothing_is_wanted_of_what_it_has_forgotten() {
    let mut store = Store::new(tiny());
    for value in ["1", "2", "3", "4"] {
        store.put("a", value);
    }
    store.compact(5);
    store.settle();
    let of = |from| {
        let (range, through) = (KeyRange::single("a"), Revision(5));
        store
            .view
            .revisions_of(&range, Revision(from), through, 9, 9)
    };
    // A watcher that stood at 3 when the compaction overtook it must not be passed on as if nothing had happened.
    assert_eq!(of(3), Wanted::Dense);
    assert_eq!(of(5), Wanted::Revisions(vec![Revision(5)]));
}

#[test]
fn compaction_keeps_a_tombstone_at_its_own_revision_only() {
    let mut store = Store::new(tiny());
    store.put("a", "1");
    store.delete(KeyRange::single("a"));
    store.put("b", "1");
    store.compact(3);
    let commits = history(&store.view, 3, 4).unwrap();
    assert_eq!(
        plain(&commits[0]).1,
        [KeyValue::tombstone("a".into(), Revision(3))]
    );
    store.compact(4);
    assert!(store.writer.core.index().keys.get(b"a").is_none());
    assert_eq!(store.get("a", 4), None);
}

#[test]
fn deleted_key_does_not_come_back_when_its_tombstone_is_gone() {
    // The put lies in a block that stays mostly alive and is not rewritten, the tombstone in one that goes.
    let mut store = Store::new(small());
    for key in ["a", "b", "c", "d", "e"] {
        store.apply(put(key, "value")).unwrap();
    }
    store.commit();
    store.delete(KeyRange::single("a"));
    store.put("f", "1");
    let blocks = store.writer.core.index().blocks.iter_after(None).count();
    store.compact(8);
    assert_eq!(
        store.writer.core.index().blocks.iter_after(None).count(),
        blocks - 1
    );
    let reopened = store.reopened();
    assert_eq!(reopened.get("a", 0), None);
    assert_eq!(*reopened.writer.core.index(), *store.writer.core.index());
}

#[test]
fn dead_blocks_go_and_blocks_less_than_half_alive_shrink() {
    let mut store = Store::new(small());
    let value = "x".repeat(100);
    for number in 0..20 {
        store.apply(put(&format!("key{number}"), &value)).unwrap();
    }
    store.commit();
    let full = store.view.sizes();
    for number in 0..15 {
        store.apply(put(&format!("key{number}"), "")).unwrap();
    }
    store.commit();
    store.compact(36);
    let shrunk = store.view.sizes();
    assert!(shrunk.disk_bytes < full.disk_bytes, "{full:?} {shrunk:?}");
    assert!(shrunk.live_bytes < full.live_bytes, "{full:?} {shrunk:?}");
    store.delete(KeyRange::everything());
    store.put("last", "1");
    let last = store.view.revision();
    store.compact(last.0);
    assert_eq!(store.writer.core.index().blocks.iter_after(None).count(), 1);
    let reopened = store.reopened();
    assert_eq!(reopened.view.revision(), last);
    assert_eq!(
        read(&reopened.view, RangeQuery::latest(KeyRange::everything()))
            .unwrap()
            .1
            .count,
        1
    );
}

#[test]
fn revision_never_goes_back_when_everything_is_compacted_away() {
    let mut store = Store::new(tiny());
    store.put("a", "1");
    store.delete(KeyRange::single("a"));
    store.put("b", "1");
    store.delete(KeyRange::single("b"));
    store.compact(5);
    let mut reopened = store.reopened();
    assert_eq!(reopened.view.revision(), Revision(5));
    assert_eq!(reopened.put("a", "2"), Revision(6));
    let again = reopened.reopened();
    assert_eq!(again.view.revision(), Revision(6));
    assert_eq!(again.get("a", 0).unwrap().version, 1);
}

#[test]
fn compaction_goes_on_after_a_power_cut_at_any_call() {
    let fill = || {
        let mut store = Store::new(tiny());
        for number in 0..24_usize {
            store
                .apply(put(&format!("key{}", number % 5), &"x".repeat(number * 9)))
                .unwrap();
            if number % 7 == 6 {
                store.apply(delete(KeyRange::single("key2"))).unwrap();
            }
            if number % 3 == 2 {
                store.commit();
            }
        }
        store.commit();
        store
    };
    let mut whole = fill();
    let revision = whole.view.revision().0;
    whole.compact(20);
    let expected = whole
        .disk
        .records()
        .into_iter()
        .filter(|(key, _)| key[0] != b'm');
    let expected: Vec<_> = expected.collect();
    let mut calls = 0;
    loop {
        let mut store = fill();
        let (scheduled, finished) = store.compact_failing_after(calls, Revision(20));
        for kept in [0, 1] {
            let mut cut = Store::on(store.disk.after_power_cut(kept), tiny());
            assert_eq!(cut.view.revision(), Revision(revision));
            if cut.view.compact_revision() != Revision(20) {
                assert!(!scheduled);
                cut.compact(20);
            }
            cut.settle();
            let records = cut
                .disk
                .records()
                .into_iter()
                .filter(|(key, _)| key[0] != b'm');
            assert_eq!(records.collect::<Vec<_>>(), expected, "after {calls} calls");
            assert_eq!(
                *cut.writer.core.index(),
                *cut.reopened().writer.core.index()
            );
        }
        if scheduled && finished {
            break;
        }
        calls += 1;
    }
    assert!(calls > 6, "the compaction takes several calls");
}

#[test]
fn compaction_scheduled_while_another_runs_gets_a_pass_of_its_own() {
    let mut store = Store::new(tiny());
    for number in 0..12 {
        store.put(&format!("key{}", number % 3), "value");
    }
    store.writer.compact(Revision(5)).unwrap();
    store.writer.compaction_step().unwrap();
    store.writer.compaction_step().unwrap();
    store.writer.compact(Revision(9)).unwrap();
    store.writer.compact(Revision(11)).unwrap();
    let mut finished = Vec::new();
    loop {
        match store.writer.compaction_step().unwrap() {
            CompactionStep::Idle => break,
            CompactionStep::More | CompactionStep::Held => {}
            CompactionStep::Finished(revision) => finished.push(revision.0),
        }
    }
    assert_eq!(finished, [5, 11]);
}

#[test]
fn d6_step_of_a_compaction_is_bounded() {
    let mut store = Store::new(StorageLimits {
        compaction_keys_per_step: 3,
        compaction_blocks_per_step: 2,
        ..tiny()
    });
    for number in 0..30 {
        store.put(&format!("key{:02}", number % 15), "value");
    }
    let keys = |store: &Store| store.writer.core.index().keys.live_bytes();
    let blocks = |store: &Store| store.writer.core.index().blocks.iter_after(None).count();
    store.writer.compact(Revision(31)).unwrap();
    let record = keys(&store) / 30;
    let (mut steps, mut finished) = (0, false);
    while !finished {
        let before = (keys(&store), blocks(&store));
        finished = store.writer.compaction_step().unwrap() != CompactionStep::More;
        assert!(before.0 - keys(&store) <= 3 * record);
        assert!(before.1 - blocks(&store) <= 2);
        steps += 1;
    }
    assert!(steps > 10, "{steps}");
}

#[test]
fn writes_go_on_between_the_steps_of_a_compaction() {
    let mut store = Store::new(tiny());
    for number in 0..12 {
        store.put(&format!("key{}", number % 3), "value");
    }
    store.writer.compact(Revision(10)).unwrap();
    let mut expected = 13;
    while store.writer.compaction_step().unwrap() != CompactionStep::Idle {
        expected += 1;
        assert_eq!(store.put("key1", "new"), Revision(expected));
    }
    let commits = history(&store.view, 10, expected).unwrap();
    assert_eq!(commits.len() as i64, expected - 9);
    assert_eq!(
        *store.reopened().writer.core.index(),
        *store.writer.core.index()
    );
}
