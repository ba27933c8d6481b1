//! A generation on its way into the engine, beside the one that is being written.

use super::super::database::{Change, Database, Scan, Stored};
use super::super::logged::LoggedDatabase;
use super::super::testing::{MemoryDisk, MemoryEngines};
use super::super::{Readers, StorageError};
use super::log::{copied, image, log_limits, opened, put, remove, seen, try_open, write};
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

/// A disk that takes changes only while its gate is open.
#[derive(Clone, Debug)]
struct Gated {
    disk: MemoryDisk,
    gate: Arc<(Mutex<Gate>, Condvar)>,
    at_close: AtClose,
}

/// Done while the disk is closed.
#[derive(Clone, Default)]
struct AtClose(Arc<Mutex<Option<Closing>>>);

type Closing = Box<dyn FnOnce() + Send>;

impl fmt::Debug for AtClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtClose").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    Shut,
    /// Whoever comes to it panics.
    Broken,
}

impl Gated {
    fn new() -> Self {
        Self {
            disk: MemoryDisk::default(),
            gate: Arc::new((Mutex::new(Gate::Open), Condvar::new())),
            at_close: AtClose::default(),
        }
    }

    fn set(&self, gate: Gate) {
        *self.gate.0.lock().unwrap() = gate;
        self.gate.1.notify_all();
    }

    fn pass(&self) {
        let gate = self.gate.0.lock().unwrap();
        let gate = *self
            .gate
            .1
            .wait_while(gate, |gate| *gate == Gate::Shut)
            .unwrap();
        assert!(gate != Gate::Broken, "the test says so");
    }
}

impl Database for Gated {
    fn apply(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        self.pass();
        self.disk.apply(changes)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.disk.sync()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StorageError> {
        self.disk.get(key)
    }

    fn scan(&self, from: &[u8], until: &[u8]) -> Scan<'_> {
        self.disk.scan(from, until)
    }

    fn close(&self) {
        if let Some(closing) = self.at_close.0.lock().unwrap().take() {
            closing();
        }
    }

    fn size_bytes(&self) -> Result<u64, StorageError> {
        self.disk.size_bytes()
    }

    fn free_bytes(&self) -> Result<u64, StorageError> {
        self.disk.free_bytes()
    }
}

fn threaded(dir: &Path, disk: &Gated) -> LoggedDatabase {
    let readers = Readers::Threads(1);
    // The engine that is asked for beside it is a disk like any other.
    let (engines, _) = MemoryEngines::on(MemoryDisk::default()).open();
    let engines = (engines, Arc::new(disk.clone()) as Arc<dyn Database>);
    LoggedDatabase::open(dir, engines, &log_limits(), readers).unwrap()
}

/// As large as a generation.
fn large(digit: u8) -> String {
    char::from(digit).to_string().repeat(1800)
}

/// A log whose first generation waits at a shut gate, and whose second has begun.
fn two_generations(dir: &Path, disk: &Gated) -> LoggedDatabase {
    let db = threaded(dir, disk);
    disk.set(Gate::Shut);
    write(&db, vec![put("a", "1"), put("b", "1")]);
    write(&db, vec![put("c", &large(b'1'))]);
    write(&db, vec![put("b", "2"), remove("a"), put("d", "2")]);
    db
}

#[test]
fn readers_see_both_generations_over_the_engine() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Gated::new());
    let db = two_generations(dir.path(), &disk);
    let large = large(b'1');
    let expected = image(&[("b", "2"), ("c", large.as_str()), ("d", "2")]);
    assert_eq!(seen(&db), expected);
    assert!(db.get(b"a").unwrap().is_none());
    assert_eq!(db.get(b"b").unwrap().unwrap().as_ref(), b"2");
    assert_eq!(db.get(b"c").unwrap().unwrap().as_ref(), large.as_bytes());
    disk.set(Gate::Open);
    db.close();
    assert_eq!(seen(&disk.disk.after_power_cut(0)), expected);
}

