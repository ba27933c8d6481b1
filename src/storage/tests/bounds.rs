//! How long a lock is held and how much memory is kept, whatever is stored (B2, D5, D6, L5).

use super::super::testing::{MemoryDisk, Store, delete, history, put, small, tiny, wait};
use super::super::{CompactionStep, Readers, StorageLimits, open_on};
use crate::model::{KeyRange, Op, Put, Revision, Txn, Write};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

#[test]
fn b2_cached_value_does_not_keep_a_larger_request_in_memory() {
    let mut store = Store::new(small());
    let request = Bytes::from(vec![b'x'; 1_000_000]);
    let large = |at: usize| {
        Op::Put(Put {
            key: request.slice(at..at + 3),
            value: request.slice(at..at + 100_000),
            ..Put::default()
        })
    };
    let write = Write::Txn(Txn {
        success: vec![large(0)],
        ..Txn::default()
    });
    store.apply(write).unwrap();
    store.commit();
    assert!(request.is_unique());
}

#[test]
fn l5_window_of_history_always_fits_into_its_cache() {
    let mut store = Store::new(StorageLimits {
        history_cache_bytes_max: 1 << 20,
        stretch_bytes_max: 512 << 10,
        ..small()
    });
    for _ in 0..900 {
        store.apply(put("key", &"x".repeat(500))).unwrap();
    }
    store.commit();
    let from = |from: i64| wait(|done| store.view.history(Revision(from), Revision(900), done));
    let first = from(2).unwrap();
    store.disk.on_next_read(|| panic!("the disk was read"));
    assert_eq!(from(2).unwrap().next, first.next);
    let weight: usize = first
        .commits
        .iter()
        .map(|commit| commit.memory_bytes())
        .sum();
    assert!(weight <= 600 << 10, "{weight}");
}

#[test]
fn w7_previous_values_of_a_huge_delete_are_left_to_whoever_needs_them() {
    let mut store = Store::new(StorageLimits {
        range_answer_bytes_max: 1000,
        ..small()
    });
    for number in 0..10 {
        store.put(&format!("key{number}"), &"x".repeat(200));
    }
    store.apply(delete(KeyRange::everything())).unwrap();
    let events = store.commit()[0].events.clone();
    assert!(events.iter().all(|event| event.prev().is_none()));
    wait(|done| store.view.fill_prev(events.clone(), done)).unwrap();
    let filled = |event: &crate::model::Event| event.prev().flatten().map(|kv| kv.value.len());
    assert!(events.iter().all(|event| filled(event) == Some(200)));
}

#[test]
fn d6_step_of_a_compaction_prunes_a_bounded_number_of_changes() {
    let mut store = Store::new(StorageLimits {
        compaction_keys_per_step: 3,
        compaction_changes_per_step: 10,
        ..small()
    });
    for number in 0..100 {
        store.put(if number % 20 == 3 { "cold" } else { "hot" }, "value");
    }
    let expected = {
        let mut whole = Store::on(store.disk.copy(), small());
        whole.compact(90);
        whole.writer.core.index().clone()
    };
    let bytes = |store: &Store| store.writer.core.index().keys.live_bytes();
    store.writer.compact(Revision(90)).unwrap();
    let record = bytes(&store) / 100;
    while store.writer.core.index().keys != expected.keys {
        let before = bytes(&store);
        assert_eq!(store.writer.compaction_step(), Ok(CompactionStep::More));
        assert!(before - bytes(&store) <= 11 * record);
    }
    store.settle();
    assert_eq!(*store.writer.core.index(), expected);
    assert_eq!(history(&store.view, 90, 101).unwrap().len(), 12);
}

/// A store on a memory disk whose checkpoints go to a real directory.
fn with_checkpoint(dir: &Path, disk: &MemoryDisk) -> Store {
    let disk = disk.clone();
    let limits = StorageLimits {
        free_space_reserve_bytes: 1000,
        ..tiny()
    };
    let opened = open_on(Arc::new(disk.clone()), Some(dir), limits, Readers::Inline);
    let (writer, view) = opened.unwrap();
    Store { disk, writer, view }
}

#[test]
fn d5_checkpoint_does_not_take_the_space_that_is_kept_for_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = with_checkpoint(dir.path(), &MemoryDisk::default());
    store.put("a", "1");
    store.disk.set_free_bytes(999);
    store.writer.close().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn d5_checkpoint_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("index.checkpoint");
    std::fs::create_dir(&in_the_way).unwrap();
    let mut store = with_checkpoint(dir.path(), &MemoryDisk::default());
    store.put("a", "1");
    store.writer.close().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn d5_unknown_free_space_ends_all_writing() {
    let mut store = Store::new(tiny());
    store.put("a", "1");
    store.disk.lose_free_bytes();
    let first = store.apply(put("b", "1")).unwrap_err().to_string();
    let then = store.writer.commit().unwrap_err().to_string();
    assert!(then.contains(&first), "{then}");
}
