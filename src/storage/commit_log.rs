//! The log that makes a commit durable: one write and one `fdatasync` into space that the file already has.
//!
//! Two files take turns, a generation each: while the changes of one generation go into the engine, the next is written
//! to the other file. It never overwrites a generation that is not in the engine, and never takes damage for a torn end:
//! a record is written only after the one before it is durable, so whatever stands behind a bad record proves it damaged.

use super::StorageError;
use super::codec::{
    LOG_SECTOR_BYTES, LogFileHead, LogPosition, LogRecord, LogRecordRef, decode_changes, log_record,
};
use super::database::Change;
use super::directory::{directory, sync_directory};
use crate::fault::{self, Fault};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The two files, by the parity of the generations in them.
const FILES: [&str; 2] = ["commit.0.log", "commit.1.log"];
const WHAT: &str = "commit log";
/// What is kept of a large record's memory for the next.
const RECORD_KEPT_BYTES_MAX: usize = 1 << 20;
/// How much is written at a time when a file is made.
const ZEROS_BYTES: usize = 1 << 16;

/// One file.
#[derive(Debug)]
struct LogFile {
    file: File,
    head: LogFileHead,
    /// How long it is; it only grows.
    bytes: u64,
}

/// The log.
#[derive(Debug)]
pub(crate) struct CommitLog {
    files: [LogFile; 2],
    next: LogPosition,
    /// Where in its file the next record goes.
    offset: u64,
    record: LogRecord,
}

/// What the log holds, in order.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The changes of up to two generations that the engine lacks.
    pub unsettled: Vec<Change>,
    /// Those of the last generation that the engine has, as long as they are not overwritten.
    pub settled: Vec<Change>,
}

impl CommitLog {
    /// Makes the files, of a length each. Whatever was there before is gone.
    pub(crate) fn create(dir: &Path, bytes: u64) -> Result<Self, StorageError> {
        let make = |name: &str| {
            let path = dir.join(name);
            make_file(&path, bytes).map_err(|error| directory(&path, &error))
        };
        let [even, odd] = FILES;
        let files = [make(even)?, make(odd)?];
        sync_directory(dir)?;
        Ok(Self::new(files, 1))
    }

    /// Opens the files behind the generation that the engine has, and reads what it lacks.
    pub(crate) fn open(dir: &Path, settled: u64) -> Result<(Self, Held), StorageError> {
        let (next, found, _) = Found::read(dir, settled + 1)?;
        let (after, found_after, bytes) = Found::read(dir, settled + 2)?;
        // Numbers go on from one generation to the next, so a record that is missing between them is seen.
        let follows = match (&found.positions, &found_after.positions) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some((_, last)), Some((first, _))) => first.number == last.number + 1,
        };
        if !follows {
            let place = dir.join(turn(FILES, settled + 1)).display().to_string();
            let reason = format!("the end of generation {} is gone", settled + 1);
            return Err(StorageError::corrupt(WHAT, place, reason));
        }
        let last = found_after.positions.or(found.positions);
        let generation = last.map_or(settled, |(_, last)| last.generation);
        let files = if settled.is_multiple_of(2) {
            [after, next]
        } else {
            [next, after]
        };
        let mut held = Held {
            unsettled: found.changes,
            settled: Vec::new(),
        };
        if found_after.positions.is_none() {
            let salt = turn(files.each_ref(), settled).head.salt;
            let place = dir.join(turn(FILES, settled)).display().to_string();
            held.settled = Found::of(&place, &bytes, salt, settled)?.changes;
        }
        if !fault::active(Fault::SecondGenerationSkipped) {
            held.unsettled.extend(found_after.changes);
        }
        Ok((Self::new(files, generation + 1), held))
    }

    /// Sees that there is no file with a record, which would belong to data that is not there.
    pub(crate) fn check_none(dir: &Path) -> Result<(), StorageError> {
        for name in FILES {
            let path = dir.join(name);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(directory(&path, &error)),
            };
            let first = bytes.get(LOG_SECTOR_BYTES..).unwrap_or_default();
            if first.iter().any(|byte| *byte != 0) {
                let reason = "it holds commits, and the data that they belong to is missing";
                let place = path.display().to_string();
                return Err(StorageError::corrupt(WHAT, place, reason));
            }
        }
        Ok(())
    }

    fn new(files: [LogFile; 2], generation: u64) -> Self {
        Self {
            files,
            next: LogPosition {
                generation,
                number: 0,
            },
            offset: LOG_SECTOR_BYTES as u64,
            record: LogRecord::default(),
        }
    }

    /// The generation that is being written.
    pub(crate) fn generation(&self) -> u64 {
        self.next.generation
    }

    /// True when the generation has no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.offset == LOG_SECTOR_BYTES as u64
    }

    /// What the generation's file takes so far, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.offset
    }

    /// Adds a change to the next record.
    pub(crate) fn stage(&mut self, change: &Change) -> Result<(), StorageError> {
        self.record.push(change)
    }

    /// Writes what was staged as one record, and waits until it is durable.
    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        if self.record.is_empty() {
            return Ok(());
        }
        let log = turn(self.files.each_mut(), self.next.generation);
        let bytes = self.record.seal(log.head.salt, self.next)?;
        let written = log.file.write_all_at(bytes, self.offset);
        let name = turn(FILES, self.next.generation);
        let failed = |error| failed("write", name, &error);
        let sync = |()| {
            if fault::active(Fault::LogWithoutFdatasync) {
                return Ok(());
            }
            log.file.sync_data()
        };
        written.and_then(sync).map_err(failed)?;
        self.offset += bytes.len() as u64;
        log.bytes = log.bytes.max(self.offset);
        self.next.number += 1;
        self.record.clear(RECORD_KEPT_BYTES_MAX);
        Ok(())
    }

    /// Begins the next generation, over the one before the last: it has to be in the engine.
    pub(crate) fn switch(&mut self) {
        self.next.generation += 1;
        self.offset = LOG_SECTOR_BYTES as u64;
    }

    /// What the files take, in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.files.iter().map(|log| log.bytes).sum()
    }
}

