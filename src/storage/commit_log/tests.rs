//! The log's two files by themselves: what is read back after a crash, and what is refused.

use super::*;
use bytes::Bytes;
use tempfile::TempDir;

/// Room for a few records of some sectors.
const FILE_BYTES: u64 = 16 << 10;

/// A change whose record takes several sectors.
fn change(name: &str) -> Change {
    let key = Bytes::from(name.to_owned());
    Change::Put(key, Bytes::from(name.repeat(1000)))
}

fn write(log: &mut CommitLog, name: &str) {
    log.stage(&change(name)).unwrap();
    log.sync().unwrap();
}

fn created() -> (TempDir, CommitLog) {
    let dir = tempfile::tempdir().unwrap();
    let log = CommitLog::create(dir.path(), FILE_BYTES).unwrap();
    (dir, log)
}

/// Overwrites a sector of the file of a generation.
fn overwrite(dir: &Path, generation: u64, sector: usize) {
    let path = dir.join(turn(&FILES, generation));
    let mut bytes = fs::read(&path).unwrap();
    let at = sector * LOG_SECTOR_BYTES;
    bytes[at..at + LOG_SECTOR_BYTES].fill(0);
    fs::write(path, bytes).unwrap();
}

fn reopened(dir: &Path, settled: u64) -> Result<Vec<Change>, StorageError> {
    CommitLog::open(dir, settled).map(|(_, unsettled)| unsettled)
}

#[test]
fn two_generations_are_read_back_in_order() {
    let (dir, mut log) = created();
    write(&mut log, "a");
    write(&mut log, "b");
    log.switch();
    write(&mut log, "c");
    let all = [change("a"), change("b"), change("c")];
    assert_eq!(reopened(dir.path(), 0).unwrap(), all);
    assert_eq!(reopened(dir.path(), 1).unwrap(), [change("c")]);
    assert_eq!(reopened(dir.path(), 2).unwrap(), []);
    let (log, _) = CommitLog::open(dir.path(), 0).unwrap();
    assert_eq!(log.generation(), 3);
}

#[test]
fn torn_last_record_was_never_there() {
    let (dir, mut log) = created();
    write(&mut log, "a");
    let end = usize::try_from(log.offset).unwrap() / LOG_SECTOR_BYTES;
    write(&mut log, "b");
    // The record of "b" lost its second sector; nothing stands behind it.
    overwrite(dir.path(), 1, end + 1);
    assert_eq!(reopened(dir.path(), 0).unwrap(), [change("a")]);
}

#[test]
fn damaged_record_with_another_behind_it_is_an_error_that_names_the_file() {
    let (dir, mut log) = created();
    write(&mut log, "a");
    write(&mut log, "b");
    overwrite(dir.path(), 1, 2);
    let error = reopened(dir.path(), 0).unwrap_err().to_string();
    assert!(error.contains("commit.1.log"), "{error}");
}

#[test]
fn generation_that_is_gone_before_a_later_one_is_an_error() {
    let (dir, mut log) = created();
    write(&mut log, "a");
    log.switch();
    write(&mut log, "b");
    overwrite(dir.path(), 1, 1);
    assert!(reopened(dir.path(), 0).is_err());
}

/// A file that takes every write and can make none of them durable.
#[test]
fn record_that_cannot_be_made_durable_is_an_error() {
    let (_dir, mut log) = created();
    let nowhere = OpenOptions::new().write(true).open("/dev/null").unwrap();
    log.files[1].file = nowhere;
    log.stage(&change("a")).unwrap();
    let error = log.sync().unwrap_err().to_string();
    assert!(error.contains("sync the commit log"), "{error}");
    assert_eq!(log.bytes(), 0, "it is not taken as written");
}
