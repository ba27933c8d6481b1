//! What lies on the disk, and what becomes of it when the disk or the power fails (D1-D5).

use super::super::testing::{
    MemoryDisk, Store, delete, history, plain, put, put_op, read, small, tiny, txn, write_refusal,
};
use super::super::{ApplyError, Readers, StorageError, StorageLimits, open, open_on};
use crate::model::{KeyRange, Op, Put, RangeQuery, Refusal, Revision, Write};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

fn large(key: &str, bytes: usize) -> Write {
    Write::Put(Put {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(vec![7; bytes]),
        ..Put::default()
    })
}

#[test]
fn d1_group_is_one_block_and_one_sync() {
    let mut store = Store::new(small());
    let before = store.disk.records().len();
    let calls = store.disk.calls();
    for number in 0..100 {
        store.apply(put(&format!("key{number}"), "value")).unwrap();
    }
    store.commit();
    assert_eq!(store.disk.records().len() - before, 1);
    assert_eq!(store.disk.calls(), (calls.0 + 1, calls.1 + 1));
}

#[test]
fn d1_revision_inside_of_a_block_is_found() {
    let mut store = Store::new(StorageLimits {
        value_cache_bytes_max: 0,
        ..small()
    });
    for number in 0..100 {
        store
            .apply(put(&format!("key{number}"), &number.to_string()))
            .unwrap();
    }
    store.commit();
    for number in [0, 1, 50, 99] {
        let kv = store.get(&format!("key{number}"), 0).unwrap();
        assert_eq!(kv.value, number.to_string());
    }
}

#[test]
fn commit_of_nothing_leaves_the_disk_alone() {
    let mut store = Store::new(small());
    let calls = store.disk.calls();
    store.apply(delete(KeyRange::everything())).unwrap();
    assert!(store.commit().is_empty());
    assert_eq!(store.disk.calls(), calls);
}

#[test]
fn d2_no_blob_file_is_ever_made() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, view) = open(dir.path(), small(), Readers::Inline).unwrap();
    for number in 0..24 {
        writer
            .apply(&large(&format!("key{}", number % 3), 1_500_000), false)
            .unwrap();
        writer
            .apply(&large(&format!("small{number}"), 50_000), false)
            .unwrap();
        writer.commit().unwrap();
    }
    let query = RangeQuery::latest(KeyRange::single("key2"));
    assert_eq!(read(&view, query).unwrap().1.kvs[0].value.len(), 1_500_000);
    writer.compact(Revision(40)).unwrap();
    while writer.compaction_step().unwrap() != super::super::CompactionStep::Idle {}
    writer.close().unwrap();
    drop(view);
    let blobs = std::fs::read_dir(dir.path().join("blobs")).unwrap();
    assert_eq!(blobs.count(), 0);
    let (_writer, view) = open(dir.path(), small(), Readers::Inline).unwrap();
    assert_eq!(history(&view, 40, 49).unwrap().len(), 10);
}

#[test]
fn d2_no_record_given_to_the_disk_is_larger_than_the_limit() {
    let mut store = Store::new(tiny());
    store.apply(large("large", 5000)).unwrap();
    store.apply(put("small", "1")).unwrap();
    store.commit();
    let records = store.disk.records();
    assert!(records.values().all(|value| value.len() <= 256));
    assert_eq!(store.get("large", 0).unwrap().value.len(), 5000);
    let reopened = store.reopened();
    assert_eq!(reopened.get("large", 0).unwrap().value.len(), 5000);
    assert_eq!(reopened.get("small", 0).unwrap().value, "1");
}

/// A store with `keys` keys, of which the delete takes more than one batch.
fn wide(keys: usize) -> Store {
    let mut store = Store::new(tiny());
    for number in 0..keys {
        store
            .apply(put(&format!("key{number:04}"), "value"))
            .unwrap();
    }
    store.commit();
    store
}

