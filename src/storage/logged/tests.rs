//! The log and the engine behind it: nothing that was acknowledged is lost between the two.

use super::super::testing::MemoryDisk;
use super::*;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

/// Two records of one sector fill a generation.
const LOG_BYTES_MAX: u64 = 1024;

/// An engine that takes no batch while its gate is closed.
#[derive(Debug, Default)]
struct Gated {
    disk: MemoryDisk,
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gated {
    fn close_gate(&self) {
        *self.closed.lock().unwrap() = true;
    }

    fn open_gate(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }
}

impl Database for Gated {
    fn apply(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        let mut closed = self.closed.lock().unwrap();
        while *closed {
            closed = self.opened.wait(closed).unwrap();
        }
        drop(closed);
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
        self.disk.close();
    }

    fn size_bytes(&self) -> Result<u64, StorageError> {
        self.disk.size_bytes()
    }

    fn free_bytes(&self) -> Result<u64, StorageError> {
        self.disk.free_bytes()
    }
}

fn put(db: &dyn Database, number: usize) -> Result<(), StorageError> {
    let change = Change::Put(key(number), Bytes::from(format!("value{number}")));
    db.apply(vec![change])?;
    db.sync()
}

fn key(number: usize) -> Bytes {
    Bytes::from(format!("key{number:04}"))
}

fn has(db: &dyn Database, number: usize) -> bool {
    let found = db.get(&key(number)).unwrap();
    found.is_some_and(|value| value.as_ref() == format!("value{number}").as_bytes())
}

fn copy_of(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// Opens what a power cut leaves and looks for everything that was acknowledged.
fn check_after_cut(dir: &Path, disk: &MemoryDisk, acknowledged: usize) {
    let dir = copy_of(dir);
    let engine: Arc<dyn Database> = Arc::new(disk.clone());
    let db = LoggedDatabase::open(dir.path(), engine, LOG_BYTES_MAX, Readers::Inline).unwrap();
    for number in 1..=acknowledged {
        assert!(has(&db, number), "{number} of {acknowledged} is lost");
    }
}

/// The engine owes no order to what it was not told to sync: a power cut keeps any of its batches.
#[test]
fn acknowledged_changes_survive_a_power_cut_at_any_call_of_the_engine() {
    for calls in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let disk = MemoryDisk::default();
        let engine: Arc<dyn Database> = Arc::new(disk.clone());
        let db = LoggedDatabase::open(dir.path(), engine, LOG_BYTES_MAX, Readers::Inline).unwrap();
        disk.fail_after(calls);
        let acknowledged = (1..=12).take_while(|number| put(&db, *number).is_ok());
        let acknowledged = acknowledged.count();
        check_after_cut(dir.path(), &disk.after_power_cut(0), acknowledged);
        check_after_cut(dir.path(), &disk.after_power_cut(1), acknowledged);
        check_after_cut(dir.path(), &disk.after_power_cut(usize::MAX), acknowledged);
        check_after_cut(dir.path(), &disk.with_newest_unsynced(), acknowledged);
    }
}

/// How often a writer that should wait gets the chance not to.
const CHANCES: usize = 20_000;

#[test]
fn log_waits_for_a_generation_that_the_engine_has_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(Gated::default());
    let behind: Arc<dyn Database> = Arc::clone(&engine) as _;
    let readers = Readers::Threads(1);
    let db = LoggedDatabase::open(dir.path(), behind, LOG_BYTES_MAX, readers).unwrap();
    engine.close_gate();
    let acknowledged = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=5 {
                put(&db, number).unwrap();
                acknowledged.store(number, Ordering::SeqCst);
            }
        });
        // 1 and 2 fill the first generation, 3 and 4 the second; 4 has to wait, and nothing may be written after it.
        let mut chances = 0..CHANCES;
        while acknowledged.load(Ordering::SeqCst) < 5
            && (acknowledged.load(Ordering::SeqCst) < 3 || chances.next().is_some())
        {
            thread::yield_now();
        }
        let known = acknowledged.load(Ordering::SeqCst);
        let unread = (1..=known).find(|number| !has(&db, *number));
        let (left, disk) = (copy_of(dir.path()), engine.disk.after_power_cut(0));
        engine.open_gate();
        assert_eq!(unread, None, "it cannot be read on its way into the engine");
        check_after_cut(left.path(), &disk, known);
    });
    for number in 1..=5 {
        assert!(has(&db, number));
    }
    check_after_cut(dir.path(), &engine.disk.after_power_cut(0), 5);
    db.close();
}
