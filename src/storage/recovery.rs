//! Opens what lies on a disk: rebuilds the index from the blocks and takes back what was never finished.
//!
//! Damage is an error that names its place. Nothing is skipped but the tail of a revision whose last batch was never
//! written (D3), and nobody was ever told of that one.

use super::StorageError;
use super::block_table::BlockStat;
use super::checkpoint::{self, ReadAhead};
use super::codec::{
    Block, CheckpointHead, CompactionState, Identity, KEY_COMPACTION, KEY_IDENTITY, Place,
    block_key, decode_compaction, decode_identity, decode_lease, decode_marks, encode_identity,
    everything_bounds, lease_bounds, marks_bounds, parse_lease_key, parse_marks_key,
};
use super::core::Index;
use super::database::{Change, Database, Scan, Stored};
use super::fetch::Blocks;
use super::key_index::Slot;
use crate::fault::{self, Fault};
use crate::model::{LeaseId, Revision};
use bytes::Bytes;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// After how many records a batch of removals ends; a block's are never spread over two.
const REMOVED_PER_BATCH: usize = 200;

/// What lies on a disk.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Which store it is.
    pub identity: Identity,
    /// How far its compaction has come.
    pub compaction: CompactionState,
    /// The last complete revision.
    pub revision: Revision,
    /// What lies where.
    pub index: Index,
}

/// Opens a store, or makes an empty one.
pub(crate) fn recover(
    db: &dyn Database,
    dir: Option<&Path>,
    ahead: ReadAhead,
) -> Result<Recovered, StorageError> {
    let identity = match db.get(KEY_IDENTITY)? {
        Some(bytes) => decode_identity(bytes.as_ref())?,
        None => found(db)?,
    };
    let compaction = match db.get(KEY_COMPACTION)? {
        Some(bytes) => decode_compaction(bytes.as_ref())?,
        None => CompactionState::NEVER,
    };
    let floor = Revision::FRESH
        .max(compaction.scheduled)
        .max(compaction.finished);
    let expected = CheckpointHead {
        identity,
        revision: floor,
        compaction_steps: compaction.steps,
    };
    let mut rebuild = match dir.and_then(|dir| checkpoint::load(dir, db, &expected, ahead)) {
        Some((index, revision)) => Rebuild::after(index, revision, floor),
        None => Rebuild::after(Index::default(), Revision::default(), floor),
    };
    let known = rebuild.last.map_or(Revision::default(), |last| last.main);
    rebuild.scan(db, Place::first_of(known.next()))?;
    rebuild.drop_unfinished(db)?;
    rebuild.grant(db)?;
    Ok(Recovered {
        identity,
        compaction,
        revision: rebuild.revision(),
        index: rebuild.index,
    })
}

/// Founds a store in an empty directory.
fn found(db: &dyn Database) -> Result<Identity, StorageError> {
    let (from, until) = everything_bounds();
    if db.scan(&from, &until).next().transpose()?.is_some() {
        return Err(StorageError::corrupt(
            "identity",
            "meta record identity",
            "it is missing",
        ));
    }
    let identity = new_identity();
    let record = encode_identity(&identity)?;
    db.apply(vec![Change::Put(
        Bytes::from_static(KEY_IDENTITY),
        record.into(),
    )])?;
    db.sync()?;
    Ok(identity)
}

/// The numbers of a new store.
pub(crate) fn new_identity() -> Identity {
    Identity {
        cluster_id: random(),
        member_id: random(),
    }
}

/// A number that no other store has; not for secrets.
fn random() -> u64 {
    RandomState::new().hash_one(0).max(1)
}

/// A block whose revision has not ended yet.
#[derive(Debug)]
struct Unfinished {
    place: Place,
    stat: BlockStat,
    slots: Vec<(Bytes, Slot, LeaseId)>,
}

/// An index being rebuilt from blocks in order.
#[derive(Debug)]
struct Rebuild {
    index: Index,
    /// The revision below which history may have gaps: compacted, or before the first write.
    floor: Revision,
    /// The last record that was read.
    last: Option<Place>,
    /// The last revision that is complete.
    complete: Revision,
    unfinished: Vec<Unfinished>,
}

impl Rebuild {
    /// Goes on behind a revision whose index is known.
    fn after(index: Index, known: Revision, floor: Revision) -> Self {
        Self {
            index,
            floor,
            last: Some(Place {
                main: known,
                sub: u32::MAX,
            }),
            complete: floor.max(known),
            unfinished: Vec::new(),
        }
    }

    fn revision(&self) -> Revision {
        self.complete
    }

    /// Reads all blocks kept at `from` or later.
    fn scan(&mut self, db: &dyn Database, from: Place) -> Result<(), StorageError> {
        let (marks_from, marks_until) = marks_bounds(from);
        let mut marks = Marks {
            scan: db.scan(&marks_from, &marks_until),
            ahead: None,
        };
        for block in Blocks::of(db, from) {
            let block = block?;
            let dead = marks.of(&block)?;
            self.add(&block, &dead)?;
        }
        marks.check_none_left()
    }

