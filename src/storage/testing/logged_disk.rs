//! A commit log in files before a disk in memory, both of which can fail and lose power.
//!
//! The log settles on the thread that writes, so that a run of it can be repeated exactly. What its files hold of a record
//! is all of it or nothing: torn records are the crash tests'.

use super::{MemoryDisk, MemoryEngines, SyncHook};
use crate::storage::database::{Change, Database, Defragment, Scan, Stored};
use crate::storage::logged::LoggedDatabase;
use crate::storage::{ReadView, Readers, StorageError, StorageLimits, Writer, open_on};
use std::fs;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// How a sync of the log fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFault {
    /// Nothing reaches the file.
    Unwritten,
    /// The record is in the file, and the writer is told of an error.
    Written,
}

/// What a power cut leaves of the batches behind the log that are not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// So many of the oldest.
    Oldest(usize),
    /// Only the newest.
    Newest,
}

#[derive(Debug, Default)]
struct Failing {
    /// How the log fails, and after how many more syncs.
    due: Option<(LogFault, usize)>,
    failed_syncs: usize,
}

/// A disk in memory with a commit log before it.
pub(crate) struct LoggedDisk {
    engines: MemoryEngines,
    dir: TempDir,
    failing: Arc<Mutex<Failing>>,
    while_syncing: Arc<Mutex<Option<SyncHook>>>,
}

impl Default for LoggedDisk {
    fn default() -> Self {
        Self::on(MemoryDisk::default())
    }
}

impl LoggedDisk {
    fn on(disk: MemoryDisk) -> Self {
        Self {
            engines: MemoryEngines::on(disk),
            dir: tempfile::tempdir().unwrap(),
            failing: Arc::default(),
            while_syncing: Arc::default(),
        }
    }

    /// The disk behind the log.
    pub(crate) fn disk(&self) -> MemoryDisk {
        self.engines.chosen()
    }

    /// Lets this many more syncs of the log succeed; every later one fails.
    pub(crate) fn fail_after(&self, syncs: usize, fault: LogFault) {
        self.failing.lock().unwrap().due = Some((fault, syncs));
    }

    /// How many syncs have failed, of the log and of the disk behind it.
    pub(crate) fn failed_syncs(&self) -> usize {
        self.failing.lock().unwrap().failed_syncs + self.disk().failed_syncs()
    }

    /// Does this during every sync: before a record is durable, and while a generation is on its way to the disk.
    pub(crate) fn while_syncing(&self, hook: impl Fn() + Send + Sync + 'static) {
        let hook: SyncHook = Arc::new(hook);
        *self.while_syncing.lock().unwrap() = Some(Arc::clone(&hook));
        self.engines.while_syncing(hook);
    }

    /// What is left after a power cut: the log, everything durable behind it, and some of what was not.
    pub(crate) fn after_power_cut(&self, kept: Kept) -> Self {
        let after = Self::on(match kept {
            Kept::Oldest(batches) => self.disk().after_power_cut(batches),
            Kept::Newest => self.disk().with_newest_unsynced(),
        });
        for entry in fs::read_dir(self.dir.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), after.dir.path().join(entry.file_name())).unwrap();
        }
        after
    }

    /// A store on it, read by whoever asks.
    pub(crate) fn open(&self, limits: StorageLimits) -> Result<(Writer, ReadView), StorageError> {
        let dir = self.dir.path();
        let log = LoggedDatabase::open(dir, self.engines.open(), &limits, Readers::Inline)?;
        let db = FailingLog {
            log,
            failing: Arc::clone(&self.failing),
            while_syncing: Arc::clone(&self.while_syncing),
        };
        open_on(Arc::new(db), Some(dir), limits, Readers::Inline)
    }
}

/// A log whose syncs fail when they are told to.
struct FailingLog {
    log: LoggedDatabase,
    failing: Arc<Mutex<Failing>>,
    while_syncing: Arc<Mutex<Option<SyncHook>>>,
}

impl std::fmt::Debug for FailingLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FailingLog")
    }
}

impl FailingLog {
    /// The fault that strikes now, if one does.
    fn strikes(&self) -> Option<LogFault> {
        let mut failing = self.failing.lock().unwrap();
        let (fault, left) = failing.due.as_mut()?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let fault = *fault;
        failing.failed_syncs += 1;
        Some(fault)
    }
}

impl Database for FailingLog {
    fn close(&self) {
        self.log.close();
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        self.log.apply(changes)
    }

    fn sync(&self) -> Result<(), StorageError> {
        let hook = self.while_syncing.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook();
        }
        let fault = self.strikes();
        if fault != Some(LogFault::Unwritten) {
            self.log.sync()?;
        }
        match fault {
            None => Ok(()),
            Some(_) => Err(StorageError::disk("sync", "the test says so")),
        }
    }

    fn defragment(&self, order: Defragment) {
        self.log.defragment(order);
    }

    fn pass(&self) -> bool {
        self.log.pass()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StorageError> {
        self.log.get(key)
    }

    fn scan(&self, from: &[u8], until: &[u8]) -> Scan<'_> {
        self.log.scan(from, until)
    }

    fn size_bytes(&self) -> Result<u64, StorageError> {
        self.log.size_bytes()
    }

    fn free_bytes(&self) -> Result<u64, StorageError> {
        self.log.free_bytes()
    }
}
