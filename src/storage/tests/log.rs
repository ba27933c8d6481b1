//! The commit log: what is durable in it alone is served, survives, and gets into the engine; damage is told from a torn
//! end.

use super::super::codec::LOG_SECTOR_BYTES;
use super::super::database::{Change, Database, Stored};
use super::super::logged::LoggedDatabase;
use super::super::testing::{MemoryDisk, MemoryEngines, tiny};
use super::super::{Readers, StorageError, StorageLimits};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub(super) type Image = BTreeMap<Vec<u8>, Vec<u8>>;

/// So small that a few batches fill a generation.
pub(super) const LOG_BYTES_MAX: u64 = 5 * LOG_SECTOR_BYTES as u64;

pub(super) fn log_limits() -> StorageLimits {
    StorageLimits {
        log_bytes_max: LOG_BYTES_MAX,
        ..tiny()
    }
}

pub(super) fn try_open(dir: &Path, disk: &MemoryDisk) -> Result<LoggedDatabase, StorageError> {
    let engines = MemoryEngines::on(disk.clone()).open();
    LoggedDatabase::open(dir, engines, &log_limits(), Readers::Inline)
}

pub(super) fn opened(dir: &Path, disk: &MemoryDisk) -> LoggedDatabase {
    try_open(dir, disk).unwrap()
}

pub(super) fn put(key: &str, value: &str) -> Change {
    Change::Put(Bytes::from(key.to_owned()), Bytes::from(value.to_owned()))
}

pub(super) fn remove(key: &str) -> Change {
    Change::Remove(Bytes::from(key.to_owned()))
}

pub(super) fn write(db: &LoggedDatabase, changes: Vec<Change>) {
    db.apply(changes).unwrap();
    db.sync().unwrap();
}

/// Everything between two keys, as a reader sees it.
fn seen_between(db: &dyn Database, from: &[u8], until: &[u8]) -> Image {
    let pair = |item: Result<(Stored, Stored), StorageError>| {
        let (key, value) = item.unwrap();
        (key.as_ref().to_vec(), value.as_ref().to_vec())
    };
    let pairs: Vec<_> = db.scan(from, until).map(pair).collect();
    assert!(pairs.is_sorted_by(|(low, _), (high, _)| low < high));
    pairs.into_iter().collect()
}

pub(super) fn seen(db: &dyn Database) -> Image {
    seen_between(db, &[0], &[0xff])
}

pub(super) fn image(pairs: &[(&str, &str)]) -> Image {
    let own = |(key, value): &(&str, &str)| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    pairs.iter().map(own).collect()
}

/// A copy of a directory, as a crash would leave it.
pub(super) fn copied(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn batch_is_durable_before_the_engine_has_it() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let db = opened(dir.path(), &disk);
    let calls = disk.calls();
    write(&db, vec![put("a", "1"), put("b", "2")]);
    write(&db, vec![remove("a"), put("c", "3")]);
    assert_eq!(disk.calls(), calls, "the engine was not called");
    let expected = image(&[("b", "2"), ("c", "3")]);
    assert_eq!(seen(&db), expected);
    let after = opened(copied(dir.path()).path(), &disk.after_power_cut(0));
    assert_eq!(seen(&after), expected);
}

#[test]
fn batch_is_not_seen_before_it_is_durable() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let db = opened(dir.path(), &disk);
    db.apply(vec![put("a", "1")]).unwrap();
    assert!(db.get(b"a").unwrap().is_none());
    db.sync().unwrap();
    assert!(db.get(b"a").unwrap().is_some());
}

#[test]
fn power_cut_between_any_two_calls_loses_nothing_durable() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let db = opened(dir.path(), &disk);
    let mut expected = Image::new();
    for number in 0..60 {
        let (key, value) = (format!("key{}", number % 7), format!("{number:0300}"));
        write(&db, vec![put(&key, &value), remove("key3")]);
        expected.insert(key.into_bytes(), value.into_bytes());
        expected.remove(b"key3".as_slice());
        for kept in 0..3 {
            let after = disk.after_power_cut(kept);
            let copy = copied(dir.path());
            assert_eq!(seen(&opened(copy.path(), &after)), expected);
            // What was replayed is in the engine, so that the log can begin anew.
            let again = after.after_power_cut(0);
            assert_eq!(seen(&opened(copy.path(), &again)), expected);
        }
    }
    assert!(disk.calls().1 > 20, "the log has begun anew many times");
}

