//! Where engines lie: the one in use is named durably, and whatever else is found is removed or refused.

use super::super::testing::{put, read, small};
use super::super::{Readers, StorageError, StorageLimits, Writer, open};
use crate::model::{KeyRange, RangeQuery, Revision};
use rustix::fs::{FlockOperation, flock};
use std::fs;
use std::path::Path;
use std::sync::mpsc;

fn limits() -> StorageLimits {
    StorageLimits {
        // Whatever a test's disk has left is enough.
        free_space_reserve_bytes: 0,
        lock_wait_ms_max: 0,
        ..small()
    }
}

/// A store with a few keys, closed.
fn filled(dir: &Path) {
    let (mut writer, _view) = open(dir, limits(), Readers::Inline).unwrap();
    write(&mut writer, "key", 20);
    writer.close().unwrap();
}

fn write(writer: &mut Writer, key: &str, count: usize) {
    for number in 0..count {
        writer
            .apply(&put(&format!("{key}{number}"), "value"), false)
            .unwrap();
        writer.commit().unwrap();
    }
}

fn defragment(dir: &Path) {
    let (mut writer, view) = open(dir, limits(), Readers::Threads(1)).unwrap();
    let (done, ended) = mpsc::channel();
    writer.defragment(Box::new(move |defragmented| {
        done.send(defragmented).unwrap();
    }));
    ended.recv().unwrap().unwrap();
    drop(view);
    writer.close().unwrap();
}

/// The names in a directory, without those of the log, of the checkpoints and of sled's snapshots.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names
        .filter(|name| {
            !["commit.", "index", "snap."]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        })
        .collect();
    names.sort();
    names
}

fn refused(dir: &Path) -> String {
    match open(dir, limits(), Readers::Inline) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

fn has_all(dir: &Path) {
    let (writer, view) = open(dir, limits(), Readers::Inline).unwrap();
    let (revision, answer) = read(&view, RangeQuery::latest(KeyRange::everything())).unwrap();
    assert_eq!((revision, answer.kvs.len()), (Revision(21), 20));
    writer.close().unwrap();
}

#[test]
fn each_defragmentation_leaves_one_engine_and_its_name() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    assert_eq!(names(dir.path()), ["blobs", "conf", "db", "lock"]);
    defragment(dir.path());
    assert_eq!(names(dir.path()), ["engine", "engine.1", "lock"]);
    has_all(dir.path());
    defragment(dir.path());
    assert_eq!(names(dir.path()), ["engine", "engine.2", "lock"]);
    has_all(dir.path());
}

#[test]
fn what_an_unfinished_defragmentation_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    for _ in 0..2 {
        let next = if dir.path().join("engine").exists() {
            "engine.2"
        } else {
            "engine.1"
        };
        fs::create_dir(dir.path().join(next)).unwrap();
        fs::write(dir.path().join(next).join("db"), "half of it").unwrap();
        fs::write(dir.path().join("engine.next"), "?").unwrap();
        has_all(dir.path());
        assert!(
            !names(dir.path())
                .iter()
                .any(|name| name == next || name == "engine.next")
        );
        defragment(dir.path());
    }
    // A crash before the old one was removed.
    for name in ["db", "conf"] {
        fs::write(dir.path().join(name), "the old one").unwrap();
    }
    has_all(dir.path());
    assert_eq!(names(dir.path()), ["engine", "engine.2", "lock"]);
}

#[test]
fn a_name_that_is_damaged_or_gone_is_refused_and_nothing_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    defragment(dir.path());
    let name = dir.path().join("engine");
    let written = fs::read(&name).unwrap();
    let mut damages = vec![
        Vec::new(),
        vec![0; written.len()],
        b"0\n".to_vec(),
        b"7\n".to_vec(),
    ];
    for bit in 0..8 * written.len() {
        let mut flipped = written.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        damages.push(flipped);
    }
    for damage in damages {
        fs::write(&name, &damage).unwrap();
        let said = refused(dir.path());
        let place = name.display().to_string();
        assert!(
            said.contains(&place) && said.contains("put the data directory back"),
            "{said}"
        );
    }
    fs::remove_file(&name).unwrap();
    let said = refused(dir.path());
    assert!(
        said.contains("it is missing, and there is an engine that it may have named"),
        "{said}"
    );
    fs::write(&name, &written).unwrap();
    has_all(dir.path());
}

#[test]
fn a_name_of_an_engine_that_is_gone_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    defragment(dir.path());
    fs::remove_file(dir.path().join("engine.1").join("db")).unwrap();
    let said = refused(dir.path());
    assert!(said.contains("engine.1, which has no data"), "{said}");
}

/// A disk that brings an older state back: the name is gone, and the first engine is there again.
#[test]
fn an_older_engine_is_not_taken_for_the_one_in_use() {
    let (dir, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(dir.path());
    for name in ["db", "conf"] {
        fs::copy(dir.path().join(name), old.path().join(name)).unwrap();
    }
    defragment(dir.path());
    let (mut writer, view) = open(dir.path(), limits(), Readers::Inline).unwrap();
    write(&mut writer, "later", 20_000);
    drop(view);
    writer.close().unwrap();
    fs::remove_file(dir.path().join("engine")).unwrap();
    for name in ["db", "conf"] {
        fs::copy(old.path().join(name), dir.path().join(name)).unwrap();
    }
    let said = refused(dir.path());
    assert!(said.contains("older than its log"), "{said}");
    assert!(dir.path().join("engine.1").exists(), "nothing was removed");
}

#[test]
fn damage_of_the_log_is_not_blamed_on_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    defragment(dir.path());
    let log = dir.path().join("commit.0.log");
    fs::write(&log, "short").unwrap();
    let said = refused(dir.path());
    assert!(
        said.contains(log.to_str().unwrap()) && !said.contains("engine.1"),
        "{said}"
    );
}

/// Before the name of the engine is read: whoever has the directory may replace it.
#[test]
fn whoever_has_the_lock_of_the_directory_has_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    fs::write(dir.path().join("engine"), "not read").unwrap();
    let lock = fs::File::open(dir.path().join("lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let second = open(dir.path(), limits(), Readers::Inline);
    assert!(matches!(second, Err(StorageError::Locked { .. })));
}

#[test]
fn a_directory_is_opened_once_whichever_engine_it_has() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    for _ in 0..2 {
        let (writer, view) = open(dir.path(), limits(), Readers::Inline).unwrap();
        let second = open(dir.path(), limits(), Readers::Inline);
        assert!(matches!(second, Err(StorageError::Locked { .. })));
        drop(view);
        writer.close().unwrap();
        defragment(dir.path());
    }
}