/// Which of the two a generation uses.
fn turn<T>([even, odd]: [T; 2], generation: u64) -> T {
    if generation.is_multiple_of(2) {
        even
    } else {
        odd
    }
}

fn open_file(path: &Path) -> Result<File, StorageError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let reason = "it is missing, and the data speaks of it";
            StorageError::corrupt(WHAT, path.display().to_string(), reason)
        }
        _ => directory(path, &error),
    })
}

/// Makes a file whose every block is written, so that a commit changes no metadata of the file system.
fn make_file(path: &Path, bytes: u64) -> io::Result<LogFile> {
    let salt = RandomState::new().hash_one(bytes);
    let head = LogFileHead { salt, bytes };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)?;
    file.write_all(&head.encode())?;
    let mut left = bytes.saturating_sub(LOG_SECTOR_BYTES as u64);
    let zeros = vec![0; ZEROS_BYTES];
    while left > 0 {
        let part = usize::try_from(left)
            .unwrap_or(ZEROS_BYTES)
            .min(ZEROS_BYTES);
        file.write_all(zeros.get(..part).unwrap_or_default())?;
        left -= part as u64;
    }
    file.sync_all()?;
    Ok(LogFile { file, head, bytes })
}

fn failed(doing: &str, name: &str, error: &io::Error) -> StorageError {
    StorageError::disk("use the commit log", format!("{doing} {name}: {error}"))
}

/// What a file holds of a generation.
#[derive(Debug, Default)]
struct Found {
    changes: Vec<Change>,
    /// The first record and the last.
    positions: Option<(LogPosition, LogPosition)>,
    /// Where the last record begins.
    last: usize,
    /// Where the next one would.
    end: usize,
}

impl Found {
    /// The records of a generation that follow each other, up to the first that is not there.
    fn of(place: &str, file: &[u8], salt: u64, generation: u64) -> Result<Self, StorageError> {
        let mut found = Self {
            end: LOG_SECTOR_BYTES,
            ..Self::default()
        };
        while let Some(record) = record_at(file, found.end, salt) {
            let follows = match found.positions {
                None => record.at.generation == generation,
                Some((_, before)) => record.at == after(before),
            };
            if !follows {
                break;
            }
            let (first, _) = found.positions.unwrap_or((record.at, record.at));
            found.positions = Some((first, record.at));
            found.changes.extend(decode_changes(place, record.body)?);
            found.last = found.end;
            found.end += record.bytes;
        }
        Ok(found)
    }

    /// Reads the file of a generation that the engine lacks. The last record may be torn, no other.
    fn read(dir: &Path, generation: u64) -> Result<(LogFile, Self, Vec<u8>), StorageError> {
        let name = turn(FILES, generation);
        let path = dir.join(name);
        let file = open_file(&path)?;
        let bytes = fs::read(&path).map_err(|error| directory(&path, &error))?;
        let place = path.display().to_string();
        let head = LogFileHead::decode(&place, &bytes)?;
        let found = Self::of(&place, &bytes, head.salt, generation)?;
        found.check_end(&place, &bytes, (head.salt, generation))?;
        if found.positions.is_some() {
            // A writer that was killed before its sync, or whose sync failed, leaves a record in the system's memory
            // alone: it is written again, and durable before anything of it is in the engine.
            let record = bytes.get(found.last..found.end).unwrap_or_default();
            file.write_all_at(record, found.last as u64)
                .and_then(|()| file.sync_data())
                .map_err(|error| failed("write", name, &error))?;
        }
        let log = LogFile {
            file,
            head,
            bytes: bytes.len() as u64,
        };
        Ok((log, found, bytes))
    }

    /// Whatever was written later than what is missed proves that it was there.
    fn check_end(
        &self,
        place: &str,
        bytes: &[u8],
        (salt, generation): (u64, u64),
    ) -> Result<(), StorageError> {
        let missed = match self.positions {
            Some((_, last)) => after(last),
            None => LogPosition {
                generation,
                number: 0,
            },
        };
        if fault::active(Fault::LogDamageTakenAsTorn) {
            return Ok(());
        }
        for offset in (self.end..bytes.len()).step_by(LOG_SECTOR_BYTES) {
            let Some(later) = record_at(bytes, offset, salt) else {
                continue;
            };
            if later.at.generation > generation {
                let reason = format!(
                    "it goes on with generation {}, and the data is of generation {}: it is older than its log",
                    later.at.generation,
                    generation - 1
                );
                return Err(StorageError::corrupt(WHAT, place, reason));
            }
            if later.at >= missed {
                let reason = format!(
                    "a record of generation {generation} fails its check, and record {} behind it is there",
                    later.at.number
                );
                return Err(StorageError::corrupt(WHAT, place, reason));
            }
        }
        Ok(())
    }
}

fn record_at(bytes: &[u8], offset: usize, salt: u64) -> Option<LogRecordRef<'_>> {
    log_record(bytes.get(offset..)?, salt)
}

/// The position behind another one in the same generation.
fn after(at: LogPosition) -> LogPosition {
    LogPosition {
        number: at.number + 1,
        ..at
    }
}

#[cfg(test)]
mod tests;
