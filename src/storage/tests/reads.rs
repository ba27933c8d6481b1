//! What a read answers: ranges, history, and what late watchers ask for (D6, L4-L7).

use super::super::testing::{
    MemoryDisk, Store, delete, history, plain, put, put_op, read, refusal, small, tiny, txn, wait,
};
use super::super::{
    CompactionStep, ReadError, Readers, StorageError, StorageLimits, Wanted, open_on,
};
use crate::model::{
    EventKind, KeyRange, Op, RangeQuery, Refusal, Revision, RevisionBounds, SortOrder, SortTarget,
};
use std::sync::{Arc, Mutex, mpsc};

fn all() -> RangeQuery {
    RangeQuery::latest(KeyRange::everything())
}

/// The keys that a query answers, with `more` and `count`.
fn keys(store: &Store, query: RangeQuery) -> (String, bool, i64) {
    let (_, answer) = read(&store.view, query).unwrap();
    let keys = answer.kvs.iter().map(|kv| str::from_utf8(&kv.key).unwrap());
    (keys.collect(), answer.more, answer.count)
}

/// Keys a to e: c is the newest, a has three versions, and the values run against the keys.
fn five() -> Store {
    let mut store = Store::new(tiny());
    for (key, value) in [
        ("a", "9"),
        ("b", "8"),
        ("d", "6"),
        ("e", "5"),
        ("a", "9"),
        ("a", "9"),
    ] {
        store.put(key, value);
    }
    store.put("c", "7");
    store
}

#[test]
fn range_answers_in_every_order() {
    use SortOrder::{Ascend, Descend, None};
    use SortTarget::{Create, Key, Mod, Value, Version};
    let store = five();
    let cases = [
        (Key, None, "abcde"),
        (Key, Ascend, "abcde"),
        (Key, Descend, "edcba"),
        (Version, Ascend, "bcdea"),
        (Version, Descend, "abcde"),
        (Create, None, "abdec"),
        (Create, Descend, "cedba"),
        (Mod, Ascend, "bdeac"),
        (Mod, Descend, "caedb"),
        (Value, None, "edcba"),
        (Value, Descend, "abcde"),
    ];
    for (sort_target, sort_order, expected) in cases {
        for keys_only in [false, true] {
            for limit in 0..7 {
                let query = RangeQuery {
                    sort_target,
                    sort_order,
                    limit,
                    keys_only,
                    ..all()
                };
                let cut = if limit == 0 { 5 } else { limit.min(5) as usize };
                let expected = (expected[..cut].to_owned(), cut < 5, 5);
                assert_eq!(
                    keys(&store, query),
                    expected,
                    "{sort_target:?} {sort_order:?} {limit}"
                );
            }
        }
    }
}

#[test]
fn bounds_filter_before_the_limit_and_count_ignores_both() {
    let store = five();
    let bounded = |bounds: RevisionBounds, limit: i64| RangeQuery {
        bounds,
        limit,
        ..all()
    };
    let bounds = RevisionBounds {
        mod_min: 4,
        mod_max: 7,
        ..RevisionBounds::default()
    };
    assert_eq!(
        keys(&store, bounded(bounds, 0)),
        ("ade".to_owned(), false, 5)
    );
    assert_eq!(keys(&store, bounded(bounds, 2)), ("ad".to_owned(), true, 5));
    assert_eq!(
        keys(&store, bounded(bounds, 3)),
        ("ade".to_owned(), false, 5)
    );
    let bounds = RevisionBounds {
        create_min: 3,
        create_max: 5,
        ..RevisionBounds::default()
    };
    assert_eq!(
        keys(&store, bounded(bounds, 0)),
        ("bde".to_owned(), false, 5)
    );
}

#[test]
fn count_only_answers_the_count_alone() {
    let store = five();
    let query = RangeQuery {
        count_only: true,
        limit: 2,
        sort_target: SortTarget::Value,
        ..all()
    };
    assert_eq!(keys(&store, query), (String::new(), false, 5));
}

#[test]
fn range_at_an_old_revision_answers_what_was_then() {
    let mut store = five();
    store.delete(KeyRange::from_wire("a".into(), "d".into()));
    store.put("b", "new");
    let at = |revision: i64| RangeQuery { revision, ..all() };
    assert_eq!(keys(&store, at(4)).0, "abd");
    assert_eq!(keys(&store, at(8)).0, "abcde");
    assert_eq!(keys(&store, at(9)).0, "de");
    assert_eq!(keys(&store, at(0)).0, "bde");
    assert_eq!(keys(&store, at(-5)).0, "bde");
    let header = read(&store.view, at(4)).unwrap().0;
    assert_eq!(header, Revision(10), "the header has the store's revision");
    let current = Revision(10);
    assert_eq!(
        refusal(read(&store.view, at(11))),
        Refusal::FutureRevision { current }
    );
}

#[test]
fn ranges_hold_what_their_bounds_say() {
    let store = five();
    let range = |start: &'static str, end: &'static str| {
        RangeQuery::latest(KeyRange::from_wire(start.into(), end.into()))
    };
    assert_eq!(keys(&store, range("b", "d")).0, "bc");
    assert_eq!(keys(&store, range("c", "\0")).0, "cde");
    assert_eq!(keys(&store, range("c", "")).0, "c");
    assert_eq!(keys(&store, range("d", "b")).0, "");
    assert_eq!(keys(&store, range("c", "c")).0, "");
    assert_eq!(keys(&store, range("cc", "")).0, "");
}

