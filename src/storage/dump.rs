//! All records that the store needs at one revision, block by block, while writes go on.
//!
//! A dump never sees a record that is newer than its revision, nor one that its compact revision has made needless, whether
//! it is gone from the disk or not. As long as one goes on, no pass of a compaction begins: what is compacted meanwhile is
//! refused to readers at once, and leaves the disk afterwards.

use super::codec::{Block, Place, RECORD_OVERHEAD_BYTES};
use super::core::Core;
use super::fetch::read_block;
use super::holds::Hold;
use super::key_index::{Slot, newest_at, slots_between};
use super::{ReadError, StorageError};
use crate::fault::{self, Fault};
use crate::model::{KeyRange, KeyValue, Refusal, Revision};
use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use std::sync::Arc;

/// What the hash of a store begins with: the name that etcd has for its history.
const HASHED_FIRST: &[u8] = b"key";
/// How many dumps may run at a time: each is a thread and reads all of the disk.
const DUMPS_MAX: usize = 4;

/// A hash of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreHash {
    /// CRC-32C over the records.
    pub hash: u32,
    /// The store's revision.
    pub revision: Revision,
    /// The revision up to which records are in the hash.
    pub hash_revision: Revision,
    /// The compact revision that it was made at; two hashes can be compared when both revisions are the same.
    pub compact_revision: Revision,
}

/// Keeps passes of a compaction from beginning until it is dropped.
#[derive(Debug)]
struct Holding {
    core: Arc<Core>,
    hold: Arc<Hold>,
}

impl Holding {
    fn new(core: &Arc<Core>) -> Result<Self, ReadError> {
        let (hold, dumps) = core.holds.begin();
        let core = Arc::clone(core);
        let holding = Self { core, hold };
        if dumps > DUMPS_MAX {
            return Err(ReadError::Busy);
        }
        Ok(holding)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.core.holds.end(&self.hold);
    }
}

/// A read of everything at one revision.
#[derive(Debug)]
pub(crate) struct Dump {
    holding: Holding,
    compact_revision: Revision,
    revision: Revision,
    after: Option<Place>,
}

impl Dump {
    /// Begins one at the published revision, or at an earlier one.
    pub(crate) fn begin(core: &Arc<Core>, at: Option<Revision>) -> Result<Self, ReadError> {
        let holding = Holding::new(core)?;
        // In this order: what is compacted is published already, and no pass begins any more.
        let compact_revision = core.compact_revision();
        let current = core.revision();
        let revision = at.unwrap_or(current);
        if revision < compact_revision {
            return Err(Refusal::Compacted { compact_revision }.into());
        }
        if revision > current {
            return Err(Refusal::FutureRevision { current }.into());
        }
        Ok(Self {
            holding,
            compact_revision,
            revision,
            after: None,
        })
    }

    /// The revision of all of it.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be read from it.
    pub(crate) fn compact_revision(&self) -> Revision {
        self.compact_revision
    }

