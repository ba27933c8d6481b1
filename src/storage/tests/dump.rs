//! Reading all of a store at one revision: what is in it, what it waits for, and the hash of it.

use super::super::dump::Dump;
use super::super::testing::{Store, delete, five, put, refusal, tiny, wait};
use super::super::{CompactionStep, ReadError, StorageError, StoreHash};
use crate::model::{KeyRange, Refusal, Revision};

fn hash(store: &Store, at: i64) -> Result<StoreHash, ReadError> {
    let at = Some(Revision(at)).filter(|at| at.0 > 0);
    wait(|done| store.view.hash(at, done))
}

/// Keys and values of a whole dump, with their revisions; a tombstone has no value.
fn all_of(dump: &mut Dump) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut all = Vec::new();
    while let Some(records) = dump.next().unwrap() {
        all.extend(records.into_iter().map(|(place, kv)| {
            let value = (kv.version > 0).then(|| text(&kv.value));
            (place.main.0, text(&kv.key), value)
        }));
    }
    all
}

/// Revisions 2 to 8: keys that are overwritten, deleted, and both in one commit.
fn varied() -> Store {
    let mut store = Store::new(tiny());
    store.put("a", "1");
    store.put("b", &"2".repeat(600));
    store.put("a", "3");
    store.delete(KeyRange::single("b"));
    store.apply(put("c", "4")).unwrap();
    store.apply(put("a", "5")).unwrap();
    store.apply(delete(KeyRange::single("c"))).unwrap();
    store.commit();
    store
}

#[test]
fn who_does_not_read_on_is_given_up_and_who_does_is_waited_for() {
    let mut store = five();
    let (mut idle, mut reader) = (
        store.view.snapshot().unwrap(),
        store.view.snapshot().unwrap(),
    );
    store.writer.compact(Revision(5)).unwrap();
    store.writer.give_up_idle_reads();
    reader.next_part().unwrap();
    store.writer.give_up_idle_reads();
    let said = idle.next_part().unwrap_err();
    assert_eq!(said, StorageError::ReadTooSlowly);
    assert_eq!(store.writer.compaction_step(), Ok(CompactionStep::Held));
    while reader.next_part().unwrap().is_some() {}
    drop(reader);
    store.settle();
    assert_eq!(idle.next_part().unwrap_err(), said, "it stays so");
}

#[test]
fn a_hash_is_the_same_whether_the_disk_has_forgotten_or_not() {
    let mut store = varied();
    store.writer.compact(Revision(5)).unwrap();
    let scheduled = hash(&store, 0).unwrap();
    assert_eq!(scheduled.compact_revision, Revision(5));
    assert_eq!(scheduled.hash_revision, Revision(8));
    while store.writer.compaction_step().unwrap() != CompactionStep::Idle {
        assert_eq!(hash(&store, 0), Ok(scheduled));
    }
    assert_eq!(hash(&store.reopened(), 0), Ok(scheduled));
}

#[test]
fn a_hash_of_an_earlier_revision_is_what_it_was_then() {
    let mut store = Store::new(tiny());
    let mut then = vec![hash(&store, 0).unwrap().hash];
    for (key, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("a", "2")] {
        store.put(key, value);
        then.push(hash(&store, 0).unwrap().hash);
    }
    store.delete(KeyRange::single("a"));
    then.push(hash(&store, 0).unwrap().hash);
    for (revision, was) in (1..).zip(&then) {
        let found = hash(&store, revision).unwrap();
        assert_eq!((found.hash, found.revision), (*was, Revision(6)));
        assert_eq!(found.hash_revision, Revision(revision));
    }
    then.sort_unstable();
    then.dedup();
    assert_eq!(then.len(), 6, "every change is in it");
}

#[test]
fn a_hash_outside_of_what_there_is_is_refused() {
    let mut store = varied();
    store.compact(5);
    let (compact_revision, current) = (Revision(5), Revision(8));
    assert_eq!(
        refusal(hash(&store, 4)),
        Refusal::Compacted { compact_revision }
    );
    assert_eq!(
        refusal(hash(&store, 9)),
        Refusal::FutureRevision { current }
    );
    assert!(hash(&store, 5).is_ok() && hash(&store, 8).is_ok());
}

#[test]
fn a_dump_sees_one_revision_while_writes_and_a_compaction_go_on() {
    let mut store = varied();
    let mut whole = Dump::begin(&store.writer.core, None).unwrap();
    let expected = all_of(&mut whole);
    assert_eq!(expected.len(), 7);
    drop(whole);

    let mut dump = Dump::begin(&store.writer.core, None).unwrap();
    let first = dump.next().unwrap().unwrap().len();
    store.put("d", "9");
    store.delete(KeyRange::everything());
    store.writer.compact(Revision(10)).unwrap();
    assert_eq!(store.writer.compaction_step(), Ok(CompactionStep::Held));
    assert_eq!(all_of(&mut dump), expected[first..]);
    assert_eq!(dump.next(), Ok(None));
    drop(dump);
    store.settle();
    let mut rest = Dump::begin(&store.writer.core, None).unwrap();
    let gone = |key: &str| (10, key.to_owned(), None);
    assert_eq!(all_of(&mut rest), [gone("a"), gone("d")]);
}

#[test]
fn a_pass_that_runs_already_does_not_disturb_a_dump() {
    let mut store = varied();
    store.writer.compact(Revision(5)).unwrap();
    let expected = all_of(&mut Dump::begin(&store.writer.core, None).unwrap());
    assert_eq!(expected.len(), 5, "a of 4, the delete at 5, and the rest");
    // It begins between any two steps, and ends between any two.
    for steps in 0.. {
        let mut store = Store::on(store.disk.copy(), tiny());
        let mut idle = false;
        for _ in 0..steps {
            idle |= store.writer.compaction_step().unwrap() == CompactionStep::Idle;
        }
        let mut dump = Dump::begin(&store.writer.core, None).unwrap();
        let mut all = Vec::new();
        while let Some(records) = dump.next().unwrap() {
            all.extend(records.iter().map(|(place, _)| place.main.0));
            store.writer.compaction_step().unwrap();
        }
        let revisions: Vec<_> = expected.iter().map(|(revision, ..)| *revision).collect();
        assert_eq!(all, revisions, "after {steps} steps");
        if idle {
            break;
        }
    }
}

#[test]
fn only_so_many_read_all_of_the_store_at_a_time() {
    let store = varied();
    let begin = || Dump::begin(&store.writer.core, None);
    let dumps: Vec<_> = (0..4).map(|_| begin().unwrap()).collect();
    assert_eq!(begin().unwrap_err(), ReadError::Busy);
    assert_eq!(hash(&store, 0), Err(ReadError::Busy));
    drop(dumps);
    assert!(hash(&store, 0).is_ok());
}

#[test]
fn a_dump_is_as_large_as_it_says() {
    let mut store = varied();
    for compact in [None, Some(5), Some(8)] {
        if let Some(revision) = compact {
            store.writer.compact(Revision(revision)).unwrap();
        }
        let mut dump = Dump::begin(&store.writer.core, None).unwrap();
        let (bytes, blocks) = dump.measure();
        let (mut found_bytes, mut found_blocks) = (0, 0);
        while let Some(records) = dump.next().unwrap() {
            let stored = records.iter().map(|(_, kv)| kv.bytes() as u64 + 56);
            found_bytes += stored.sum::<u64>();
            found_blocks += 1;
        }
        assert_eq!(bytes, found_bytes, "compacted at {compact:?}");
        assert!(found_blocks <= blocks, "{found_blocks} of {blocks}");
    }
}