#[test]
fn keys_only_needs_no_disk_unless_it_sorts_by_value() {
    let store = five();
    let query = RangeQuery {
        keys_only: true,
        revision: 7,
        ..all()
    };
    store.disk.on_next_read(|| panic!("the disk was read"));
    let (_, answer) = read(&store.view, query).unwrap();
    let a = &answer.kvs[0];
    assert_eq!(
        (a.create_revision.0, a.mod_revision.0, a.version),
        (2, 7, 3)
    );
    assert!(answer.kvs.iter().all(|kv| kv.value.is_empty()));
}

#[test]
fn answer_larger_than_the_limit_is_refused() {
    let mut store = Store::new(StorageLimits {
        range_answer_bytes_max: 100,
        ..small()
    });
    for key in ["a", "b", "c"] {
        store.put(key, &"x".repeat(49));
    }
    let too_large = Refusal::AnswerTooLarge { max: 100 };
    assert_eq!(refusal(read(&store.view, all())), too_large);
    let by_value = RangeQuery {
        sort_target: SortTarget::Value,
        limit: 1,
        ..all()
    };
    assert_eq!(refusal(read(&store.view, by_value)), too_large);
    let limited = RangeQuery { limit: 2, ..all() };
    assert_eq!(keys(&store, limited), ("ab".to_owned(), true, 3));
    let keys_only = RangeQuery {
        keys_only: true,
        ..all()
    };
    assert_eq!(keys(&store, keys_only).0, "abc");
}

#[test]
fn d6_value_in_memory_is_answered_on_the_calling_thread_and_a_miss_on_a_reader() {
    let disk = Arc::new(MemoryDisk::default());
    let limits = StorageLimits {
        value_cache_bytes_max: 1 << 20,
        ..tiny()
    };
    let opened = open_on(disk, None, limits, Readers::Threads(1));
    let (mut writer, view) = opened.unwrap();
    writer.apply(&put("a", "1"), false).unwrap();
    writer.commit().unwrap();
    let thread_of = |query: RangeQuery| {
        let (sender, receiver) = mpsc::channel();
        let thread = move || std::thread::current().name().map(str::to_owned);
        view.range(query, Box::new(move |_| sender.send(thread()).unwrap()));
        receiver.recv().unwrap()
    };
    let here = std::thread::current().name().map(str::to_owned);
    assert_eq!(thread_of(RangeQuery::latest(KeyRange::single("a"))), here);
    // More keys than one hold of the lock may look at.
    writer.apply(&put("b", "1"), false).unwrap();
    writer.commit().unwrap();
    assert_eq!(thread_of(all()).as_deref(), Some("vigil-reader-0"));
}

#[test]
fn d6_read_that_finds_the_queue_full_is_answered_busy() {
    let disk = Arc::new(MemoryDisk::default());
    let opened = open_on(disk, None, tiny(), Readers::Threads(1));
    let (mut writer, view) = opened.unwrap();
    for key in ["a", "b"] {
        writer.apply(&put(key, "1"), false).unwrap();
    }
    writer.commit().unwrap();
    let (release, hold) = mpsc::channel::<()>();
    let (started, running) = mpsc::channel();
    view.range(
        all(),
        Box::new(move |_| {
            started.send(()).unwrap();
            let _ = hold.recv();
        }),
    );
    running.recv().unwrap();
    let (sender, receiver) = mpsc::channel();
    for number in 0..2 {
        let sender = sender.clone();
        view.range(
            all(),
            Box::new(move |result| {
                sender.send((number, result.err())).unwrap();
            }),
        );
    }
    assert_eq!(receiver.recv().unwrap(), (1, Some(ReadError::Busy)));
    release.send(()).unwrap();
    assert_eq!(receiver.recv().unwrap(), (0, None));
    writer.close().unwrap();
    let closed = ReadError::Failed(StorageError::Closed);
    assert_eq!(read(&view, all()).unwrap_err(), closed);
}

#[test]
fn d6_panicking_callback_does_not_end_the_readers() {
    let disk = Arc::new(MemoryDisk::default());
    let (mut writer, view) = open_on(disk, None, tiny(), Readers::Threads(1)).unwrap();
    for key in ["a", "b"] {
        writer.apply(&put(key, "1"), false).unwrap();
    }
    writer.commit().unwrap();
    let (sender, receiver) = mpsc::channel::<()>();
    view.range(
        all(),
        Box::new(move |_| {
            let _dropped_by_the_panic = sender;
            panic!("as a test");
        }),
    );
    receiver.recv().unwrap_err();
    // The reader's queue has room for one, so one of these reads waits for the thread to come back.
    let answer = loop {
        match read(&view, all()) {
            Err(ReadError::Busy) => {}
            answer => break answer,
        }
    };
    assert_eq!(answer.unwrap().1.count, 2);
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
    assert_eq!(keys(&store, query).2, 3);
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
            .commits_at(KeyRange::prefix("key"), revisions, done)
    });
    let compact_revision = Revision(15);
    assert_eq!(refusal(late), Refusal::Compacted { compact_revision });
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