#[test]
fn d3_revision_larger_than_a_batch_is_whole_or_absent_after_a_power_cut() {
    let keys = 100;
    let whole = {
        let mut store = wide(keys);
        let (_, syncs) = store.disk.calls();
        store.delete(KeyRange::everything());
        store.disk.calls().1 - syncs
    };
    assert!(whole > 3, "the delete takes several batches");
    for calls in 0..2 * whole {
        for kept in [0, 1] {
            let mut store = wide(keys);
            let before = store.view.revision();
            store.disk.fail_after(calls);
            store.apply(delete(KeyRange::everything())).unwrap();
            store.writer.commit().unwrap_err();
            let mut reopened = Store::on(store.disk.after_power_cut(kept), tiny());
            let count = read(&reopened.view, RangeQuery::latest(KeyRange::everything()));
            let deleted = reopened.view.revision() > before;
            // Only the very last sync can fail with everything on the disk.
            assert_eq!(
                deleted,
                calls == 2 * whole - 1 && kept == 1,
                "{calls} {kept}"
            );
            assert_eq!(count.unwrap().1.count, if deleted { 0 } else { 100 });
            // The revision is taken again, and nothing of the first attempt shows.
            reopened.put("after", "1");
            let again = reopened.reopened();
            assert_eq!(again.view.revision(), reopened.view.revision());
            history(&again.view, 2, again.view.revision().0).unwrap();
        }
    }
}

#[test]
fn d3_unfinished_revision_is_dropped_even_if_the_power_is_cut_while_dropping() {
    let mut store = wide(100);
    let before = store.view.revision();
    store.disk.fail_after(4);
    store.apply(delete(KeyRange::everything())).unwrap();
    store.writer.commit().unwrap_err();
    let cut = store.disk.after_power_cut(0);
    for calls in 0..2 {
        let disk = cut.copy();
        disk.fail_after(calls);
        Store::try_on(disk.clone(), tiny()).unwrap_err();
        let reopened = Store::on(disk.after_power_cut(0), tiny());
        assert_eq!(reopened.view.revision(), before);
    }
}

#[test]
fn d3_unfinished_revision_of_large_keys_is_dropped_block_by_block() {
    let mut store = Store::new(tiny());
    for number in 0..40 {
        store.put(&format!("{number}{}", "x".repeat(2000)), "value");
    }
    let before = store.view.revision();
    store.disk.fail_after(2 * 39);
    store.apply(delete(KeyRange::everything())).unwrap();
    store.writer.commit().unwrap_err();
    let cut = store.disk.after_power_cut(0);
    for calls in 0..4 {
        for kept in [0, 1] {
            let disk = cut.copy();
            disk.fail_after(calls);
            // What the disk cannot do any more is cut off with the power.
            let _ = Store::try_on(disk.clone(), tiny());
            let reopened = Store::on(disk.after_power_cut(kept), tiny());
            assert_eq!(reopened.view.revision(), before);
        }
    }
}

#[test]
fn d4_failing_disk_leaves_no_trace_and_ends_all_writing() {
    for calls in 0..2 {
        let mut store = Store::new(small());
        store.put("a", "1");
        store.disk.fail_after(calls);
        store.apply(put("a", "2")).unwrap();
        store.apply(put("b", "2")).unwrap();
        let error = store.writer.commit().unwrap_err();
        assert!(matches!(error, StorageError::Disk { .. }), "{error}");
        assert_eq!(store.view.revision(), Revision(2));
        assert_eq!(store.get("a", 0).unwrap().value, "1");
        assert_eq!(store.get("b", 0), None);
        assert_eq!(history(&store.view, 2, 2).unwrap().len(), 1);

        // The disk is well again, and the writer still refuses everything.
        store.disk.fail_after(1000);
        let failed = |error: StorageError| matches!(error, StorageError::Failed { .. });
        match store.apply(put("c", "3")).unwrap_err() {
            ApplyError::Failed(error) => assert!(failed(error)),
            ApplyError::Refused(refusal) => panic!("{refusal}"),
        }
        assert!(failed(store.writer.commit().unwrap_err()));
        assert!(failed(store.writer.compaction_step().unwrap_err()));
        assert!(matches!(
            store.writer.compact(Revision(2)),
            Err(ApplyError::Failed(_))
        ));
        assert_eq!(store.writer.revision(), Revision(2));
    }
}

#[test]
fn d4_failing_compaction_ends_all_writing() {
    let mut store = Store::new(small());
    store.put("a", "1");
    store.put("a", "2");
    store.disk.fail_after(1);
    assert!(matches!(
        store.writer.compact(Revision(3)),
        Err(ApplyError::Failed(_))
    ));
    assert_eq!(store.view.compact_revision(), Revision::NEVER_COMPACTED);
    assert!(store.writer.commit().is_err());
}