/// A disk that stops taking calls half-way through a generation leaves the log as it is.
#[test]
fn power_cut_at_any_call_of_settling_loses_nothing_durable() {
    for calls in 0..8 {
        let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
        let db = opened(dir.path(), &disk);
        write(&db, vec![put("old", "1")]);
        disk.fail_after(calls);
        let mut expected = image(&[("old", "1")]);
        for number in 0..12 {
            let (key, value) = (format!("key{number:02}"), "x".repeat(600));
            let written = db.apply(vec![put(&key, &value)]).and_then(|()| db.sync());
            if written.is_err() {
                // It was durable in the log when the engine failed, or it was never taken.
                let copy = opened(copied(dir.path()).path(), &disk.after_power_cut(0));
                let mut also = expected.clone();
                also.insert(key.into_bytes(), value.into_bytes());
                let found = seen(&copy);
                assert!(found == expected || found == also);
                db.apply(vec![put("late", "1")]).unwrap_err();
                break;
            }
            expected.insert(key.into_bytes(), value.into_bytes());
        }
        db.close();
        // Of what was not synced the newest alone may have got to the disk.
        for after in [disk.after_power_cut(0), disk.with_newest_unsynced()] {
            let copy = copied(dir.path());
            let found = seen(&opened(copy.path(), &after));
            let kept = |(key, value): (&Vec<u8>, &Vec<u8>)| found.get(key) == Some(value);
            assert!(expected.iter().all(kept), "cut at call {calls}");
        }
    }
}

#[test]
fn torn_end_is_dropped_and_nothing_else() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let db = opened(dir.path(), &disk);
    write(&db, vec![put("a", "1")]);
    let path = dir.path().join("commit.1.log");
    let before = fs::read(&path).unwrap();
    write(&db, vec![put("b", &"x".repeat(700))]);
    let after = fs::read(&path).unwrap();
    let begin = 2 * LOG_SECTOR_BYTES;
    // Any of its two sectors may have got to the disk without the other.
    for sectors in [[false, false], [true, false], [false, true]] {
        let mut torn = before.clone();
        for (number, _) in (0..).zip(sectors).filter(|(_, kept)| *kept) {
            let at = begin + number * LOG_SECTOR_BYTES;
            let sector = at..at + LOG_SECTOR_BYTES;
            torn[sector.clone()].copy_from_slice(&after[sector]);
        }
        let copy = copied(dir.path());
        fs::write(copy.path().join("commit.1.log"), &torn).unwrap();
        let disk = disk.copy();
        let db = opened(copy.path(), &disk);
        assert_eq!(seen(&db), image(&[("a", "1")]));
        write(&db, vec![put("c", "3")]);
        let again = opened(copied(copy.path()).path(), &disk);
        assert!(again.get(b"b").unwrap().is_none());
    }
}

#[test]
fn damage_before_the_end_is_refused_by_name() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let db = opened(dir.path(), &disk);
    for key in ["a", "b", "c"] {
        write(&db, vec![put(key, "1")]);
    }
    let path = dir.path().join("commit.1.log");
    let good = fs::read(&path).unwrap();
    for at in [
        0, 9, 17, 25, 512, 516, 520, 530, 545, 1024, 1030, 1040, 1055,
    ] {
        let copy = copied(dir.path());
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(copy.path().join("commit.1.log"), &bytes).unwrap();
        let error = try_open(copy.path(), &disk.copy()).unwrap_err().to_string();
        assert!(error.contains("commit.1.log"), "{at}: {error}");
    }
}

#[test]
fn missing_short_and_empty_files_are_refused_by_name() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    drop(opened(dir.path(), &disk));
    for name in ["commit.0.log", "commit.1.log"] {
        let good = fs::read(dir.path().join(name)).unwrap();
        let zeros = vec![0; good.len()];
        for left in [
            None,
            Some(&good[..0]),
            Some(&good[..20]),
            Some(&good[..700]),
            Some(&zeros),
        ] {
            let copy = copied(dir.path());
            let path = copy.path().join(name);
            match left {
                None => fs::remove_file(&path).unwrap(),
                Some(bytes) => fs::write(&path, bytes).unwrap(),
            }
            let error = try_open(copy.path(), &disk.copy()).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}

#[test]
fn log_without_its_data_is_refused() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    write(&opened(dir.path(), &disk), vec![put("a", "1")]);
    let error = try_open(dir.path(), &MemoryDisk::default()).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
}

