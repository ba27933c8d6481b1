//! Where engines lie in a data directory: one is in use, and a defragmentation makes another beside it.
//!
//! A file names the one in use and is replaced by a rename: whatever a crash leaves, it names one that is whole. It never
//! removes an engine before the one in use was opened, and never guesses which one that is.

use super::database::{Database, LOCK_RETRY_MS, SledDatabase, pause};
use super::directory::{create_directory, directory, sync_directory};
use super::engine_files::{self, damaged};
use super::{StorageError, StorageLimits};
use crate::fault::{self, Fault};
use rustix::fs::{FlockOperation, flock};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Names the engine in use. Without it that is the one in the data directory itself, the first of every store.
const NAME_FILE: &str = "engine";
/// The same for the engine that is made, until it is whole.
const NEXT_NAME_FILE: &str = "engine.next";
/// What the directories of engines begin with; their number follows.
const DIRECTORY_PREFIX: &str = "engine.";
/// Whoever has the data directory open holds the lock of this file: an engine's own lock goes with the engine.
const LOCK_FILE: &str = "lock";

/// The engines of one store.
pub(crate) trait Engines: fmt::Debug + Send + Sync {
    /// Makes an empty engine beside the one in use.
    fn make(&self) -> Result<Arc<dyn Database>, StorageError>;
    /// Has the engine that was made last be the one that is opened from now on. After an error nobody knows which it is.
    fn choose_made(&self) -> Result<(), StorageError>;
    /// Removes all engines but the one in use. Nobody has them open any more.
    fn remove_others(&self);
    /// Lets others open the data directory.
    fn release(&self);
}

/// An engine in use, and where others can be made beside it.
pub(crate) type Opened = (Arc<dyn Engines>, Arc<dyn Database>);

/// The shipped engines.
#[derive(Debug)]
pub(crate) struct SledEngines {
    dir: PathBuf,
    limits: StorageLimits,
    /// Which is in use.
    number: AtomicU64,
    lock: Mutex<Option<File>>,
}

impl SledEngines {
    /// Opens the engine in use, or makes the first one.
    pub(crate) fn open(dir: &Path, limits: &StorageLimits) -> Result<Opened, StorageError> {
        create_directory(dir)?;
        // Before anybody looks which engine it is: whoever has the directory may replace it.
        let lock = lock(dir, limits.lock_wait_ms_max)?;
        let number = named(dir)?;
        if number > 0 {
            // The sync behind its rename may have failed, and the system may have forgotten that.
            write_name(dir, number)?;
            rename_next(dir)?;
        }
        let engine = SledDatabase::open(&engine_dir(dir, number), limits)?;
        let engines = Self {
            dir: dir.to_path_buf(),
            limits: limits.clone(),
            number: AtomicU64::new(number),
            lock: Mutex::new(Some(lock)),
        };
        Ok((Arc::new(engines), Arc::new(engine)))
    }

    fn number(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }
}

impl Engines for SledEngines {
    fn make(&self) -> Result<Arc<dyn Database>, StorageError> {
        let number = self.number() + 1;
        let made = engine_dir(&self.dir, number);
        remove(&made).map_err(|error| directory(&made, &error))?;
        let engine = SledDatabase::open(&made, &self.limits)?;
        // Now, so that nothing is left to do at the end but to rename it: a full disk must not meet a choice half made.
        write_name(&self.dir, number)?;
        Ok(Arc::new(engine))
    }

    fn choose_made(&self) -> Result<(), StorageError> {
        rename_next(&self.dir)?;
        self.number.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn remove_others(&self) {
        let others = match others(&self.dir, self.number()) {
            Ok(others) => others,
            Err(error) => return log::warn!("engines that are not in use stay: {error}"),
        };
        for other in others {
            if let Err(error) = remove(&other) {
                log::warn!("{} is not in use, and stays: {error}", other.display());
            }
        }
    }

    fn release(&self) {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        *lock = None;
    }
}

/// Waits for the lock of a process that has only just died.
fn lock(dir: &Path, wait_ms_max: u64) -> Result<File, StorageError> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| directory(&path, &error))?;
    let mut waited_ms = 0;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if waited_ms >= wait_ms_max {
            return Err(StorageError::Locked {
                path: dir.to_path_buf(),
            });
        }
        pause(LOCK_RETRY_MS);
        waited_ms += LOCK_RETRY_MS;
    }
    Ok(file)
}

fn engine_dir(dir: &Path, number: u64) -> PathBuf {
    match number {
        0 => dir.to_path_buf(),
        number => dir.join(format!("{DIRECTORY_PREFIX}{number}")),
    }
}

/// What the file holds that names an engine: the number and a checksum of it, a line each.
fn name(number: u64) -> Vec<u8> {
    let number = number.to_string();
    let crc = crc32fast::hash(number.as_bytes());
    format!("{number}\n{crc:08x}\n").into_bytes()
}

/// Writes a name durably, which does not count yet.
fn write_name(dir: &Path, number: u64) -> Result<(), StorageError> {
    let next = dir.join(NEXT_NAME_FILE);
    File::create(&next)
        .and_then(|mut file| file.write_all(&name(number)).and_then(|()| file.sync_all()))
        .map_err(|error| directory(&next, &error))?;
    sync_directory(dir)
}

/// From here on it counts.
fn rename_next(dir: &Path) -> Result<(), StorageError> {
    fs::rename(dir.join(NEXT_NAME_FILE), dir.join(NAME_FILE))
        .map_err(|error| directory(dir, &error))?;
    if fault::active(Fault::ChoiceNotSynced) {
        return Ok(());
    }
    sync_directory(dir)
}

/// The engine in use.
fn named(dir: &Path) -> Result<u64, StorageError> {
    let path = dir.join(NAME_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = others(dir, 0).map_err(|error| directory(dir, &error))?;
            let is_lost = |made: &PathBuf| engine_files::has_data(made);
            if made.iter().any(is_lost) && !engine_files::has_data(dir) {
                let reason = "it is missing, and there is an engine that it may have named";
                return Err(damaged(&path, reason));
            }
            return Ok(0);
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => String::new(),
        Err(error) => return Err(directory(&path, &error)),
    };
    let number = text.lines().next().and_then(|number| number.parse().ok());
    let Some(number) = number.filter(|number| name(*number) == text.as_bytes()) else {
        return Err(damaged(
            &path,
            "it is not what was written; it names the engine's directory",
        ));
    };
    let named = engine_dir(dir, number);
    if number == 0 || !engine_files::has_data(&named) {
        let reason = format!("it names {}, which has no data", named.display());
        return Err(damaged(&path, &reason));
    }
    Ok(number)
}

/// All that belongs to engines, and not to this one.
fn others(dir: &Path, number: u64) -> io::Result<Vec<PathBuf>> {
    let own = engine_dir(dir, number);
    let mut others = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_made = name
            .strip_prefix(DIRECTORY_PREFIX)
            .is_some_and(|number| number.parse::<u64>().is_ok());
        let is_first = number > 0 && engine_files::is_engines(&name);
        if (is_made && path != own) || is_first || name == NEXT_NAME_FILE {
            others.push(path);
        }
    }
    Ok(others)
}

/// Removes a file, or a directory with all that is in it.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            for entry in fs::read_dir(path)? {
                remove(&entry?.path())?;
            }
            fs::remove_dir(path)
        }
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
