//! The small face behind which the engine stands, and the one file that names sled.
//!
//! It never knows what the bytes mean. It never uses `transaction` or `flush_async`, and it never takes a flush for
//! durable: sled's `flush` issues no fsync, so the data file is synced here. `durable_writes.c` sees that what sled itself
//! takes for stable is durable. It never syncs again what a sync has failed for: the system may have given that up. It
//! never waits in sled for a write that has failed.

mod waking;

use self::waking::wake_meanwhile;
use super::directory::{create_directory, directory, sync_directory};
use super::engine_files::{
    self, DATA_FILE, SETTINGS_FILE, SNAPSHOT_PREFIX, SNAPSHOT_UNFINISHED, damaged,
};
use super::{StorageError, StorageLimits};
use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

/// Large enough that a leaf of 16 pieces of 64 KiB stays under a quarter of it: above that sled would write a blob
/// file, and it never syncs those (D2).
const SEGMENT_BYTES: usize = 8 << 20;
/// How long one wait for another process's lock is, in milliseconds.
pub(super) const LOCK_RETRY_MS: u64 = 50;
/// How long one wait for sled's own threads to let go of the lock is, in milliseconds, and how many there are.
const LOCK_RELEASE_MS: u64 = 1;
const LOCK_RELEASE_TRIES: u32 = 2_000;

/// Why an engine alone is not defragmented.
pub(crate) const NO_LOG: &str = "there is no log before it";

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// Writes a record.
    Put(Bytes, Bytes),
    /// Removes a record.
    Remove(Bytes),
}

/// Bytes that came from the disk, or are on their way to it.
#[derive(Clone)]
pub(crate) struct Stored(StoredBytes);

#[derive(Clone)]
enum StoredBytes {
    Engine(sled::IVec),
    Memory(Bytes),
}

impl From<Bytes> for Stored {
    fn from(bytes: Bytes) -> Self {
        Self(StoredBytes::Memory(bytes))
    }
}

impl From<sled::IVec> for Stored {
    fn from(bytes: sled::IVec) -> Self {
        Self(StoredBytes::Engine(bytes))
    }
}

impl AsRef<[u8]> for Stored {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            StoredBytes::Engine(bytes) => bytes,
            StoredBytes::Memory(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored({} bytes)", self.as_ref().len())
    }
}

/// The records of a range in key order.
pub(crate) type Scan<'a> = Box<dyn Iterator<Item = Result<(Stored, Stored), StorageError>> + 'a>;

/// An ordered map of bytes on a disk.
pub(crate) trait Database: fmt::Debug + Send + Sync {
    /// Applies all changes or none. Readers may see them before they are durable.
    fn apply(&self, changes: Vec<Change>) -> Result<(), StorageError>;
    /// Makes everything applied so far durable.
    fn sync(&self) -> Result<(), StorageError>;
    /// One record.
    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StorageError>;
    /// The records from `from` up to but without `until`. Not a snapshot: the caller bounds it (L7).
    fn scan(&self, from: &[u8], until: &[u8]) -> Scan<'_>;
    /// Lets go of the files and of their lock; whoever still reads is told that the store is closed.
    fn close(&self);
    /// What the data takes on the disk, in bytes.
    fn size_bytes(&self) -> Result<u64, StorageError>;
    /// What the disk still has, in bytes.
    fn free_bytes(&self) -> Result<u64, StorageError>;
    /// Lets go of the files without a care for what is in them: they are about to be removed.
    fn discard(&self) {
        self.close();
    }
    /// Gives back what is not used of the disk's space, beside reads and writes. What is copied has to have every change as
    /// well, and only a log before the engine knows them.
    fn defragment(&self, order: Defragment) {
        (order.done)(Err(StorageError::disk("defragment", NO_LOG)));
    }
    /// Does a part of what was asked for, where there is no thread for it; true if there is more for whoever calls this.
    fn pass(&self) -> bool {
        false
    }
    /// The file that the records lie in, for errors; nothing where there is none.
    fn data_path(&self) -> Option<PathBuf> {
        None
    }
}

/// The order to give back what is not used.
pub(crate) struct Defragment {
    /// How much has to stay free meanwhile, in bytes: below it the work is given up.
    pub free_bytes_min: u64,
    /// Called when the space is back, or will not be.
    pub done: Defragmented,
}

/// Called when a defragmentation has ended.
pub type Defragmented = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

impl fmt::Debug for Defragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Defragment").finish_non_exhaustive()
    }
}

/// The shipped engine.
pub(crate) struct SledDatabase {
    /// Gone once it is closed, so that its lock is free though readers may still hold this face.
    db: RwLock<Option<sled::Db>>,
    /// A handle of our own on sled's data file: any handle of a file syncs all of it.
    data_file: File,
    data_path: PathBuf,
    dir: PathBuf,
    /// What was written before a call that failed may never reach the disk.
    has_failed: AtomicBool,
    /// An engine that has panicked may wait for ever at its end.
    has_panicked: AtomicBool,
}