    /// The store.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.holding.core
    }

    /// What the records take in their blocks, in bytes, and how many blocks there are at most.
    pub(crate) fn measure(&self) -> (u64, u64) {
        let core = self.core();
        let (everything, keys_max) = (KeyRange::everything(), core.limits.keys_per_lock_max.max(1));
        let (mut bytes, mut after): (u64, Option<Bytes>) = (0, None);
        loop {
            let mut last = None;
            {
                let index = core.index();
                let keys = index.keys.range(&everything, after.as_deref());
                for ((key, slots), looked_at) in keys.zip(1..) {
                    for slot in slots_between(slots, Revision(0), self.revision) {
                        if is_needed(slots, slot.place(), self.compact_revision) {
                            let stored = RECORD_OVERHEAD_BYTES + key.len();
                            bytes += stored as u64 + u64::from(slot.value_bytes);
                        }
                    }
                    if looked_at == keys_max {
                        last = Some(key.clone());
                        break;
                    }
                }
            }
            if last.is_none() {
                break;
            }
            after = last;
        }
        let (mut blocks, mut after) = (0, None);
        loop {
            let (count, last) = {
                let index = core.index();
                let old = index.blocks.iter_after(after);
                let mut old = old.take_while(|(place, _)| place.main <= self.revision);
                let part = old.by_ref().take(keys_max);
                part.fold((0, None), |(count, _), (place, _)| (count + 1, Some(place)))
            };
            if last.is_none() {
                return (bytes, blocks);
            }
            blocks += count;
            after = last;
        }
    }

    /// The records of the next block that has any, with their places.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<(Place, KeyValue)>>, StorageError> {
        let next = self.read_next();
        // Afterwards: what was read in the meantime may lack what is gone.
        if self.holding.hold.is_lost() {
            return Err(StorageError::ReadTooSlowly);
        }
        next
    }

    /// It is read on.
    pub(crate) fn step(&self) {
        self.holding.hold.step();
    }

    fn read_next(&mut self) -> Result<Option<Vec<(Place, KeyValue)>>, StorageError> {
        loop {
            self.step();
            let next = self.core().index().blocks.iter_after(self.after).next();
            let at = match next {
                Some((place, _)) if place.main <= self.revision => place,
                _ => return Ok(None),
            };
            self.after = Some(at);
            let Some(block) = read_block(self.core(), at)? else {
                let still = self.core().index().blocks.block_of(at);
                if still.is_some_and(|(place, _)| place == at) {
                    let reason = "it is missing";
                    return Err(StorageError::corrupt("block", at.to_string(), reason));
                }
                continue;
            };
            let records = self.needed(&block)?;
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
    }

    fn needed(&self, block: &Block) -> Result<Vec<(Place, KeyValue)>, StorageError> {
        let portion = u32::try_from(self.core().limits.keys_per_lock_max).unwrap_or(u32::MAX);
        let mut records = Vec::new();
        let mut number = 0;
        while number < block.records() {
            let end = block.records().min(number.saturating_add(portion.max(1)));
            let index = self.core().index();
            for number in number..end {
                let record = block.record(number)?;
                let place = record.place();
                if place.main > self.revision {
                    break;
                }
                let slots = index
                    .keys
                    .get(record.key)
                    .map_or(&[][..], |(_, slots)| slots);
                if place.main > self.compact_revision
                    || is_needed(slots, place, self.compact_revision)
                {
                    records.push((place, record.to_key_value()));
                }
            }
            number = end;
        }
        Ok(records)
    }
}

/// True for a change that some revision from the compact revision on needs.
fn is_needed(slots: &[Slot], place: Place, compact_revision: Revision) -> bool {
    if place.main > compact_revision || fault::active(Fault::DumpIgnoresCompaction) {
        return true;
    }
    newest_at(slots, compact_revision).is_some_and(|newest| {
        newest.place() == place && (!newest.is_tombstone() || place.main == compact_revision)
    })
}

/// A hash of records that come one after another.
#[derive(Debug)]
pub(crate) struct RecordHash {
    crc: u32,
    compact_revision: Revision,
}

impl RecordHash {
    /// Of nothing yet.
    pub(crate) fn new(compact_revision: Revision) -> Self {
        Self {
            crc: crc32c(HASHED_FIRST),
            compact_revision,
        }
    }

    /// Adds a record. A tombstone at the compact revision itself counts nothing, as in etcd.
    pub(crate) fn add(&mut self, place: Place, kv: &KeyValue) {
        if kv.version == 0 && place.main == self.compact_revision {
            return;
        }
        let numbers = [
            place.main.0,
            i64::from(place.sub),
            kv.create_revision.0,
            kv.version,
            kv.lease.0,
        ];
        for number in numbers {
            self.add_bytes(&number.to_be_bytes());
        }
        for bytes in [&kv.key, &kv.value] {
            self.add_bytes(&(bytes.len() as u64).to_be_bytes());
            self.add_bytes(bytes);
        }
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        self.crc = crc32c_append(self.crc, bytes);
    }

    /// The hash.
    pub(crate) fn finish(self) -> u32 {
        self.crc
    }
}

/// The hash of everything up to a revision.
pub(crate) fn hash(core: &Arc<Core>, at: Option<Revision>) -> Result<StoreHash, ReadError> {
    let mut dump = Dump::begin(core, at)?;
    let mut hash = RecordHash::new(dump.compact_revision());
    while let Some(records) = dump.next()? {
        for (place, kv) in &records {
            hash.add(*place, kv);
        }
    }
    Ok(StoreHash {
        hash: hash.finish(),
        revision: core.revision(),
        hash_revision: dump.revision(),
        compact_revision: dump.compact_revision(),
    })
}
