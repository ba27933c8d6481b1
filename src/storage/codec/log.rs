//! The commit log's bytes: the head of its files, and records of changes that pass their check whole or not at all.
//!
//! A record begins at a sector and is salted with its file's own random number, so that bytes a client has put are never
//! taken for a record. What is torn and what is damaged is not decided here.

use super::super::StorageError;
use super::super::database::Change;
use super::{read_u32, to_u32};
use bytes::Bytes;

/// Records and the head of a file begin at multiples of this: what a disk writes whole or not at all.
pub(crate) const LOG_SECTOR_BYTES: usize = 512;
/// What a log file begins with; the digit is the version of the format.
const MAGIC: &[u8; 8] = b"vigillg1";
/// Magic, salt, length, CRC-32.
const FILE_HEAD_BYTES: usize = 28;
/// CRC-32, length of the body, generation, number.
const RECORD_HEAD_BYTES: usize = 24;
/// How far ahead a generation is looked for where it should not be, so that bytes that are no record are rarely summed up.
const GENERATIONS_AHEAD_MAX: u64 = 1 << 32;
const WHAT: &str = "commit log";

/// What the head of a log file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogFileHead {
    /// A number that no client knows.
    pub salt: u64,
    /// How long the file was made, in bytes; it may only have grown.
    pub bytes: u64,
}

impl LogFileHead {
    /// The first sector of a file.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LOG_SECTOR_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.salt.to_be_bytes());
        bytes.extend_from_slice(&self.bytes.to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes.resize(LOG_SECTOR_BYTES, 0);
        bytes
    }

    /// Reads the head of a file; `place` names the file.
    pub(crate) fn decode(place: &str, file: &[u8]) -> Result<Self, StorageError> {
        let damaged = |reason: &str| Err(StorageError::corrupt(WHAT, place, reason));
        let Some(head) = file.get(..FILE_HEAD_BYTES) else {
            return damaged("the file is cut short");
        };
        let (Some(salt), Some(bytes)) = (read_u64(head, 8), read_u64(head, 16)) else {
            return damaged("the file is cut short");
        };
        if !head.starts_with(MAGIC) {
            return damaged("it does not begin as a log of this version does");
        }
        if read_u32(head, 24) != head.get(..24).map(crc32fast::hash) {
            return damaged("the checksum of its head is wrong");
        }
        if (file.len() as u64) < bytes {
            return damaged("the file is shorter than it was made");
        }
        Ok(Self { salt, bytes })
    }
}

/// Which record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogPosition {
    /// How often the log had begun anew when it was written.
    pub generation: u64,
    /// Its number within the generation, from 0.
    pub number: u64,
}

/// A record that is being put together.
#[derive(Debug)]
pub(crate) struct LogRecord(Vec<u8>);

impl Default for LogRecord {
    fn default() -> Self {
        Self(vec![0; RECORD_HEAD_BYTES])
    }
}

impl LogRecord {
    /// True when it holds no change.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == RECORD_HEAD_BYTES
    }

    /// Adds a change.
    pub(crate) fn push(&mut self, change: &Change) -> Result<(), StorageError> {
        bincode::serialize_into(&mut self.0, change)
            .map_err(|error| StorageError::disk("encode a record of the commit log", error))
    }

    /// Fills in the head; answers whole sectors.
    pub(crate) fn seal(&mut self, salt: u64, at: LogPosition) -> &[u8] {
        let body_bytes = to_u32(self.0.len() - RECORD_HEAD_BYTES);
        let head = body_bytes
            .to_be_bytes()
            .into_iter()
            .chain(at.generation.to_be_bytes())
            .chain(at.number.to_be_bytes());
        self.fill(4, head);
        let crc = checksum(salt, self.0.get(4..).unwrap_or_default());
        self.fill(0, crc.to_be_bytes());
        let bytes = self.0.len().next_multiple_of(LOG_SECTOR_BYTES);
        self.0.resize(bytes, 0);
        &self.0
    }

    fn fill(&mut self, at: usize, bytes: impl IntoIterator<Item = u8>) {
        let slots = self.0.iter_mut().skip(at);
        slots.zip(bytes).for_each(|(slot, byte)| *slot = byte);
    }

    /// Makes it empty, and keeps a bounded part of its memory.
    pub(crate) fn clear(&mut self, kept_bytes_max: usize) {
        self.0.truncate(RECORD_HEAD_BYTES);
        self.0.shrink_to(kept_bytes_max);
    }
}