impl fmt::Debug for SledDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledDatabase")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl SledDatabase {
    /// Opens or creates the data in `dir`.
    pub(crate) fn open(dir: &Path, limits: &StorageLimits) -> Result<Self, StorageError> {
        create_directory(dir)?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(limits.page_cache_bytes_max)
            .segment_size(SEGMENT_BYTES)
            .use_compression(false)
            .flush_every_ms(None);
        let db = open_patiently(&config, dir, limits.lock_wait_ms_max)?;
        let data_file = File::open(dir.join(DATA_FILE)).map_err(|error| directory(dir, &error))?;
        // sled reads its settings before anything else, and never syncs them.
        File::open(dir.join(SETTINGS_FILE))
            .and_then(|settings| settings.sync_all())
            .map_err(|error| directory(dir, &error))?;
        sync_directory(dir)?;
        Ok(Self {
            db: RwLock::new(Some(db)),
            data_file,
            data_path: dir.join(DATA_FILE),
            dir: dir.to_path_buf(),
            has_failed: AtomicBool::new(false),
            has_panicked: AtomicBool::new(false),
        })
    }

    fn db(&self) -> Result<sled::Db, StorageError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        db.clone().ok_or(StorageError::Closed)
    }
}

/// Opens, waiting for the lock of a process that has only just died.
fn open_patiently(
    config: &sled::Config,
    dir: &Path,
    wait_ms_max: u64,
) -> Result<sled::Db, StorageError> {
    let mut waited_ms = 0;
    loop {
        clear_leftovers(dir)?;
        // Of some damage sled says so by a panic.
        let opened = panic::catch_unwind(AssertUnwindSafe(|| config.open()));
        let error = match opened {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(error)) => error,
            Err(_) => return Err(damaged(&dir.join(DATA_FILE), "the engine cannot read it")),
        };
        // sled gives the lock's own error no kind, only this text.
        if !error.to_string().contains("could not acquire lock") {
            return Err(match error {
                sled::Error::Io(error) if !is_damage(&error) => {
                    engine_files::distrust(dir);
                    directory(dir, &error)
                }
                error => unreadable(dir, &error),
            });
        }
        if waited_ms >= wait_ms_max {
            return Err(StorageError::Locked {
                path: dir.to_path_buf(),
            });
        }
        pause(LOCK_RETRY_MS);
        waited_ms += LOCK_RETRY_MS;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "opening is blocking by contract and happens before any arbiter runs; so is the thread that settles"
)]
/// Blocks this thread.
pub(super) fn pause(wait_ms: u64) {
    std::thread::sleep(Duration::from_millis(wait_ms));
}

/// Removes what a killed process left half-written and sled would take for damage, for ever: a snapshot that has not
/// got its name yet, and settings without data. Then sees that the rest is not damaged.
fn clear_leftovers(dir: &Path) -> Result<(), StorageError> {
    match remove_leftovers(dir) {
        Ok(true) => engine_files::check(dir, SEGMENT_BYTES),
        Ok(false) => Ok(()),
        Err(error) => Err(directory(dir, &error)),
    }
}

/// Answers whether nobody else has the directory open.
fn remove_leftovers(dir: &Path) -> io::Result<bool> {
    let data = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(dir.join(DATA_FILE))?;
    // The lock that sled takes. Whoever holds it may still be writing those files.
    if flock(&data, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(SNAPSHOT_PREFIX) && name.ends_with(SNAPSHOT_UNFINISHED) {
            log::warn!("{name} was never finished and is removed");
            fs::remove_file(entry.path())?;
        }
    }
    engine_files::write_again_if_distrusted(dir)?;
    let settings = dir.join(SETTINGS_FILE);
    if data.metadata()?.len() == 0 && settings.exists() {
        fs::remove_file(settings)?;
    }
    Ok(true)
}

impl SledDatabase {
    /// A call of the engine's. Of some damage it says so by a panic, which ends as an error here.
    fn call<T>(
        &self,
        doing: &'static str,
        call: impl FnOnce() -> sled::Result<T>,
    ) -> Result<T, StorageError> {
        match panic::catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.error(doing, error)),
            Err(_) => {
                self.has_panicked.store(true, Ordering::SeqCst);
                self.fail();
                Err(damaged(&self.data_path, "the engine panicked over it"))
            }
        }
    }

    fn error(&self, doing: &'static str, error: sled::Error) -> StorageError {
        match error {
            error @ sled::Error::Corruption { .. } => unreadable(&self.dir, &error),
            sled::Error::Io(error) if is_damage(&error) => {
                unreadable(&self.dir, &sled::Error::Io(error))
            }
            error => {
                self.fail();
                StorageError::disk(doing, error)
            }
        }
    }

    /// After a call that failed nothing more is written, and whoever opens next does not believe what can be read.
    fn fail(&self) {
        if !self.has_failed.swap(true, Ordering::SeqCst) {
            engine_files::distrust(&self.dir);
        }
        // A call that finds that another one's write has failed may keep that from those who wait for its own.
        if let Ok(db) = self.db() {
            wake_if_failed(&db);
        }
    }

    fn take(&self) -> Option<sled::Db> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        db.take()
    }

    /// Lets go of the engine; true if it is gone. It would write and sync as it is let go of: after a failure it is left as it
    /// is, with its lock, until the process ends.
    fn let_go(&self, db: sled::Db) -> bool {
        // What the engine would write at its end is written before: if that fails there it may wait for ever.
        let is_well =
            !self.has_failed.load(Ordering::SeqCst) && self.call("flush", || flush(&db)).is_ok();
        if !is_well {
            never_let_go(db);
            return false;
        }
        // It panics if its last sync fails, on which nobody relies.
        let is_gone = panic::catch_unwind(AssertUnwindSafe(|| drop(db))).is_ok();
        if !is_gone {
            log::error!("the last sync of {} failed", self.data_path.display());
            self.fail();
        }
        is_gone
    }
}

