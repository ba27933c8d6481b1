//! What a range answers, and on which thread (D6).

use super::super::testing::{MemoryDisk, Store, five, put, read, refusal, small, tiny};
use super::super::{ReadError, Readers, StorageError, StorageLimits, open_on};
use crate::model::{
    KeyRange, RangeQuery, Refusal, Revision, RevisionBounds, SortOrder, SortTarget,
};
use std::sync::{Arc, mpsc};

fn all() -> RangeQuery {
    RangeQuery::latest(KeyRange::everything())
}

/// The keys that a query answers, with `more` and `count`.
fn keys(store: &Store, query: RangeQuery) -> (String, bool, i64) {
    let (_, answer) = read(&store.view, query).unwrap();
    let keys = answer.kvs.iter().map(|kv| str::from_utf8(&kv.key).unwrap());
    (keys.collect(), answer.more, answer.count)
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
                    limit,
                    sort_order,
                    sort_target,
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
        limit,
        bounds,
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
