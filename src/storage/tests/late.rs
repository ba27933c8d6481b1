//! What late watchers ask for: revisions from the index, history in windows, and compactions that overtake them (L4-L7).

use super::super::testing::{
    Store, delete, five, history, plain, put, put_op, read, refusal, small, tiny, txn, wait,
};
use super::super::{CompactionStep, StorageLimits, Wanted};
use crate::model::{EventKind, KeyRange, Op, RangeQuery, Refusal, Revision};
use std::sync::{Arc, Mutex};

fn all() -> RangeQuery {
    RangeQuery::latest(KeyRange::everything())
}

#[test]
fn l4_revisions_of_a_range_come_from_the_index_alone() {
    let mut store = five();
    store.delete(KeyRange::single("a"));
    store.disk.on_next_read(|| panic!("the disk was read"));
    let of = |range: KeyRange, from: i64, through: i64, keys: usize, revisions: usize| {
        let bounds = (Revision(from), Revision(through));
        store
            .view
            .revisions_of(&range, bounds.0, bounds.1, keys, revisions)
    };
    let wanted =
        |revisions: &[i64]| Wanted::Revisions(revisions.iter().map(|at| Revision(*at)).collect());
    assert_eq!(
        of(KeyRange::single("a"), 0, 100, 1, 10),
        wanted(&[2, 6, 7, 9])
    );
    assert_eq!(of(KeyRange::single("a"), 3, 7, 1, 10), wanted(&[6, 7]));
    assert_eq!(of(KeyRange::prefix(""), 6, 9, 5, 4), wanted(&[6, 7, 8, 9]));
    assert_eq!(of(KeyRange::single("x"), 0, 100, 0, 0), wanted(&[]));
    assert_eq!(of(KeyRange::prefix(""), 6, 9, 4, 4), Wanted::Dense);
    assert_eq!(of(KeyRange::prefix(""), 6, 9, 5, 3), Wanted::Dense);
}

#[test]
fn l4_events_of_some_revisions_are_whole_within_their_range() {
    let mut store = Store::new(tiny());
    store
        .apply(txn(["a1", "a2", "b"]
            .map(|key| Op::Put(put_op(key, key)))
            .into()))
        .unwrap();
    store.apply(put("a1", "2")).unwrap();
    store.apply(put("c", "1")).unwrap();
    store.apply(delete(KeyRange::prefix("a"))).unwrap();
    store.commit();
    let at = |range: KeyRange, revisions: &[i64]| {
        let revisions = revisions.iter().map(|at| Revision(*at)).collect();
        wait(|done| store.view.commits_at(range, revisions, done)).unwrap()
    };
    let commits = at(KeyRange::prefix("a"), &[2, 5]);
    let whole = history(&store.view, 2, 5).unwrap();
    let expected = [plain(&whole[0]), plain(&whole[3])];
    assert_eq!(
        plain(&commits[0]),
        (expected[0].0, expected[0].1[..2].to_vec())
    );
    assert_eq!(plain(&commits[1]), expected[1]);
    assert_eq!(commits[1].events[0].kind, EventKind::Delete);
    assert!(at(KeyRange::single("c"), &[2, 3, 5]).is_empty());
    assert!(at(KeyRange::single("c"), &[]).is_empty());
}

#[test]
fn w7_previous_values_are_filled_and_absent_where_compacted() {
    let mut store = Store::new(tiny());
    for value in ["1", "2", "3"] {
        store.put("a", value);
    }
    store.delete(KeyRange::single("a"));
    store.put("a", "4");
    store.compact(3);
    let events = history(&store.view, 3, 6).unwrap();
    let events: Vec<_> = events
        .iter()
        .flat_map(|commit| commit.events.clone())
        .collect();
    wait(|done| store.view.fill_prev(events.clone(), done)).unwrap();
    let prevs = events.iter().map(|event| {
        let prev = event.prev().expect("filled");
        prev.map(|kv| kv.value.clone())
    });
    let expected = [None, Some("2".into()), Some("3".into()), None];
    assert_eq!(prevs.collect::<Vec<_>>(), expected);
}

#[test]
fn l5_late_readers_share_the_same_decoded_events() {
    let mut store = Store::new(StorageLimits {
        stretch_revisions_max: 8,
        ..small()
    });
    for number in 0..40 {
        store.put("key", &number.to_string());
    }
    let early = history(&store.view, 9, 30).unwrap();
    store.disk.on_next_read(|| panic!("the disk was read"));
    let late = history(&store.view, 13, 31).unwrap();
    assert!(Arc::ptr_eq(&early[4].events[0], &late[0].events[0]));
    assert_eq!((late[0].revision, late.len()), (Revision(13), 19));
}

#[test]
fn l5_window_too_large_for_memory_is_split_and_never_a_revision() {
    let mut store = Store::new(StorageLimits {
        stretch_revisions_max: 64,
        stretch_bytes_max: 1000,
        ..small()
    });
    for _ in 0..60 {
        store.put("key", &"x".repeat(300));
    }
    store
        .apply(txn((0..20)
            .map(|key| Op::Put(put_op(&key.to_string(), "x")))
            .collect()))
        .unwrap();
    store.commit();
    let stretch = wait(|done| store.view.history(Revision(2), Revision(62), done)).unwrap();
    assert!(
        (2..8).contains(&stretch.commits.len()),
        "{}",
        stretch.commits.len()
    );
    let commits = history(&store.view, 2, 62).unwrap();
    assert_eq!(commits.len(), 61);
    assert_eq!(commits[60].events.len(), 20);
}

