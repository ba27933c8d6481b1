//! Blocks: many records under one key of the engine, found by number or by place.
//!
//! A block is checked as a whole before any record of it is read, so a record that does not decode is damage too.

use super::super::StorageError;
use super::super::database::Stored;
use super::{Place, read_u32, to_u32};
use crate::model::{KeyValue, LeaseId, Revision};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The version of a block's layout.
const FORMAT: u8 = 1;
/// The flag of a block after which its revisions are complete (D3).
const FLAG_COMPLETE: u8 = 1;
/// Version, flags, pieces, check, number of records, position of the table.
const HEAD_BYTES: usize = 16;
/// The check covers everything behind itself.
const CHECKED_FROM: usize = 8;
/// What one record takes beyond its key and value, in bytes: bincode's fixed widths and its entry in the table.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 52 + 4;
const WHAT: &str = "block";

/// One change of one key, as it is written.
#[derive(Serialize)]
struct Record<'a> {
    main: Revision,
    sub: u32,
    create_revision: Revision,
    version: i64,
    lease: LeaseId,
    key: &'a Bytes,
    value: &'a Bytes,
}

/// One change of one key, borrowed from its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct RecordRef<'a> {
    /// The revision.
    pub main: Revision,
    /// Its number within the revision.
    pub sub: u32,
    /// The revision of the put that began the key's life; 0 in a tombstone.
    pub create_revision: Revision,
    /// The number of puts in the key's life; 0 is a tombstone.
    pub version: i64,
    /// The lease.
    pub lease: LeaseId,
    /// The key.
    #[serde(borrow)]
    pub key: &'a [u8],
    /// The value.
    #[serde(borrow)]
    pub value: &'a [u8],
}

impl RecordRef<'_> {
    /// Where the change stands.
    pub(crate) fn place(&self) -> Place {
        Place {
            main: self.main,
            sub: self.sub,
        }
    }

    /// The same as values of their own: a small value must not keep a block in memory (B2).
    pub(crate) fn to_key_value(self) -> KeyValue {
        self.with_key(Bytes::copy_from_slice(self.key))
    }

    /// The same, around a key that is already shared.
    pub(crate) fn with_key(self, key: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create_revision,
            mod_revision: self.main,
            version: self.version,
            value: Bytes::copy_from_slice(self.value),
            lease: self.lease,
        }
    }

    /// What the record takes in its block, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        RECORD_OVERHEAD_BYTES + self.key.len() + self.value.len()
    }
}

/// Puts records together into a block.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl Default for BlockBuilder {
    fn default() -> Self {
        Self {
            bytes: vec![0; HEAD_BYTES],
            starts: Vec::new(),
        }
    }
}

impl BlockBuilder {
    /// How many records it holds.
    pub(crate) fn records(&self) -> u32 {
        to_u32(self.starts.len())
    }

    /// How large the block would be with one more record of this key and value, in bytes.
    pub(crate) fn bytes_with(&self, kv: &KeyValue) -> usize {
        self.bytes.len() + 4 * self.starts.len() + RECORD_OVERHEAD_BYTES + kv.bytes()
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, sub: u32, kv: &KeyValue) -> Result<(), StorageError> {
        let record = Record {
            main: kv.mod_revision,
            sub,
            create_revision: kv.create_revision,
            version: kv.version,
            lease: kv.lease,
            key: &kv.key,
            value: &kv.value,
        };
        self.starts.push(to_u32(self.bytes.len()));
        bincode::serialize_into(&mut self.bytes, &record)
            .map_err(|error| StorageError::disk("encode a record", error))
    }

    /// The block for `place`, cut into pieces of at most `piece_bytes_max`. `complete` says that no revision in it goes
    /// on in a later batch.
    pub(crate) fn finish(
        mut self,
        place: Place,
        complete: bool,
        piece_bytes_max: usize,
    ) -> Result<Vec<Vec<u8>>, StorageError> {
        let table = to_u32(self.bytes.len());
        let records = self.records();
        for start in &self.starts {
            self.bytes.extend_from_slice(&start.to_be_bytes());
        }
        let total = self.bytes.len();
        let pieces = total.div_ceil(piece_bytes_max.max(HEAD_BYTES));
        let (Ok(pieces), Ok(_)) = (u16::try_from(pieces), u32::try_from(total)) else {
            let reason = format!("{total} bytes are too many for a block");
            return Err(StorageError::disk("encode a block", reason));
        };
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.push(FORMAT);
        head.push(if complete { FLAG_COMPLETE } else { 0 });
        head.extend_from_slice(&pieces.to_be_bytes());
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&records.to_be_bytes());
        head.extend_from_slice(&table.to_be_bytes());
        overwrite(&mut self.bytes, 0, &head);
        let crc = checksum(place, &self.bytes).to_be_bytes();
        overwrite(&mut self.bytes, 4, &crc);
        if pieces == 1 {
            return Ok(vec![self.bytes]);
        }
        let piece_bytes = piece_bytes_max.max(HEAD_BYTES);
        Ok(self.bytes.chunks(piece_bytes).map(<[u8]>::to_vec).collect())
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (slot, byte) in bytes.iter_mut().skip(at).zip(with) {
        *slot = *byte;
    }
}

