//! Snapshots: what is in them, that they are whole or refused, and the directories that are made of them.

use super::super::snapshot::SNAPSHOT_PART_BYTES_MAX;
use super::super::testing::{Store, history, plain, put_op, small, tiny, wait};
use super::super::{
    CompactionStep, Readers, Snapshot, StorageError, inspect_snapshot, open, restore_snapshot,
};
use crate::model::{KeyRange, LeaseGrant, LeaseId, Put, Revision, Write};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Revisions 2 to 9, with a value of several blocks and of several parts, a delete, and one key in many versions.
fn varied() -> Store {
    let mut store = Store::new(tiny());
    store.put("a", "1");
    store.put("b", &"2".repeat(600_000));
    store.put("a", "3");
    store.delete(KeyRange::single("b"));
    store.put("c", "4");
    store.put("a", "5");
    store.put("a", "6");
    store.put("d", "7");
    store
}

/// Reads a snapshot to its end, and does something after each part.
fn read(mut snapshot: Snapshot, mut meanwhile: impl FnMut()) -> Vec<u8> {
    let (mut all, mut left): (Vec<u8>, Option<u64>) = (Vec::new(), None);
    while let Some(part) = snapshot.next_part().unwrap() {
        assert!((1..=SNAPSHOT_PART_BYTES_MAX).contains(&part.bytes.len()));
        let now = part.bytes_left;
        assert!(left.is_none_or(|left| left == now + part.bytes.len() as u64));
        left = Some(now);
        all.extend_from_slice(&part.bytes);
        meanwhile();
    }
    assert_eq!(left, Some(0), "it counts down to nothing");
    assert_eq!(all.len() % 512, 32);
    all
}

fn saved(dir: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join("saved");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_restored_store_has_every_revision_from_the_compact_revision_on() {
    for compact in [None, Some(5), Some(9)] {
        let mut store = varied();
        if let Some(revision) = compact {
            store.compact(revision);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = saved(&dir, &read(store.view.snapshot().unwrap(), || {}));
        let info = inspect_snapshot(&path).unwrap();
        let hash = wait(|done| store.view.hash(None, done)).unwrap();
        assert_eq!((info.hash, info.revision), (hash.hash, Revision(9)));
        assert_eq!(info.compact_revision, hash.compact_revision);

        let target = dir.path().join("restored");
        assert_eq!(restore_snapshot(&path, &target, &small()), Ok(info));
        let (writer, view) = open(&target, small(), Readers::Inline).unwrap();
        assert_eq!(view.revision(), Revision(9));
        assert_eq!(view.compact_revision(), store.view.compact_revision());
        assert_ne!(view.identity(), store.view.identity());
        let first = compact.unwrap_or(2);
        let all = |view| -> Vec<_> {
            let commits = history(view, first, 9).unwrap();
            commits.iter().map(|commit| plain(commit)).collect()
        };
        assert_eq!(all(&view), all(&store.view));
        assert_eq!(wait(|done| view.hash(None, done)), Ok(hash));
        let mut restored = Store {
            disk: store.disk.clone(),
            writer,
            view,
        };
        assert_eq!(restored.put("e", "8"), Revision(10));
        restored.writer.close().unwrap();
    }
}

#[test]
fn a_snapshot_is_of_one_revision_while_writes_and_a_compaction_go_on() {
    let mut store = varied();
    let quiet = read(store.view.snapshot().unwrap(), || {});
    let snapshot = store.view.snapshot().unwrap();
    assert_eq!(snapshot.revision(), Revision(9));
    let mut next = 0;
    let busy = read(snapshot, || {
        next += 1;
        store.put("a", "later");
        store.delete(KeyRange::everything());
        store.writer.compact(store.writer.revision()).unwrap();
        assert_eq!(store.writer.compaction_step(), Ok(CompactionStep::Held));
    });
    assert!(next > 2, "it has several parts");
    assert_eq!(busy, quiet);
    store.settle();
}

#[test]
fn of_an_empty_store_there_is_a_snapshot_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(tiny());
    let path = saved(&dir, &read(store.view.snapshot().unwrap(), || {}));
    let target = dir.path().join("restored");
    let info = restore_snapshot(&path, &target, &small()).unwrap();
    assert_eq!((info.revision, info.records), (Revision(1), 0));
    let (writer, view) = open(&target, small(), Readers::Inline).unwrap();
    assert_eq!(view.revision(), Revision(1));
    writer.close().unwrap();
}

/// The name and the version that a snapshot begins with.
const MAGIC_BYTES: usize = 8;

/// The place at which the file is said to be damaged.
fn damage(path: &Path) -> u64 {
    match inspect_snapshot(path).unwrap_err() {
        StorageError::Snapshot { path: told, at, .. } => {
            assert_eq!(told, path);
            at
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_damaged_snapshot_is_refused_with_its_name_and_the_place() {
    let mut store = Store::new(tiny());
    store.put("a", "1");
    store.put("b", "2");
    let dir = tempfile::tempdir().unwrap();
    let whole = read(store.view.snapshot().unwrap(), || {});
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        if at < MAGIC_BYTES {
            continue;
        }
        let told = damage(&saved(&dir, &bytes));
        // Zeros behind the end, and the checksum, are told by where they begin.
        assert!(told <= at as u64, "byte {at} is told as {told}");
    }
    for bytes in 0..whole.len() {
        damage(&saved(&dir, &whole[..bytes]));
    }
    let longer = [&whole[..], b"0"].concat();
    assert_eq!(damage(&saved(&dir, &longer)), whole.len() as u64);
}

#[test]
fn a_file_that_is_no_snapshot_is_not_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let mut whole = read(Store::new(tiny()).view.snapshot().unwrap(), || {});
    let check = |bytes: &[u8], wanted: &StorageError| {
        let path = saved(&dir, bytes);
        assert_eq!(&inspect_snapshot(&path).unwrap_err(), wanted);
        let target = dir.path().join("restored");
        assert_eq!(
            &restore_snapshot(&path, &target, &small()).unwrap_err(),
            wanted
        );
        assert!(!target.exists());
    };
    let other = StorageError::NotSnapshot {
        path: dir.path().join("saved"),
        name: "vigilsn",
    };
    check(b"x", &other);
    check(
        b"vigil",
        &StorageError::Snapshot {
            path: dir.path().join("saved"),
            at: 0,
            reason: "it is cut short".to_owned(),
        },
    );
    // What a file of bbolt's begins with.
    let bolt = [&[0_u8; 16][..], b"\xed\xda\x0c\xed\x02\0\0\0", &[0; 4096]].concat();
    check(&bolt, &other);
    for at in 0..MAGIC_BYTES - 1 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        check(&bytes, &other);
    }
    whole[MAGIC_BYTES - 1] = 2;
    let (what, found, known) = ("snapshot", 2, 1);
    check(&whole, &StorageError::Format { what, found, known });
    let missing = dir.path().join("missing");
    let error = inspect_snapshot(&missing).unwrap_err().to_string();
    let wanted = format!(
        "cannot read the snapshot {}: No such file",
        missing.display()
    );
    assert!(error.starts_with(&wanted), "{error}");
}

#[test]
fn a_restore_that_fails_leaves_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = read(varied().view.snapshot().unwrap(), || {});
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let path = saved(&dir, &bytes);
    let target = dir.path().join("restored");
    restore_snapshot(&path, &target, &small()).unwrap_err();
    let names: Vec<_> = fs::read_dir(&dir).unwrap().collect();
    assert_eq!(names.len(), 1, "the snapshot alone: {names:?}");
}