#[test]
fn d5_puts_are_refused_while_the_disk_is_nearly_full_and_deletes_go_on() {
    let mut store = Store::new(StorageLimits {
        free_space_reserve_bytes: 1000,
        ..tiny()
    });
    store.put("a", "1");
    store.put("a", "2");
    store.disk.set_free_bytes(999);
    assert_eq!(write_refusal(store.apply(put("b", "1"))), Refusal::NoSpace);
    let in_txn = txn(vec![Op::Put(put_op("b", "1"))]);
    assert_eq!(write_refusal(store.apply(in_txn)), Refusal::NoSpace);
    store
        .apply(txn(vec![Op::Range(RangeQuery::latest(KeyRange::single(
            "a",
        )))]))
        .unwrap();
    store.delete(KeyRange::single("a"));
    store.compact(4);
    store.disk.set_free_bytes(1000);
    store.put("b", "1");
}

#[test]
fn d5_free_space_is_not_looked_at_for_every_put() {
    let mut store = Store::new(StorageLimits {
        free_space_reserve_bytes: 1000,
        free_space_check_bytes: 100_000,
        ..tiny()
    });
    store.disk.set_free_bytes(0);
    let taken = (0..1000)
        .take_while(|_| store.apply(put("a", "1")).is_ok())
        .count();
    assert!((100..1000).contains(&taken), "{taken}");
}

#[test]
fn damage_of_any_byte_is_an_error_that_names_the_place() {
    let mut store = Store::new(tiny());
    for number in 0..20 {
        store.put(&format!("key{}", number % 3), "a value of some length");
    }
    store.compact(10);
    for (key, value) in store.disk.records() {
        for at in 0..value.len() {
            let disk = store.disk.copy();
            let mut damaged = value.clone();
            damaged[at] ^= 0x10;
            disk.overwrite(&key, Some(damaged));
            let error = Store::try_on(disk, tiny()).unwrap_err();
            assert!(
                matches!(
                    error,
                    StorageError::Corrupt { .. } | StorageError::Format { .. }
                ),
                "{error}"
            );
        }
    }
}

#[test]
fn lost_record_of_the_engine_is_an_error() {
    let mut store = Store::new(tiny());
    for number in 0..20 {
        store.put(&format!("key{}", number % 3), &"x".repeat(number * 40));
    }
    let records = store.disk.records();
    let (last, _) = records.iter().next_back().unwrap();
    for key in records.keys().filter(|key| *key != last) {
        let disk = store.disk.copy();
        disk.overwrite(key, None);
        let error = Store::try_on(disk, tiny()).unwrap_err();
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn damage_that_appears_while_open_is_an_error_of_the_read() {
    let mut store = Store::new(StorageLimits {
        value_cache_bytes_max: 0,
        ..tiny()
    });
    store.put("a", "1");
    let key = store
        .disk
        .records()
        .into_keys()
        .find(|key| key[0] == b'r')
        .unwrap();
    store.disk.overwrite(&key, Some(vec![1, 2, 3]));
    let query = RangeQuery::latest(KeyRange::single("a"));
    assert!(read(&store.view, query.clone()).is_err());
    store.disk.overwrite(&key, None);
    assert!(read(&store.view, query).is_err());
    assert!(history(&store.view, 2, 2).is_err());
}

#[test]
fn directory_in_use_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let limits = StorageLimits {
        lock_wait_ms_max: 0,
        ..small()
    };
    let _first = open(dir.path(), small(), Readers::Inline).unwrap();
    let error = open(dir.path(), limits, Readers::Inline).unwrap_err();
    let path = dir.path().to_path_buf();
    assert_eq!(error, StorageError::Locked { path });
}

#[test]
fn directory_that_cannot_be_made_is_an_error_that_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().join("data");
    let error = open(&path, small(), Readers::Inline).unwrap_err();
    assert!(matches!(&error, StorageError::Directory { path: named, .. } if *named == path));
    assert!(error.to_string().contains(path.to_str().unwrap()));
}

#[test]
fn identity_is_kept_and_differs_between_stores() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let identity = |dir: &Path| {
        let (writer, view) = open(dir, small(), Readers::Threads(1)).unwrap();
        assert_eq!(writer.identity(), view.identity());
        writer.close().unwrap();
        view.identity()
    };
    assert_eq!(identity(one.path()), identity(one.path()));
    assert_ne!(identity(one.path()), identity(other.path()));
    let found = identity(one.path());
    assert!(found.cluster_id != 0 && found.member_id != 0);
}

