//! The commit log's bytes: the head of its files, and records of changes that pass their check whole or not at all.
//!
//! A record begins at a sector and is salted with its file's own random number, so that bytes a client has put are never
//! taken for a record. What is torn and what is damaged is not decided here.

use super::super::StorageError;
use super::super::database::Change;
use super::read_u32;
use crate::fault::{self, Fault};
use bytes::Bytes;

/// Records and the head of a file begin at multiples of this: what a disk writes whole or not at all.
pub(crate) const LOG_SECTOR_BYTES: usize = 512;
/// What a log file begins with; the digit is the version of the format.
const MAGIC: &[u8; 8] = b"vigillg1";
/// Magic, salt, length, CRC-32.
const FILE_HEAD_BYTES: usize = 28;
/// CRC-32 of the head, CRC-32 of the body, length of the body, generation, number.
const RECORD_HEAD_BYTES: usize = 28;
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

/// Which record of the log. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogPosition {
    /// How often the log had begun anew when it was written.
    pub generation: u64,
    /// Its number since the store was opened; it goes on from one generation to the next.
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
    pub(crate) fn seal(&mut self, salt: u64, at: LogPosition) -> Result<&[u8], StorageError> {
        let body = self.0.get(RECORD_HEAD_BYTES..).unwrap_or_default();
        let body_bytes = u32::try_from(body.len())
            .map_err(|error| StorageError::disk("encode a record of the commit log", error))?;
        let mut head = Vec::with_capacity(RECORD_HEAD_BYTES);
        head.extend_from_slice(&checksum(salt, body).to_be_bytes());
        head.extend_from_slice(&body_bytes.to_be_bytes());
        head.extend_from_slice(&at.generation.to_be_bytes());
        head.extend_from_slice(&at.number.to_be_bytes());
        let crc = checksum(salt, &head).to_be_bytes();
        let slots = self.0.iter_mut();
        slots
            .zip(crc.into_iter().chain(head))
            .for_each(|(slot, byte)| *slot = byte);
        let bytes = self.0.len().next_multiple_of(LOG_SECTOR_BYTES);
        self.0.resize(bytes, 0);
        Ok(&self.0)
    }

    /// Makes it empty, and keeps a bounded part of its memory.
    pub(crate) fn clear(&mut self, kept_bytes_max: usize) {
        self.0.truncate(RECORD_HEAD_BYTES);
        self.0.shrink_to(kept_bytes_max);
    }
}

/// A record that passed its check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRecordRef<'a> {
    /// Which one it is.
    pub at: LogPosition,
    /// Its changes.
    pub body: &'a [u8],
    /// What it takes in the file, in bytes.
    pub bytes: usize,
}

/// The record at the beginning of `bytes`, if it passes its check. Its head has a check of its own, so that bytes which
/// only look like one cost little.
pub(crate) fn log_record(bytes: &[u8], salt: u64) -> Option<LogRecordRef<'_>> {
    let head = bytes.get(4..RECORD_HEAD_BYTES)?;
    if checksum(salt, head) != read_u32(bytes, 0)? {
        return None;
    }
    let end = RECORD_HEAD_BYTES.checked_add(read_u32(bytes, 8)? as usize)?;
    let body = bytes.get(RECORD_HEAD_BYTES..end)?;
    let at = LogPosition {
        generation: read_u64(bytes, 12)?,
        number: read_u64(bytes, 20)?,
    };
    let whole = checksum(salt, body) == read_u32(bytes, 4)?;
    (whole || fault::active(Fault::TornRecordAccepted)).then_some(LogRecordRef {
        at,
        body,
        bytes: end.next_multiple_of(LOG_SECTOR_BYTES),
    })
}

/// The changes of a body, in order; `place` names the file.
pub(crate) fn decode_changes(place: &str, mut body: &[u8]) -> Result<Vec<Change>, StorageError> {
    let mut changes = Vec::new();
    while !body.is_empty() {
        let change = bincode::deserialize_from(&mut body)
            .map_err(|error| StorageError::corrupt(WHAT, place, error.to_string()))?;
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
