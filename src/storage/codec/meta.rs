//! The small records: who the store is, how far its compaction has come, its leases, and which alarms are raised.
//!
//! Each is a version byte, a CRC-32 and bincode, in one envelope that never grows a second shape.

use super::super::StorageError;
use super::read_u32;
use crate::model::{Alarm, LeaseId, Revision};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The version of the whole format that this program writes.
const FORMAT: u8 = 1;
/// Version byte and CRC-32.
const ENVELOPE_BYTES: usize = 5;

/// Which store this is: random numbers, made when the directory was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster, as clients see it; never 0.
    pub cluster_id: u64,
    /// The one member of the cluster; never 0.
    pub member_id: u64,
}

/// How far compaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CompactionState {
    /// Reads below this revision are refused.
    pub scheduled: Revision,
    /// The records that only older revisions need are gone up to here.
    pub finished: Revision,
    /// How many batches compaction has written in all: a checkpoint is good only while this number stands.
    pub steps: u64,
}

impl CompactionState {
    /// The state of a store that was never compacted.
    pub(crate) const NEVER: Self = Self {
        scheduled: Revision::NEVER_COMPACTED,
        finished: Revision::NEVER_COMPACTED,
        steps: 0,
    };
}

/// The record of an identity.
pub(crate) fn encode_identity(identity: &Identity) -> Result<Vec<u8>, StorageError> {
    seal(identity)
}

/// Reads the record of an identity.
pub(crate) fn decode_identity(bytes: &[u8]) -> Result<Identity, StorageError> {
    unseal("identity", "meta record identity", bytes)
}

/// The record of a compaction's state.
pub(crate) fn encode_compaction(state: &CompactionState) -> Result<Vec<u8>, StorageError> {
    seal(state)
}

/// Reads the record of a compaction's state.
pub(crate) fn decode_compaction(bytes: &[u8]) -> Result<CompactionState, StorageError> {
    unseal("compaction state", "meta record compaction", bytes)
}

/// A lease: how long it lives without being kept alive, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LeaseRecord {
    ttl_seconds: i64,
}

/// The record of a lease that lives so many seconds.
pub(crate) fn encode_lease(ttl_seconds: i64) -> Result<Vec<u8>, StorageError> {
    seal(&LeaseRecord { ttl_seconds })
}

/// Reads how many seconds a lease lives.
pub(crate) fn decode_lease(id: LeaseId, bytes: &[u8]) -> Result<i64, StorageError> {
    let record: LeaseRecord = unseal("lease", &format!("lease {:x}", id.0), bytes)?;
    Ok(record.ttl_seconds)
}

/// The record of the alarms that are raised.
pub(crate) fn encode_alarms(alarms: &BTreeSet<Alarm>) -> Result<Vec<u8>, StorageError> {
    seal(alarms)
}

/// Reads the record of the alarms that are raised.
pub(crate) fn decode_alarms(bytes: &[u8]) -> Result<BTreeSet<Alarm>, StorageError> {
    unseal("alarms", "meta record alarms", bytes)
}

/// Wraps a value in the envelope.
pub(super) fn seal<T: Serialize>(value: &T) -> Result<Vec<u8>, StorageError> {
    let mut bytes = vec![0; ENVELOPE_BYTES];
    bincode::serialize_into(&mut bytes, value)
        .map_err(|error| StorageError::disk("encode a record", error))?;
    let body = bytes.get(ENVELOPE_BYTES..).unwrap_or_default();
    let crc = crc32fast::hash(body).to_be_bytes();
    let head = [FORMAT].into_iter().chain(crc);
    bytes
        .iter_mut()
        .zip(head)
        .for_each(|(slot, byte)| *slot = byte);
    Ok(bytes)
}

/// Opens the envelope.
pub(super) fn unseal<T: DeserializeOwned>(
    what: &'static str,
    place: &str,
    bytes: &[u8],
) -> Result<T, StorageError> {
    let damaged = |reason: &str| StorageError::corrupt(what, place, reason);
    let found = *bytes.first().ok_or_else(|| damaged("it is empty"))?;
    if found != FORMAT {
        return Err(StorageError::Format {
            what,
            found,
            known: FORMAT,
        });
    }
    let (Some(crc), Some(body)) = (read_u32(bytes, 1), bytes.get(ENVELOPE_BYTES..)) else {
        return Err(damaged("it is cut short"));
    };
    if crc32fast::hash(body) != crc {
        return Err(damaged("its checksum is wrong"));
    }
    bincode::deserialize(body).map_err(|error| damaged(&error.to_string()))
}