/// The body of the record at the beginning of `bytes`, and how many bytes the record takes, if it is the one at this
/// position and passes its check.
pub(crate) fn log_record(bytes: &[u8], salt: u64, at: LogPosition) -> Option<(&[u8], usize)> {
    let found = LogPosition {
        generation: read_u64(bytes, 8)?,
        number: read_u64(bytes, 16)?,
    };
    if found != at {
        return None;
    }
    let end = RECORD_HEAD_BYTES.checked_add(read_u32(bytes, 4)? as usize)?;
    if checksum(salt, bytes.get(4..end)?) != read_u32(bytes, 0)? {
        return None;
    }
    let body = bytes.get(RECORD_HEAD_BYTES..end)?;
    Some((body, end.next_multiple_of(LOG_SECTOR_BYTES)))
}

/// True when `bytes` begins with the first record of whatever generation.
pub(crate) fn begins_with_log_record(bytes: &[u8], salt: u64) -> bool {
    let generation = read_u64(bytes, 8);
    let at = generation.map(|generation| LogPosition {
        generation,
        number: 0,
    });
    at.is_some_and(|at| log_record(bytes, salt, at).is_some())
}

/// The number of a record of this generation behind the one that is missed, if one begins here and passes its check.
pub(crate) fn later_log_record(bytes: &[u8], salt: u64, missed: LogPosition) -> Option<u64> {
    let number = read_u64(bytes, 16)?;
    let at = LogPosition { number, ..missed };
    (number > missed.number && log_record(bytes, salt, at).is_some()).then_some(number)
}

/// The generation of the record that begins here and passes its check, if it is newer than it may be.
pub(crate) fn newer_log_record(bytes: &[u8], salt: u64, generation: u64) -> Option<u64> {
    let found = read_u64(bytes, 8)?;
    if found <= generation || found - generation > GENERATIONS_AHEAD_MAX {
        return None;
    }
    let at = LogPosition {
        generation: found,
        number: read_u64(bytes, 16)?,
    };
    log_record(bytes, salt, at).map(|_| found)
}

/// The changes of a body, in order.
pub(crate) fn decode_changes(mut body: &[u8]) -> Result<Vec<Change>, StorageError> {
    let mut changes = Vec::new();
    while !body.is_empty() {
        let change = bincode::deserialize_from(&mut body)
            .map_err(|error| StorageError::corrupt(WHAT, "a record", error.to_string()))?;
        changes.push(change);
    }
    Ok(changes)
}

/// The record of the last generation that lies in the engine.
pub(crate) fn encode_settled(generation: u64) -> Result<Bytes, StorageError> {
    super::meta::seal(&generation).map(Bytes::from)
}

/// Reads the record of the last generation that lies in the engine.
pub(crate) fn decode_settled(bytes: &[u8]) -> Result<u64, StorageError> {
    super::meta::unseal("settled generation", "meta record settled", bytes)
}

/// The record of the last block that lies in the engine: its key.
pub(crate) fn encode_last_block(key: &[u8]) -> Result<Bytes, StorageError> {
    super::meta::seal(&key.to_vec()).map(Bytes::from)
}

/// Reads the record of the last block that lies in the engine.
pub(crate) fn decode_last_block(bytes: &[u8]) -> Result<Vec<u8>, StorageError> {
    super::meta::unseal("last block", "meta record last", bytes)
}

fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_be_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    let end = at.checked_add(8)?;
    bytes.get(at..end)?.try_into().ok().map(u64::from_be_bytes)
}