impl Drop for SledDatabase {
    fn drop(&mut self) {
        if let Some(db) = self.take() {
            self.let_go(db);
        }
    }
}

/// Has sled write all that it was given, and returns once it is written or a write has failed.
fn flush(db: &sled::Db) -> sled::Result<usize> {
    wake_meanwhile(|| wake_if_failed(db), || db.flush())
}

/// Wakes everybody who waits for a write in sled, if one has failed.
fn wake_if_failed(db: &sled::Db) {
    if db.context.global_error().is_err() {
        // Where an error is noted this wakes all and returns, and takes none of the locks that a flush is made under.
        let _ = db.context.pagecache.log.make_stable(i64::MAX);
    }
}

/// Keeps the engine from whatever it does at its end.
fn never_let_go(db: sled::Db) {
    let _kept = ManuallyDrop::new(db);
}

/// What the engine says of a file that ends too early, or holds what it cannot be.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
    )
}

/// An error that names the data file and, if the engine knows, the place in it.
fn unreadable(dir: &Path, error: &sled::Error) -> StorageError {
    let reason = match error {
        sled::Error::Corruption { at: Some(at), .. } => {
            format!("the engine found damage at {at}")
        }
        sled::Error::Corruption { at: None, .. } => "the engine found damage".to_owned(),
        error => error.to_string(),
    };
    damaged(&dir.join(DATA_FILE), &reason)
}

impl Database for SledDatabase {
    fn apply(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        let mut batch = sled::Batch::default();
        for change in changes {
            match change {
                Change::Put(key, value) => batch.insert(&key[..], &value[..]),
                Change::Remove(key) => batch.remove(&key[..]),
            }
        }
        let db = self.db()?;
        self.call("apply a batch", || db.apply_batch(batch))
    }

    fn sync(&self) -> Result<(), StorageError> {
        let db = self.db()?;
        self.call("flush", || flush(&db))?;
        self.data_file.sync_data().map_err(|error| {
            self.fail();
            StorageError::disk("sync the data file", error)
        })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StorageError> {
        let db = self.db()?;
        let found = self.call("read a record", || db.get(key))?;
        Ok(found.map(Stored::from))
    }

    fn scan(&self, from: &[u8], until: &[u8]) -> Scan<'_> {
        let mut records = match self.db() {
            Ok(db) => db.range(from..until),
            Err(closed) => return Box::new(std::iter::once(Err(closed))),
        };
        let mut failed = false;
        Box::new(std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let next = self.call("scan records", || records.next().transpose());
            failed = next.is_err();
            let record = |(key, value): (sled::IVec, sled::IVec)| (key.into(), value.into());
            next.transpose().map(|next| next.map(record))
        }))
    }

    fn close(&self) {
        let is_free = self.take().is_some_and(|db| self.let_go(db));
        if !is_free {
            return;
        }
        // A thread of sled's that is still at work holds the lock for a moment longer.
        for _ in 0..LOCK_RELEASE_TRIES {
            if flock(&self.data_file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                break;
            }
            pause(LOCK_RELEASE_MS);
        }
        // Whether it was got or not, nobody holds it from here on: the file goes with this face.
        let _ = flock(&self.data_file, FlockOperation::Unlock);
    }

    fn size_bytes(&self) -> Result<u64, StorageError> {
        self.data_file
            .metadata()
            .map(|metadata| metadata.len())
            .map_err(|error| StorageError::disk("look at the data file", error))
    }

    fn free_bytes(&self) -> Result<u64, StorageError> {
        rustix::fs::statvfs(&self.dir)
            .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
            .map_err(|error| StorageError::disk("look at the free space", error))
    }

    fn discard(&self) {
        let Some(db) = self.take() else {
            return;
        };
        // As in `let_go`.
        let _ = self.call("flush", || flush(&db));
        if self.has_panicked.load(Ordering::SeqCst) {
            return never_let_go(db);
        }
        // Whatever the engine has to say at its end, nobody needs it.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(db)));
    }

    fn data_path(&self) -> Option<PathBuf> {
        Some(self.data_path.clone())
    }
}
