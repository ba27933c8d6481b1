//! Turns the store's records into bytes on disk and back. No other file knows those bytes.
//!
//! Every record carries a version and a check. A record that fails it is an error that names the place: nothing here
//! skips, repairs or guesses, and no input makes it panic. `docs/storage-format.md` draws the format.

mod block;
mod checkpoint;
mod log;
mod marks;
mod meta;
mod snapshot;

pub use meta::Identity;

pub(crate) use block::{Block, BlockBuilder, RECORD_OVERHEAD_BYTES, RecordRef, piece_count};
pub(crate) use checkpoint::{CheckpointHead, CheckpointReader, CheckpointWriter, Frame};
pub(crate) use log::{
    LOG_SECTOR_BYTES, LogFileHead, LogPosition, LogRecord, LogRecordRef, decode_changes,
    decode_last_block, decode_settled, encode_last_block, encode_settled, log_record,
};
pub(crate) use marks::{decode_marks, encode_marks};
pub(crate) use meta::{CompactionState, decode_alarms, decode_compaction, decode_identity};
pub(crate) use meta::{
    decode_lease, encode_alarms, encode_compaction, encode_identity, encode_lease,
};

pub(crate) use snapshot::{
    SNAPSHOT_LEASES_PER_PART, SnapshotEnd, SnapshotFrame, SnapshotHead, SnapshotReader,
    SnapshotSum, bytes_before_sum, encode_snapshot_block, encode_snapshot_end,
    encode_snapshot_head, encode_snapshot_leases, snapshot_bytes,
};

use super::StorageError;
use crate::model::{LeaseId, Revision};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// First byte of the key of a block's piece.
const TAG_BLOCK: u8 = b'r';
/// First byte of the key of the dead marks of a block.
const TAG_MARKS: u8 = b'd';
/// First byte of the key of a lease.
const TAG_LEASE: u8 = b'l';
/// Tag, main and sub revision.
const ID_BYTES: usize = 13;

/// The key of the record that says which store this is.
pub(crate) const KEY_IDENTITY: &[u8] = b"midentity";
/// The key of the record that says how far compaction is.
pub(crate) const KEY_COMPACTION: &[u8] = b"mcompaction";
/// The key of the record of the alarms that are raised.
pub(crate) const KEY_ALARMS: &[u8] = b"malarms";
/// The key of the record that says which generation of the commit log is in the engine; it lies behind all of the
/// store's own.
pub(crate) const KEY_SETTLED: &[u8] = b"\xffsettled";
/// The record of the last block that lies in the engine.
pub(crate) const KEY_LAST_BLOCK: &[u8] = b"\xfflast";

/// Where one change of one key stands in the order of all changes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(crate) struct Place {
    /// The revision.
    pub main: Revision,
    /// Its number within the revision, from 0.
    pub sub: u32,
}

impl Place {
    /// The first place of a revision.
    pub(crate) const fn first_of(main: Revision) -> Self {
        Self { main, sub: 0 }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "revision {}.{}", self.main, self.sub)
    }
}

/// The key of a piece of the block that was written for `place`.
pub(crate) fn block_key(place: Place, piece: u16) -> Bytes {
    let mut key = tagged(TAG_BLOCK, place);
    key.extend_from_slice(&piece.to_be_bytes());
    key.into()
}

/// The key of the dead marks of a block.
pub(crate) fn marks_key(place: Place) -> Bytes {
    tagged(TAG_MARKS, place).into()
}

/// The key of a lease.
pub(crate) fn lease_key(id: LeaseId) -> Bytes {
    let mut key = vec![TAG_LEASE];
    key.extend_from_slice(&id.0.to_be_bytes());
    key.into()
}

/// Reads the key of a lease.
pub(crate) fn parse_lease_key(key: &[u8]) -> Result<LeaseId, StorageError> {
    let id = key.strip_prefix(&[TAG_LEASE]);
    match id.and_then(|id| id.try_into().ok()) {
        Some(id) => Ok(LeaseId(i64::from_be_bytes(id))),
        None => Err(bad_key("lease", key)),
    }
}

/// The bounds that hold every lease.
pub(crate) fn lease_bounds() -> (Vec<u8>, Vec<u8>) {
    (vec![TAG_LEASE], vec![TAG_LEASE + 1])
}

/// The bounds that hold every piece of the blocks from `from` on, up to but without `until`.
pub(crate) fn block_bounds(from: Place, until: Option<Place>) -> (Vec<u8>, Vec<u8>) {
    let until = match until {
        Some(until) => tagged(TAG_BLOCK, until),
        None => vec![TAG_BLOCK + 1],
    };
    (tagged(TAG_BLOCK, from), until)
}

/// The bounds that hold the marks of the blocks from `from` on.
pub(crate) fn marks_bounds(from: Place) -> (Vec<u8>, Vec<u8>) {
    (tagged(TAG_MARKS, from), vec![TAG_MARKS + 1])
}

/// The bounds that hold every record of the store there can be.
pub(crate) fn everything_bounds() -> (Vec<u8>, Vec<u8>) {
    (vec![0], vec![0xff])
}

/// The bounds that hold every record there can be in an engine.
pub(crate) fn engine_bounds() -> (Vec<u8>, Vec<u8>) {
    (vec![0], vec![0xff, 0xff])
}

/// Reads the key of a block's piece.
pub(crate) fn parse_block_key(key: &[u8]) -> Result<(Place, u16), StorageError> {
    let place = parse_tagged(TAG_BLOCK, key);
    let piece = key.get(ID_BYTES..).and_then(|rest| rest.try_into().ok());
    match (place, piece) {
        (Some(place), Some(piece)) => Ok((place, u16::from_be_bytes(piece))),
        _ => Err(bad_key("block", key)),
    }
}

/// Reads the key of a block's dead marks.
pub(crate) fn parse_marks_key(key: &[u8]) -> Result<Place, StorageError> {
    match parse_tagged(TAG_MARKS, key) {
        Some(place) if key.len() == ID_BYTES => Ok(place),
        _ => Err(bad_key("dead marks", key)),
    }
}

fn bad_key(what: &'static str, key: &[u8]) -> StorageError {
    StorageError::corrupt(what, format!("key {key:02x?}"), "not a key of ours")
}

fn tagged(tag: u8, place: Place) -> Vec<u8> {
    let mut key = Vec::with_capacity(ID_BYTES + 2);
    key.push(tag);
    // Revisions are never negative on disk, so that their bytes sort as they do.
    key.extend_from_slice(&place.main.0.to_be_bytes());
    key.extend_from_slice(&place.sub.to_be_bytes());
    key
}

fn parse_tagged(tag: u8, key: &[u8]) -> Option<Place> {
    let main = key.get(1..9)?.try_into().ok()?;
    let sub = key.get(9..ID_BYTES)?.try_into().ok()?;
    let main = i64::from_be_bytes(main);
    (key.first() == Some(&tag) && main >= 0).then_some(Place {
        main: Revision(main),
        sub: u32::from_be_bytes(sub),
    })
}

/// Reads a big-endian number at a position.
fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    bytes.get(at..end)?.try_into().ok().map(u32::from_be_bytes)
}

/// A length or count as it is written; the caller's bounds keep it far below the limit.
fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