/// The check of a block: it covers the place too, so that a block under another's key is damage.
fn checksum(place: Place, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&place.main.0.to_be_bytes());
    hasher.update(&place.sub.to_be_bytes());
    hasher.update(bytes.get(..4).unwrap_or_default());
    hasher.update(bytes.get(CHECKED_FROM..).unwrap_or_default());
    hasher.finalize()
}

/// How many pieces the block has whose first piece this is.
pub(crate) fn piece_count(place: Place, first: &[u8]) -> Result<u16, StorageError> {
    let damaged = |reason: &str| StorageError::corrupt(WHAT, place.to_string(), reason);
    match (
        first.first(),
        first.get(2..4).and_then(|two| two.try_into().ok()),
    ) {
        (Some(found), _) if *found != FORMAT => Err(StorageError::Format {
            what: WHAT,
            found: *found,
            known: FORMAT,
        }),
        (Some(_), Some(pieces)) => match u16::from_be_bytes(pieces) {
            0 => Err(damaged("it has no pieces")),
            pieces => Ok(pieces),
        },
        _ => Err(damaged("it is cut short")),
    }
}

#[derive(Debug)]
enum BlockBytes {
    One(Stored),
    Joined(Vec<u8>),
}

/// A block that passed its check.
#[derive(Debug)]
pub(crate) struct Block {
    place: Place,
    bytes: BlockBytes,
    records: u32,
    table: usize,
    pieces: u16,
    complete: bool,
}

impl Block {
    /// Joins the pieces of the block at `place`, all of them and in order, and checks them.
    pub(crate) fn join(place: Place, mut pieces: Vec<Stored>) -> Result<Self, StorageError> {
        let damaged = |reason: &str| StorageError::corrupt(WHAT, place.to_string(), reason);
        let bytes = if pieces.len() == 1 {
            pieces.pop().map(BlockBytes::One)
        } else {
            let parts: Vec<&[u8]> = pieces.iter().map(AsRef::as_ref).collect();
            Some(BlockBytes::Joined(parts.concat()))
        };
        let bytes = bytes.ok_or_else(|| damaged("it has no pieces"))?;
        let all = bytes.all();
        let pieces = piece_count(place, all)?;
        if read_u32(all, 4) != Some(checksum(place, all)) {
            return Err(damaged("its checksum is wrong"));
        }
        let (Some(records), Some(table)) = (read_u32(all, 8), read_u32(all, 12)) else {
            return Err(damaged("it is cut short"));
        };
        let table = table as usize;
        let table_end = (records as usize)
            .checked_mul(4)
            .and_then(|size| size.checked_add(table));
        if records == 0 || table_end != Some(all.len()) {
            return Err(damaged("its table does not fit"));
        }
        let complete = all.get(1).is_some_and(|flags| flags & FLAG_COMPLETE != 0);
        Ok(Self {
            place,
            bytes,
            records,
            table,
            pieces,
            complete,
        })
    }

    /// The place under which it is kept; its first records may be gone.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// How many records it holds.
    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    /// How many pieces it is kept in.
    pub(crate) fn pieces(&self) -> u16 {
        self.pieces
    }

    /// True when no revision in it goes on in a later batch.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Its size, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.all().len()
    }

    /// One record by number.
    pub(crate) fn record(&self, number: u32) -> Result<RecordRef<'_>, StorageError> {
        let all = self.bytes.all();
        let entry = |number: u32| match number {
            number if number == self.records => Some(self.table),
            number => read_u32(all, self.table + 4 * number as usize).map(|at| at as usize),
        };
        let found = match (entry(number), entry(number + 1)) {
            (Some(start), Some(end)) => all.get(start..end.min(self.table)),
            _ => None,
        };
        let damaged = |reason: &str| {
            let at = format!("record {number} of the block of {}", self.place);
            StorageError::corrupt("record", at, reason)
        };
        let bytes = found.ok_or_else(|| damaged("it lies outside of its block"))?;
        let record: RecordRef<'_> =
            bincode::deserialize(bytes).map_err(|error| damaged(&error.to_string()))?;
        if record.bytes() != bytes.len() + 4 || record.main.0 < 0 {
            return Err(damaged("its lengths do not fit"));
        }
        Ok(record)
    }

    /// All records in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<RecordRef<'_>, StorageError>> {
        (0..self.records).map(|number| self.record(number))
    }

    /// The number of the first record at or after `place`.
    pub(crate) fn lower_bound(&self, place: Place) -> Result<u32, StorageError> {
        let (mut low, mut high) = (0, self.records);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.record(middle)?.place() < place {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The record at `place`, if it is still there.
    pub(crate) fn find(&self, place: Place) -> Result<Option<RecordRef<'_>>, StorageError> {
        let number = self.lower_bound(place)?;
        if number == self.records {
            return Ok(None);
        }
        let record = self.record(number)?;
        Ok((record.place() == place).then_some(record))
    }
}

impl BlockBytes {
    fn all(&self) -> &[u8] {
        match self {
            Self::One(stored) => stored.as_ref(),
            Self::Joined(bytes) => bytes,
        }
    }
}