#[test]
fn real_disk_gives_back_everything_with_and_without_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let limits = StorageLimits {
        compaction_blocks_per_step: 2,
        ..small()
    };
    let mut expected = Vec::new();
    for round in 0..4_i64 {
        let (mut writer, view) = open(dir.path(), limits.clone(), Readers::Threads(2)).unwrap();
        let first = view.compact_revision().0.max(2);
        let found = history(&view, first, view.revision().0).unwrap();
        let found: Vec<_> = found.iter().map(|commit| plain(commit)).collect();
        let kept = expected
            .iter()
            .filter(|(at, _): &&(Revision, _)| at.0 >= first);
        assert_eq!(found, kept.cloned().collect::<Vec<_>>());
        for number in 0..50 {
            writer
                .apply(
                    &put(&format!("key{}", number % 7), &round.to_string()),
                    false,
                )
                .unwrap();
            if number % 10 == 9 {
                let commits = writer.commit().unwrap();
                expected.extend(commits.iter().map(|commit| plain(commit)));
            }
        }
        writer.compact(Revision(view.revision().0 - 20)).unwrap();
        for _ in 0..round * 2 {
            writer.compaction_step().unwrap();
        }
        if round % 2 == 0 {
            writer.close().unwrap();
            assert!(dir.path().join("index.checkpoint").exists());
        }
    }
}

/// A store on a memory disk whose checkpoints go to a real directory.
fn with_checkpoint(dir: &Path, disk: &MemoryDisk, every: u64) -> Store {
    let limits = StorageLimits {
        checkpoint_revisions: every,
        ..tiny()
    };
    let disk = disk.clone();
    let opened = open_on(Arc::new(disk.clone()), Some(dir), limits, Readers::Inline);
    let (writer, view) = opened.unwrap();
    Store { disk, writer, view }
}

#[test]
fn checkpoint_and_scan_rebuild_the_same_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = with_checkpoint(dir.path(), &MemoryDisk::default(), 10);
    for number in 0..35 {
        store.put(&format!("key{}", number % 6), &"x".repeat(number * 11));
        if number % 8 == 7 {
            store.delete(KeyRange::single("key3"));
        }
    }
    assert!(dir.path().join("index.checkpoint").exists());
    let by_checkpoint = with_checkpoint(dir.path(), &store.disk.copy(), 10);
    let by_scan = store.reopened();
    let index = |store: &Store| store.writer.core.index().clone();
    assert_eq!(index(&by_checkpoint), index(&by_scan));
    assert_eq!(index(&by_checkpoint), index(&store));

    // After a compaction the file speaks of records that are gone, and is not used.
    store.compact(20);
    let stale = with_checkpoint(dir.path(), &store.disk.copy(), 10);
    assert_eq!(index(&stale), index(&store));
    assert_eq!(stale.view.compact_revision(), Revision(20));
    let disk = store.disk.copy();
    store.writer.close().unwrap();
    let closed = with_checkpoint(dir.path(), &disk, 10);
    assert_eq!(index(&closed), index(&stale));
}

#[test]
fn checkpoint_in_the_middle_of_a_compaction_is_used_and_the_compaction_goes_on() {
    for steps in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let mut store = with_checkpoint(dir.path(), &MemoryDisk::default(), 0);
        for number in 0..30 {
            store.put(&format!("key{}", number % 6), &"x".repeat(number * 3));
        }
        store.writer.compact(Revision(25)).unwrap();
        for _ in 0..steps {
            store.writer.compaction_step().unwrap();
        }
        let disk = store.disk.clone();
        store.writer.close().unwrap();
        let mut reopened = with_checkpoint(dir.path(), &disk, 0);
        let mut scanned = Store::on(disk.copy(), tiny());
        reopened.settle();
        scanned.settle();
        let index = |store: &Store| store.writer.core.index().clone();
        assert_eq!(index(&reopened), index(&scanned), "after {steps} steps");
        assert_eq!(index(&reopened), index(&reopened.reopened()));
    }
}

#[test]
fn damaged_checkpoint_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.checkpoint");
    let mut store = with_checkpoint(dir.path(), &MemoryDisk::default(), 10);
    for number in 0..12 {
        store.put(&format!("key{}", number % 5), "value");
    }
    let index = store.writer.core.index().clone();
    let file = std::fs::read(&path).unwrap();
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let reopened = with_checkpoint(dir.path(), &store.disk.copy(), 0);
        assert_eq!(*reopened.writer.core.index(), index);
        std::fs::write(&path, &file[..at]).unwrap();
        let reopened = with_checkpoint(dir.path(), &store.disk.copy(), 0);
        assert_eq!(*reopened.writer.core.index(), index);
    }
}
