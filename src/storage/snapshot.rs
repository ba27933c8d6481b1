//! A snapshot of the store as a stream of bytes, all of it at one revision, while writes go on.
//!
//! It holds one block and one part of the stream in memory, and never more; whoever reads it slowly only keeps compactions
//! from cleaning up. `docs/storage-format.md` draws the bytes.

use super::codec::{
    BlockBuilder, SNAPSHOT_LEASES_PER_PART, SnapshotEnd, SnapshotHead, SnapshotSum,
    bytes_before_sum, encode_snapshot_block, encode_snapshot_end, encode_snapshot_head,
    encode_snapshot_leases, snapshot_bytes,
};
use super::core::Core;
use super::dump::{Dump, RecordHash};
use super::{ReadError, StorageError};
use crate::model::{LeaseId, Refusal, Revision};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// The largest part that is given out at once, in bytes. One block more is in memory while it is put together.
pub(crate) const SNAPSHOT_PART_BYTES_MAX: usize = 256 << 10;

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPart {
    /// The bytes, in order.
    pub bytes: Bytes,
    /// How many bytes come after them.
    pub bytes_left: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Records,
    Zeros,
    Nothing,
}

/// A snapshot that is being read. It blocks on the disk.
#[derive(Debug)]
pub struct Snapshot {
    dump: Dump,
    hash: RecordHash,
    records: u64,
    sum: SnapshotSum,
    /// How long all of it is, and how much of that has been put together.
    bytes: u64,
    made_bytes: u64,
    given_bytes: u64,
    ready: BytesMut,
    next: Next,
}

impl Snapshot {
    /// Begins one at the published revision.
    pub(crate) fn begin(core: &Arc<Core>) -> Result<Self, ReadError> {
        let (dump, leases) = begin_with_leases(core)?;
        let (record_bytes, blocks) = dump.measure();
        let head = SnapshotHead {
            identity: core.identity,
            revision: dump.revision(),
            compact_revision: dump.compact_revision(),
            bytes: snapshot_bytes(record_bytes, blocks, leases.len()),
        };
        let mut snapshot = Self {
            hash: RecordHash::new(head.compact_revision),
            dump,
            records: 0,
            sum: SnapshotSum::default(),
            bytes: head.bytes,
            made_bytes: 0,
            given_bytes: 0,
            ready: BytesMut::new(),
            next: Next::Records,
        };
        snapshot.push(&encode_snapshot_head(&head)?)?;
        for part in leases.chunks(SNAPSHOT_LEASES_PER_PART) {
            snapshot.push(&encode_snapshot_leases(part)?)?;
        }
        Ok(snapshot)
    }

    /// The revision of all of it.
    pub fn revision(&self) -> Revision {
        self.dump.revision()
    }

    /// The next part; nothing when all was given.
    pub fn next_part(&mut self) -> Result<Option<SnapshotPart>, StorageError> {
        self.dump.step();
        let made = self.make();
        made.map_err(|error| self.dump.core().blame(error))?;
        let bytes = self.ready.len().min(SNAPSHOT_PART_BYTES_MAX);
        if bytes == 0 {
            return Ok(None);
        }
        self.given_bytes += bytes as u64;
        Ok(Some(SnapshotPart {
            bytes: self.ready.split_to(bytes).freeze(),
            bytes_left: self.bytes - self.given_bytes,
        }))
    }

    fn make(&mut self) -> Result<(), StorageError> {
        while self.ready.len() < SNAPSHOT_PART_BYTES_MAX && self.next != Next::Nothing {
            if self.next == Next::Records {
                self.make_block()?;
            } else {
                self.make_zeros()?;
            }
        }
        Ok(())
    }

    fn make_block(&mut self) -> Result<(), StorageError> {
        let Some(records) = self.dump.next()? else {
            let hash = RecordHash::new(self.dump.compact_revision());
            let end = SnapshotEnd {
                records: self.records,
                hash: std::mem::replace(&mut self.hash, hash).finish(),
            };
            self.next = Next::Zeros;
            return self.push(&encode_snapshot_end(&end)?);
        };
        let mut block = BlockBuilder::default();
        for (place, kv) in &records {
            block.push(place.sub, kv)?;
            self.hash.add(*place, kv);
        }
        self.records += records.len() as u64;
        let Some((first, _)) = records.first() else {
            return Ok(());
        };
        for block in block.finish(*first, true, usize::MAX)? {
            self.push(&encode_snapshot_block(*first, &block))?;
        }
        Ok(())
    }

    /// Fills up to where the checksum stands, and adds it.
    fn make_zeros(&mut self) -> Result<(), StorageError> {
        let left = bytes_before_sum(self.bytes).saturating_sub(self.made_bytes);
        if left > 0 {
            let part = usize::try_from(left).unwrap_or(SNAPSHOT_PART_BYTES_MAX);
            return self.push(&vec![0; part.min(SNAPSHOT_PART_BYTES_MAX)]);
        }
        let sum = std::mem::take(&mut self.sum).finish();
        self.ready.extend_from_slice(&sum);
        self.next = Next::Nothing;
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.made_bytes += bytes.len() as u64;
        if self.made_bytes > bytes_before_sum(self.bytes) {
            let reason = "there is more than the index says";
            return Err(StorageError::corrupt("snapshot", "its records", reason));
        }
        self.sum.update(bytes);
        self.ready.extend_from_slice(bytes);
        Ok(())
    }
}

/// A dump at the published revision, and the leases there are then. They are few words each, so all of them are copied in
/// one hold of the lock.
fn begin_with_leases(core: &Arc<Core>) -> Result<(Dump, Vec<(LeaseId, i64)>), ReadError> {
    loop {
        let (revision, leases) = {
            let index = core.index();
            let leases = index.leases.granted_after(None).collect();
            // The lock is held, so that both are of one moment.
            (core.revision(), leases)
        };
        match Dump::begin(core, Some(revision)) {
            // Writes and a compaction have come in between.
            Err(ReadError::Refused(Refusal::Compacted { .. })) => {}
            begun => return Ok((begun?, leases)),
        }
    }
}