/// A store whose next read of the disk is overtaken by a compaction at `revision`.
fn overtaken(revision: i64) -> (Store, Arc<Mutex<Option<Store>>>) {
    let mut store = Store::new(tiny());
    for number in 0..20 {
        store.put(&format!("key{}", number % 3), &"x".repeat(number * 20));
    }
    let view = store.view.clone();
    let disk = store.disk.clone();
    let spare = Store::new(tiny()).writer;
    let writer = std::mem::replace(&mut store.writer, spare);
    let moved = Arc::new(Mutex::new(Some(Store {
        disk: disk.clone(),
        writer,
        view,
    })));
    let hooked = Arc::clone(&moved);
    disk.on_next_read(move || {
        let mut store = hooked.lock().unwrap().take().unwrap();
        store.writer.compact(Revision(revision)).unwrap();
        while store.writer.compaction_step().unwrap() != CompactionStep::Idle {}
        *hooked.lock().unwrap() = Some(store);
    });
    (store, moved)
}

#[test]
fn l6_read_of_the_past_overtaken_by_a_compaction_is_refused() {
    let (store, _keep) = overtaken(15);
    let query = RangeQuery {
        revision: 10,
        ..all()
    };
    let compact_revision = Revision(15);
    assert_eq!(
        refusal(read(&store.view, query)),
        Refusal::Compacted { compact_revision }
    );
}

#[test]
fn l6_read_of_the_compact_revision_itself_is_answered() {
    let (store, _keep) = overtaken(15);
    let query = RangeQuery {
        revision: 15,
        ..all()
    };
    assert_eq!(read(&store.view, query).unwrap().1.count, 3);
}

#[test]
fn l6_read_of_the_latest_overtaken_by_a_compaction_is_tried_again() {
    let (store, moved) = overtaken(15);
    let hooked = Arc::clone(&moved);
    // The hook of the first read replaces itself by one that also writes, so that the read's revision is compacted.
    store.disk.on_next_read(move || {
        let mut store = hooked.lock().unwrap().take().unwrap();
        store.put("key0", "new");
        store.put("key1", "new");
        store.compact(23);
        *hooked.lock().unwrap() = Some(store);
    });
    let (header, answer) = read(&store.view, all()).unwrap();
    assert_eq!((header, answer.count), (Revision(23), 3));
    assert_eq!(answer.kvs[0].value, "new");
}

#[test]
fn l6_history_overtaken_by_a_compaction_is_refused() {
    for from in 2..15 {
        let (store, _keep) = overtaken(15);
        let compact_revision = Revision(15);
        let late = history(&store.view, from, 20);
        assert_eq!(refusal(late), Refusal::Compacted { compact_revision });
    }
    for from in 15..=21 {
        let (store, _keep) = overtaken(15);
        let commits = history(&store.view, from, 21).unwrap();
        assert_eq!(commits.len() as i64, 22 - from);
    }
}

#[test]
fn l6_events_at_revisions_overtaken_by_a_compaction_are_refused() {
    let (store, _keep) = overtaken(15);
    let revisions = vec![Revision(5), Revision(20)];
    let late = wait(|done| {
        store
            .view
            .commits_at(KeyRange::prefix("key"), revisions, done);
    });
    let compact_revision = Revision(15);
    assert_eq!(refusal(late), Refusal::Compacted { compact_revision });
}

#[test]
fn l6_no_revisions_hold_no_events_even_after_a_compaction() {
    let mut store = five();
    store.compact(5);
    let none = wait(|done| {
        store
            .view
            .commits_at(KeyRange::prefix(""), Vec::new(), done);
    });
    assert!(none.unwrap().is_empty());
}

#[test]
fn l6_previous_value_that_is_lost_is_not_mistaken_for_a_compacted_one() {
    let (store, moved) = overtaken(15);
    let events = history(&store.reopened().view, 2, 21).unwrap();
    // One whose previous value the compaction takes, and one whose previous value it keeps.
    let events = [&events[6], &events[18]].map(|commit| Arc::clone(&commit.events[0]));
    let disk = store.disk.clone();
    let hooked = Arc::clone(&moved);
    store.disk.on_next_read(move || {
        let mut store = hooked.lock().unwrap().take().unwrap();
        store.compact(15);
        for key in disk.records().keys().filter(|key| key[0] == b'r') {
            disk.overwrite(key, None);
        }
        *hooked.lock().unwrap() = Some(store);
    });
    wait(|done| store.view.fill_prev(events.into(), done)).unwrap_err();
}

#[test]
fn l7_history_ends_at_the_published_revision() {
    let mut store = Store::new(tiny());
    store.put("a", "1");
    store.disk.fail_after(1);
    // Applied to the disk, but its sync fails: a scan would see it.
    store.apply(put("a", "2")).unwrap();
    store.writer.commit().unwrap_err();
    let stretch = wait(|done| store.view.history(Revision(2), Revision(9), done)).unwrap();
    assert_eq!((stretch.commits.len(), stretch.next), (1, Revision(3)));
    let stretch = wait(|done| store.view.history(Revision(3), Revision(9), done)).unwrap();
    assert_eq!((stretch.commits.len(), stretch.next), (0, Revision(3)));
}