#[test]
fn store_that_died_before_its_log_was_made_opens() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    drop(opened(dir.path(), &disk));
    fs::write(dir.path().join("commit.1.log"), b"vig").unwrap();
    write(
        &opened(dir.path(), &MemoryDisk::default()),
        vec![put("a", "1")],
    );
}

#[test]
fn close_leaves_everything_in_the_engine() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let db = opened(dir.path(), &disk);
    write(&db, vec![put("a", "1")]);
    db.close();
    assert_eq!(seen(&disk.after_power_cut(0)), image(&[("a", "1")]));
    let syncs = disk.calls().1;
    opened(dir.path(), &disk).close();
    assert_eq!(disk.calls().1, syncs, "there was nothing to do");
}

/// A put that carries what a record looks like is a value and nothing else.
#[test]
fn value_that_looks_like_a_record_is_not_replayed() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let db = opened(dir.path(), &disk);
    write(&db, vec![put("a", "1")]);
    let log = fs::read(dir.path().join("commit.1.log")).unwrap();
    let mut forged = log[LOG_SECTOR_BYTES..2 * LOG_SECTOR_BYTES].to_vec();
    forged[20..28].copy_from_slice(&9_u64.to_be_bytes());
    // Not even a forger who knows the format knows the salt.
    let body_bytes = u32::from_be_bytes(forged[8..12].try_into().unwrap()) as usize;
    let body_crc = crc32fast::hash(&forged[28..28 + body_bytes]).to_be_bytes();
    forged[4..8].copy_from_slice(&body_crc);
    let crc = crc32fast::hash(&forged[4..28]).to_be_bytes();
    forged[..4].copy_from_slice(&crc);
    // So much before it that it begins with a sector: the head, the change's tag, its key and the length of the value.
    let before = LOG_SECTOR_BYTES - (28 + 4 + 8 + 1 + 8);
    let value: Bytes = [vec![0; before], forged].concat().into();
    db.apply(vec![Change::Put(Bytes::from_static(b"b"), value)])
        .unwrap();
    db.sync().unwrap();
    // The end is torn, and behind it stands what the client has put.
    let path = dir.path().join("commit.1.log");
    let mut torn = fs::read(&path).unwrap();
    torn[2 * LOG_SECTOR_BYTES] ^= 1;
    fs::write(&path, torn).unwrap();
    assert_eq!(seen(&opened(dir.path(), &disk)), image(&[("a", "1")]));
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, Option<u8>)>),
    Reopen,
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0..12_u8, proptest::option::of(any::<u8>()));
    prop_oneof![
        8 => proptest::collection::vec(change, 1..5).prop_map(Step::Write),
        1 => Just(Step::Reopen),
        1 => Just(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn log_and_engine_together_are_one_map(steps in proptest::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = MemoryDisk::default();
        let mut db = opened(dir.path(), &disk);
        let mut model = Image::new();
        for step in steps {
            match step {
                Step::Write(changes) => {
                    let mut batch = Vec::new();
                    for (key, value) in changes {
                        let key = vec![b'k', key];
                        if let Some(value) = value {
                            model.insert(key.clone(), vec![value; 200]);
                            batch.push(Change::Put(key.into(), vec![value; 200].into()));
                        } else {
                            model.remove(&key);
                            batch.push(Change::Remove(key.into()));
                        }
                    }
                    write(&db, batch);
                }
                Step::Reopen => {
                    db.close();
                    db = opened(dir.path(), &disk);
                }
                Step::Cut => {
                    disk = disk.after_power_cut(0);
                    db = opened(dir.path(), &disk);
                }
            }
            prop_assert_eq!(&seen(&db), &model);
            for key in 0..12 {
                let key = vec![b'k', key];
                let found = db.get(&key).unwrap().map(|value| value.as_ref().to_vec());
                prop_assert_eq!(found.as_ref(), model.get(&key));
            }
            let part = model.range(vec![b'k', 3]..vec![b'k', 9]);
            let part: Image = part.map(|(key, value)| (key.clone(), value.clone())).collect();
            prop_assert_eq!(seen_between(&db, &[b'k', 3], &[b'k', 9]), part);
        }
    }
}
