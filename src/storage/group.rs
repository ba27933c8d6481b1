//! Writes a group of revisions to the disk: records into blocks, blocks into batches, each batch made durable (D1-D3).
//!
//! It knows nothing of who reads. What it answers may be merged into the index, and nothing before.

use super::StorageError;
use super::block_table::BlockStat;
use super::codec::{BlockBuilder, Place, block_key, encode_lease, lease_key};
use super::core::Core;
use super::database::Change;
use super::overlay::{Events, LeaseChanges};
use crate::fault::{self, Fault};
use crate::model::Revision;

/// The blocks that a group was written as.
pub(crate) type Blocks = Vec<(Place, BlockStat)>;

/// A group on its way to the disk.
#[derive(Debug)]
pub(crate) struct GroupWriter<'a> {
    core: &'a Core,
    /// The blocks of the batch that is being put together.
    batch: Vec<(Place, BlockBuilder)>,
    batch_bytes: usize,
    /// What goes with the next batch beside its blocks.
    beside: Vec<Change>,
    /// What goes with the last batch.
    at_the_end: Vec<Change>,
    written: Blocks,
}

impl<'a> GroupWriter<'a> {
    /// An empty group.
    pub(crate) fn new(core: &'a Core) -> Self {
        Self {
            core,
            batch: Vec::new(),
            batch_bytes: 0,
            beside: Vec::new(),
            at_the_end: Vec::new(),
            written: Vec::new(),
        }
    }

    /// Adds what the group does to leases. A lease is there before its first key, and goes after its last: a crash in between
    /// leaves a lease without keys, which ends by itself, and never a key that has lost its lease.
    pub(crate) fn add_leases(&mut self, leases: &LeaseChanges) -> Result<(), StorageError> {
        for (id, ttl_seconds) in &leases.granted {
            let key = lease_key(*id);
            match ttl_seconds {
                Some(ttl_seconds) => {
                    let record = encode_lease(*ttl_seconds)?.into();
                    self.beside.push(Change::Put(key, record));
                }
                None if fault::active(Fault::LeaseRemovedFirst) => {
                    self.beside.push(Change::Remove(key));
                }
                None => self.at_the_end.push(Change::Remove(key)),
            }
        }
        Ok(())
    }

    /// Adds a revision. Only one that is larger than a batch is ever spread over several (D3).
    pub(crate) fn add(&mut self, revision: Revision, events: &Events) -> Result<(), StorageError> {
        let batch_bytes_max = self.core.limits.batch_bytes_max;
        let bytes: usize = events
            .iter()
            .map(|event| record_bytes(event.kv.bytes()))
            .sum();
        if self.batch_bytes + bytes > batch_bytes_max {
            self.write_batch(true)?;
        }
        let large = bytes > batch_bytes_max;
        for (event, sub) in events.iter().zip(0..) {
            let bytes = record_bytes(event.kv.bytes());
            if large && !self.batch.is_empty() && self.batch_bytes + bytes > batch_bytes_max {
                self.write_batch(fault::active(Fault::LargeRevisionInParts))?;
            }
            self.push(
                Place {
                    main: revision,
                    sub,
                },
                &event.kv,
            )?;
            self.batch_bytes += bytes;
        }
        // A block of such a revision holds nothing else, so that recovery can drop it alone.
        if large {
            self.write_batch(true)?;
        }
        Ok(())
    }

    fn push(&mut self, place: Place, kv: &crate::model::KeyValue) -> Result<(), StorageError> {
        let limits = &self.core.limits;
        let block_bytes_max = limits.block_bytes_max.min(limits.record_bytes_max);
        let open = self.batch.last_mut();
        if let Some((_, block)) = open.filter(|(_, block)| block.bytes_with(kv) <= block_bytes_max)
        {
            block.push(place.sub, kv)
        } else {
            let mut block = BlockBuilder::default();
            block.push(place.sub, kv)?;
            self.batch.push((place, block));
            Ok(())
        }
    }

    /// Writes what is left; answers the blocks of the whole group, all of them durable.
    pub(crate) fn finish(mut self) -> Result<Blocks, StorageError> {
        self.beside.append(&mut self.at_the_end);
        self.write_batch(true)?;
        Ok(self.written)
    }

    /// Writes the batch and waits until it is durable, so that no batch lies on the disk without those before it.
    fn write_batch(&mut self, complete: bool) -> Result<(), StorageError> {
        if self.batch.is_empty() && self.beside.is_empty() {
            return Ok(());
        }
        let mut changes = std::mem::take(&mut self.beside);
        changes.reserve(self.batch.len());
        for (place, block) in self.batch.drain(..) {
            let stat = add_block(&mut changes, place, block, complete, self.core)?;
            self.written.push((place, stat));
        }
        self.batch_bytes = 0;
        self.core.db.apply(changes)?;
        if fault::active(Fault::AnswerBeforeSync) {
            return Ok(());
        }
        match self.core.db.sync() {
            Err(_) if fault::active(Fault::SyncErrorIgnored) => Ok(()),
            synced => synced,
        }
    }
}

/// What a record takes in a block, in bytes.
fn record_bytes(key_and_value_bytes: usize) -> usize {
    super::codec::RECORD_OVERHEAD_BYTES + key_and_value_bytes
}

/// Adds a block's pieces to a batch.
pub(crate) fn add_block(
    changes: &mut Vec<Change>,
    place: Place,
    block: BlockBuilder,
    complete: bool,
    core: &Core,
) -> Result<BlockStat, StorageError> {
    let records = block.records();
    let record_bytes_max = if fault::active(Fault::LargeRecordUncut) {
        usize::MAX
    } else {
        core.limits.record_bytes_max
    };
    let pieces = block.finish(place, complete, record_bytes_max)?;
    let mut stat = BlockStat {
        records,
        complete,
        ..BlockStat::default()
    };
    for (piece, number) in pieces.into_iter().zip(0..) {
        changes.push(Change::Put(block_key(place, number), piece.into()));
        stat.pieces = number + 1;
    }
    Ok(stat)
}