    /// Takes the next block.
    fn add(&mut self, block: &Block, dead: &[u32]) -> Result<(), StorageError> {
        let mut dead = dead.iter().copied().peekable();
        let dead_records = u32::try_from(dead.len()).unwrap_or(u32::MAX);
        let stat = BlockStat {
            records: block.records(),
            dead: dead_records,
            marked: dead_records,
            pieces: block.pieces(),
            complete: block.is_complete(),
        };
        let mut slots = Vec::new();
        for (record, number) in block.iter().zip(0..) {
            let record = record?;
            let place = record.place();
            self.check_order(block, place)?;
            self.last = Some(place);
            if dead.next_if_eq(&number).is_some() {
                continue;
            }
            let slot = Slot {
                main: record.main,
                create_revision: record.create_revision,
                version: record.version,
                sub: record.sub,
                value_bytes: u32::try_from(record.value.len()).unwrap_or(u32::MAX),
            };
            if stat.complete && self.unfinished.is_empty() {
                self.push(record.key, slot, record.lease);
            } else {
                slots.push((Bytes::copy_from_slice(record.key), slot, record.lease));
            }
        }
        let place = block.place();
        if stat.complete && self.unfinished.is_empty() {
            self.index.blocks.insert(place, stat);
        } else {
            self.unfinished.push(Unfinished { place, stat, slots });
        }
        let last = self.last.map_or(self.floor, |last| last.main);
        // What is compacted was complete once, whatever is left of it.
        let whole = stat.complete || fault::active(Fault::UnfinishedRevisionKept);
        if whole || last <= self.floor {
            self.finish(last);
        }
        Ok(())
    }

    fn finish(&mut self, last: Revision) {
        for block in std::mem::take(&mut self.unfinished) {
            for (key, slot, lease) in &block.slots {
                self.index.keys.push(key, *slot);
                self.index.leases.attach(key, *lease);
            }
            self.index.blocks.insert(block.place, block.stat);
        }
        self.complete = self.complete.max(last);
    }

    fn push(&mut self, key: &[u8], slot: Slot, lease: LeaseId) {
        let known = self.index.keys.get(key).map(|(key, _)| key.clone());
        let key = known.unwrap_or_else(|| Bytes::copy_from_slice(key));
        self.index.keys.push(&key, slot);
        self.index.leases.attach(&key, lease);
    }

    /// Reads which leases there are.
    fn grant(&mut self, db: &dyn Database) -> Result<(), StorageError> {
        let (from, until) = lease_bounds();
        for record in db.scan(&from, &until) {
            let (key, bytes) = record?;
            let id = parse_lease_key(key.as_ref())?;
            let ttl_seconds = decode_lease(id, bytes.as_ref())?;
            self.index.leases.grant(id, ttl_seconds);
        }
        self.index.leases.detach_strays();
        Ok(())
    }

    /// Records ascend, and above the floor none is missing.
    fn check_order(&self, block: &Block, place: Place) -> Result<(), StorageError> {
        let fault = |reason: String| {
            let at = format!("block of {}", block.place());
            Err(StorageError::corrupt("history", at, reason))
        };
        if place < block.place() || self.last.is_some_and(|last| last >= place) {
            return fault(format!("{place} is out of order"));
        }
        if place.main <= self.floor {
            return Ok(());
        }
        let before = self.last.filter(|last| last.main > self.floor);
        let main = before.map_or(self.floor, |last| last.main);
        let follows = match before {
            Some(last) if last.main == place.main => place.sub == last.sub + 1,
            _ => place == Place::first_of(main.next()),
        };
        if !follows {
            return fault(format!("{place} does not follow revision {main}"));
        }
        // A new revision may only begin once the one before it has ended.
        let open = self.unfinished.first();
        if open.is_some_and(|open| open.place.main != place.main) {
            return fault(format!("revision {main} has no end"));
        }
        Ok(())
    }

    /// Removes the blocks of a revision whose last batch was never written.
    fn drop_unfinished(&mut self, db: &dyn Database) -> Result<(), StorageError> {
        let Some(first) = self.unfinished.first() else {
            return Ok(());
        };
        log::warn!(
            "revision {} was never finished and is dropped",
            first.place.main
        );
        // From the end and by whole blocks, so that a crash in between leaves the same kind of tail.
        let mut removed = Vec::new();
        while let Some(block) = self.unfinished.pop() {
            let piece = |piece| Change::Remove(block_key(block.place, piece));
            removed.extend((0..block.stat.pieces).map(piece));
            if removed.len() >= REMOVED_PER_BATCH || self.unfinished.is_empty() {
                db.apply(std::mem::take(&mut removed))?;
                db.sync()?;
            }
        }
        Ok(())
    }
}

/// The dead marks of all blocks, read along with them.
struct Marks<'a> {
    scan: Scan<'a>,
    ahead: Option<(Stored, Stored)>,
}

impl Marks<'_> {
    /// The numbers of the dead records of a block; asked in the order of blocks.
    fn of(&mut self, block: &Block) -> Result<Vec<u32>, StorageError> {
        let next = match self.ahead.take() {
            None => self.scan.next().transpose()?,
            ahead => ahead,
        };
        let Some((key, bytes)) = next else {
            return Ok(Vec::new());
        };
        let place = parse_marks_key(key.as_ref())?;
        if place < block.place() {
            return Err(no_block(place));
        }
        if place > block.place() {
            self.ahead = Some((key, bytes));
            return Ok(Vec::new());
        }
        decode_marks(place, block.records(), bytes.as_ref())
    }

    fn check_none_left(mut self) -> Result<(), StorageError> {
        let left = match self.ahead.take() {
            None => self.scan.next().transpose()?,
            ahead => ahead,
        };
        match left {
            None => Ok(()),
            Some((key, _)) => Err(no_block(parse_marks_key(key.as_ref())?)),
        }
    }
}

fn no_block(place: Place) -> StorageError {
    StorageError::corrupt("dead marks", place.to_string(), "their block is missing")
}