#[test]
fn both_generations_are_replayed_in_order() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Gated::new());
    let db = two_generations(dir.path(), &disk);
    let large = large(b'1');
    let expected = image(&[("b", "2"), ("c", large.as_str()), ("d", "2")]);
    let copy = copied(dir.path());
    let after = disk.disk.after_power_cut(0);
    let again = opened(copy.path(), &after);
    assert_eq!(seen(&again), expected);
    write(&again, vec![put("e", "3")]);
    assert_eq!(
        seen(&opened(copy.path(), &after.after_power_cut(0))).len(),
        4
    );
    disk.set(Gate::Open);
    drop(db);
}

/// The second generation proves that the first one had an end.
#[test]
fn damage_at_the_end_of_a_generation_with_a_successor_is_refused() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Gated::new());
    let db = two_generations(dir.path(), &disk);
    let copy = copied(dir.path());
    let path = copy.path().join("commit.1.log");
    let mut bytes = fs::read(&path).unwrap();
    // The body of the second record.
    bytes[1024 + 100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let after = disk.disk.after_power_cut(0);
    let error = try_open(copy.path(), &after).unwrap_err().to_string();
    assert!(error.contains("commit.1.log"), "{error}");
    // Nothing was settled: it is refused the next time as well.
    try_open(copy.path(), &after).unwrap_err();
    disk.set(Gate::Open);
    drop(db);
}

#[test]
fn data_that_is_older_than_its_log_is_refused() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let db = opened(dir.path(), &disk);
    let older = disk.copy();
    for number in 0..6 {
        write(&db, vec![put("a", &large(b'0' + number))]);
    }
    db.close();
    let error = try_open(dir.path(), &older).unwrap_err().to_string();
    assert!(error.contains("older than its log"), "{error}");
}

#[test]
fn panic_of_the_engine_ends_the_store_and_not_its_writer() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Gated::new());
    let db = threaded(dir.path(), &disk);
    disk.set(Gate::Broken);
    let mut written = 0;
    let error = loop {
        // Sooner or later the writer has to wait for the generation before.
        match db
            .apply(vec![put("a", &large(b'1'))])
            .and_then(|()| db.sync())
        {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 4, "nobody has noticed");
    };
    assert!(error.to_string().contains("panicked"), "{error}");
    db.close();
    disk.set(Gate::Open);
    assert_eq!(
        seen(&opened(dir.path(), &disk.disk)),
        image(&[("a", large(b'1').as_str())])
    );
}

/// What the engine lacks is in memory alone: who reads while the store closes must not find the engine without it.
#[test]
fn layers_are_let_go_of_after_the_engine() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Gated::new());
    let db = Arc::new(threaded(dir.path(), &disk));
    write(&db, vec![put("a", "1")]);
    // So that it cannot be settled.
    disk.set(Gate::Broken);
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = Arc::clone(&db);
    *disk.at_close.0.lock().unwrap() = Some(Box::new(move || {
        sender.send(reader.get(b"a").unwrap()).unwrap();
    }));
    db.close();
    let found = receiver.try_recv().expect("the engine was closed");
    assert_eq!(found.expect("it is found").as_ref(), b"1");
    assert!(disk.get(b"a").unwrap().is_none(), "the engine lacks it");
}

#[test]
fn closed_log_takes_and_answers_nothing() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let db = opened(dir.path(), &disk);
    write(&db, vec![put("a", "1")]);
    db.close();
    db.close();
    assert_eq!(db.apply(vec![put("b", "1")]), Err(StorageError::Closed));
    assert_eq!(db.sync(), Err(StorageError::Closed));
}

#[test]
fn log_that_cannot_be_read_is_not_made_anew() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    write(&opened(dir.path(), &disk), vec![put("a", "1")]);
    let path = dir.path().join("commit.1.log");
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    try_open(dir.path(), &MemoryDisk::default()).unwrap_err();
    fs::remove_dir(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    assert_eq!(seen(&opened(dir.path(), &disk)), image(&[("a", "1")]));
}
