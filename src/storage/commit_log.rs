//! The log that makes a commit durable: one write and one `fdatasync` into space that the file already has.
//!
//! Two files take turns, a generation each: while the changes of one generation go into the engine, the next is written
//! to the other file. It never overwrites a generation that is not in the engine, and never takes damage for a torn end:
//! a record is written only after the one before it is durable, so whatever stands behind a bad record proves it damaged.

use super::StorageError;
use super::codec::{
    LOG_SECTOR_BYTES, LogFileHead, LogPosition, LogRecord, begins_with_log_record, decode_changes,
    later_log_record, log_record, newer_log_record,
};
use super::database::Change;
use super::directory::{directory, sync_directory};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The two files, by the parity of the generations in them.
const FILES: [&str; 2] = ["commit.0.log", "commit.1.log"];
/// What is kept of a large record's memory for the next.
const RECORD_KEPT_BYTES_MAX: usize = 1 << 20;
/// How much is written at a time when a file is made.
const ZEROS_BYTES: usize = 1 << 16;

/// One file.
#[derive(Debug)]
struct LogFile {
    file: File,
    head: LogFileHead,
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
        let make = |name: &str| make_file(&dir.join(name), bytes);
        let files = make(FILES[0]).and_then(|even| Ok([even, make(FILES[1])?]));
        let files = files.map_err(|error| directory(dir, &error))?;
        sync_directory(dir)?;
        Ok(Self::new(files, 1))
    }

    /// Opens the files behind the generation that the engine has, and reads what it lacks.
    pub(crate) fn open(dir: &Path, settled: u64) -> Result<(Self, Held), StorageError> {
        let mut held = Held::default();
        let mut last = settled;
        let mut read = |generation: u64| {
            let path = dir.join(turn(&FILES, generation));
            let file = open_file(&path)?;
            let bytes = fs::read(&path).map_err(|error| directory(&path, &error))?;
            let place = path.display().to_string();
            let head = LogFileHead::decode(&place, &bytes)?;
            let found = read_generation(&place, &bytes, head.salt, generation)?;
            if !found.is_empty() && last + 1 < generation {
                let reason = format!("generation {} is gone, and a later one is not", last + 1);
                return Err(StorageError::corrupt("commit log", place, reason));
            }
            if !found.is_empty() {
                last = generation;
            }
            if found.is_empty() && generation == settled + 2 {
                held.settled = records(&bytes, head.salt, settled)?.0;
            }
            held.unsettled.extend(found);
            Ok(LogFile { file, head })
        };
        let (next, after) = (read(settled + 1)?, read(settled + 2)?);
        let files = if settled.is_multiple_of(2) {
            [after, next]
        } else {
            [next, after]
        };
        Ok((Self::new(files, last + 1), held))
    }

    /// True when there are files with records, which belong to data that is not there.
    pub(crate) fn is_orphaned(dir: &Path) -> bool {
        FILES.iter().any(|name| {
            let bytes = fs::read(dir.join(name)).unwrap_or_default();
            let first = bytes.get(LOG_SECTOR_BYTES..).unwrap_or_default();
            LogFileHead::decode(name, &bytes)
                .is_ok_and(|head| begins_with_log_record(first, head.salt))
        })
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

    /// What the generation takes so far, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.offset - LOG_SECTOR_BYTES as u64
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
        let log = turn(&self.files, self.next.generation);
        let bytes = self.record.seal(log.head.salt, self.next);
        log.file
            .write_all_at(bytes, self.offset)
            .map_err(|error| StorageError::disk("write the commit log", error))?;
        log.file
            .sync_data()
            .map_err(|error| StorageError::disk("sync the commit log", error))?;
        self.offset += bytes.len() as u64;
        self.next.number += 1;
        self.record.clear(RECORD_KEPT_BYTES_MAX);
        Ok(())
    }

    /// Begins the next generation, over the one before the last: it has to be in the engine.
    pub(crate) fn switch(&mut self) {
        self.next = LogPosition {
            generation: self.next.generation + 1,
            number: 0,
        };
        self.offset = LOG_SECTOR_BYTES as u64;
    }

    /// What the files take, in bytes.
    pub(crate) fn size_bytes(&self) -> Result<u64, StorageError> {
        let sizes = self.files.iter().map(|log| log.file.metadata());
        let sum: io::Result<u64> = sizes.map(|metadata| Ok(metadata?.len())).sum();
        sum.map_err(|error| StorageError::disk("look at the commit log", error))
    }
}

/// Which of the two a generation uses.
fn turn<T>([even, odd]: &[T; 2], generation: u64) -> &T {
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
            StorageError::corrupt("commit log", path.display().to_string(), reason)
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
    Ok(LogFile { file, head })
}

/// The changes of a generation; its last record may be torn, no other.
fn read_generation(
    place: &str,
    file: &[u8],
    salt: u64,
    generation: u64,
) -> Result<Vec<Change>, StorageError> {
    let (changes, at, rest) = records(file, salt, generation)?;
    // A file holds its generation or, behind that, what is left of earlier ones.
    let sectors = file
        .chunks(LOG_SECTOR_BYTES)
        .zip((0..).step_by(LOG_SECTOR_BYTES));
    for (_, start) in sectors.skip(1) {
        let newer = newer_log_record(file.get(start..).unwrap_or_default(), salt, generation);
        if let Some(newer) = newer {
            let reason = format!(
                "it holds generation {newer}, and the data is older than generation {generation}: \
                 a part of the data is lost, or it was put back without its log"
            );
            return Err(StorageError::corrupt("commit log", place, reason));
        }
    }
    let mut behind = rest;
    while let Some(sectors) = behind.get(LOG_SECTOR_BYTES..) {
        behind = sectors;
        if let Some(number) = later_log_record(behind, salt, at) {
            let reason = format!(
                "record {} of generation {generation} fails its check, and record {number} is there",
                at.number
            );
            return Err(StorageError::corrupt("commit log", place, reason));
        }
    }
    Ok(changes)
}

/// The changes of a generation up to the first record that is not there, which record that is, and what stands in its place.
fn records(
    file: &[u8],
    salt: u64,
    generation: u64,
) -> Result<(Vec<Change>, LogPosition, &[u8]), StorageError> {
    let mut changes = Vec::new();
    let mut at = LogPosition {
        generation,
        number: 0,
    };
    let mut rest = file.get(LOG_SECTOR_BYTES..).unwrap_or_default();
    while let Some((body, bytes)) = log_record(rest, salt, at) {
        changes.extend(decode_changes(body)?);
        rest = rest.get(bytes..).unwrap_or_default();
        at.number += 1;
    }
    Ok((changes, at, rest))
}