#[test]
fn a_directory_that_holds_anything_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(&dir, &read(varied().view.snapshot().unwrap(), || {}));
    let target = dir.path().join("restored");
    let check = |full: &Path| {
        fs::create_dir(full).unwrap();
        fs::write(full.join("mine"), "data").unwrap();
        let refused = restore_snapshot(&path, &target, &small()).unwrap_err();
        assert_eq!(refused, StorageError::NotEmpty { path: full.into() });
        assert_eq!(fs::read(full.join("mine")).unwrap(), b"data");
        fs::remove_dir_all(full).unwrap();
    };
    check(&target);
    // Left by a restore that was killed, or in use by one that runs.
    check(&dir.path().join("restored.restoring"));
    fs::create_dir(&target).unwrap();
    restore_snapshot(&path, &target, &small()).unwrap();
}

/// Leases are of the snapshot's own revision, whatever happens to them while it is read.
#[test]
fn a_restored_store_has_the_leases_of_the_snapshot_and_their_keys() {
    let mut store = Store::new(small());
    for id in 1..=5000 {
        let grant = LeaseGrant {
            id: LeaseId(id),
            ttl_seconds: 60 + id,
        };
        store.apply(Write::LeaseGrant(grant)).unwrap();
    }
    for (key, lease) in [("a", 1), ("b", 5000), ("c", 5000)] {
        let put = Put {
            lease: LeaseId(lease),
            ..put_op(key, "v")
        };
        store.apply(Write::Put(put)).unwrap();
    }
    store.commit();
    let (before, snapshot) = (store.view.leases(), store.view.snapshot().unwrap());
    store.apply(Write::LeaseRevoke(LeaseId(5000))).unwrap();
    store.commit();
    let dir = tempfile::tempdir().unwrap();
    let path = saved(&dir, &read(snapshot, || {}));
    inspect_snapshot(&path).unwrap();
    let target = dir.path().join("restored");
    restore_snapshot(&path, &target, &small()).unwrap();
    let (_writer, view) = open(&target, small(), Readers::Inline).unwrap();
    assert_eq!(view.leases(), before);
    assert_eq!(view.keys_of_lease(LeaseId(5000)), ["b", "c"]);
    assert_eq!(view.keys_of_lease(LeaseId(1)), ["a"]);
}
