//! Compaction: forgets at once, cleans up in bounded steps, and goes on after a crash at any of them.
//!
//! A pass first prunes the index, then goes through the touched blocks in order of their places. In that order lies the
//! safety: when a tombstone leaves the disk, every older record of its key is already gone or marked as dead, so that no
//! deleted key comes back when the index is rebuilt. No record that the index holds is ever dropped.

use super::StorageError;
use super::block_table::BlockStat;
use super::codec::{
    Block, BlockBuilder, CompactionState, KEY_COMPACTION, Place, block_key, encode_compaction,
    encode_marks, marks_key,
};
use super::core::Core;
use super::database::Change;
use super::fetch::read_block;
use super::group::add_block;
use super::key_index::Portion;
use crate::fault::{self, Fault};
use crate::model::Revision;
use bytes::Bytes;

/// How many entries of the block table a step may pass over for each block that it may read.
const PASSED_PER_BLOCK: usize = 64;

/// What one step has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionStep {
    /// There is nothing to do.
    Idle,
    /// There is more to do.
    More,
    /// There is work, which waits until nobody reads all of the store.
    Held,
    /// Everything up to this revision is done.
    Finished(Revision),
}

#[derive(Debug)]
enum Phase {
    /// Pruning the index from this key on.
    Index(Option<Bytes>),
    /// Cleaning the blocks behind this one.
    Blocks(Option<Place>),
}

#[derive(Debug)]
struct Pass {
    through: Revision,
    phase: Phase,
}

/// What compaction has done and has to do.
#[derive(Debug)]
pub(crate) struct Compactor {
    state: CompactionState,
    pass: Option<Pass>,
}

/// What becomes of a touched block.
enum Fate {
    Keep,
    Mark(BlockStat),
    Rewrite(BlockStat),
    Remove,
}

impl Compactor {
    /// Goes on from what lies on the disk.
    pub(crate) fn new(state: CompactionState) -> Self {
        Self { state, pass: None }
    }

    /// How many batches compaction has written in all.
    pub(crate) fn steps(&self) -> u64 {
        self.state.steps
    }

    /// True when nothing is left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.pass.is_none() && self.state.scheduled <= self.state.finished
    }

    /// Schedules a compaction durably, then tells the readers; its records go in later steps (L6).
    pub(crate) fn schedule(&mut self, core: &Core, revision: Revision) -> Result<(), StorageError> {
        self.state.scheduled = revision;
        if !fault::active(Fault::CompactionNotDurable) {
            self.write(core, Vec::new())?;
        }
        if !fault::active(Fault::CompactionPublishedLate) {
            core.publish_compaction(revision);
        }
        Ok(())
    }

    /// Does one bounded part of the work.
    pub(crate) fn step(&mut self, core: &Core) -> Result<CompactionStep, StorageError> {
        let scheduled = self.state.scheduled;
        let Some(pass) = &mut self.pass else {
            if self.is_idle() {
                return Ok(CompactionStep::Idle);
            }
            if core.holds.are_there() {
                return Ok(CompactionStep::Held);
            }
            // A revision that is scheduled while a pass runs gets a pass of its own, or endless requests would keep
            // the first from ever ending.
            self.pass = Some(Pass {
                through: scheduled,
                phase: Phase::Index(None),
            });
            return Ok(CompactionStep::More);
        };
        let through = pass.through;
        match &pass.phase {
            Phase::Index(from) => {
                let next = prune_index(core, from.as_ref(), through);
                pass.phase = match next {
                    Some(next) => Phase::Index(Some(next)),
                    None => Phase::Blocks(None),
                };
                Ok(CompactionStep::More)
            }
            Phase::Blocks(after) => {
                let after = *after;
                let next = self.clean_blocks(core, after, through)?;
                if let Some(last) = next {
                    self.pass = Some(Pass {
                        through,
                        phase: Phase::Blocks(Some(last)),
                    });
                    return Ok(CompactionStep::More);
                }
                self.pass = None;
                self.state.finished = through;
                self.write(core, Vec::new())?;
                if fault::active(Fault::CompactionPublishedLate) {
                    core.publish_compaction(through);
                }
                core.measure();
                Ok(CompactionStep::Finished(through))
            }
        }
    }

    /// Cleans some touched blocks; answers the last one looked at, or nothing when all are done.
    fn clean_blocks(
        &mut self,
        core: &Core,
        after: Option<Place>,
        through: Revision,
    ) -> Result<Option<Place>, StorageError> {
        let (touched, last) = next_touched(core, after, through);
        let mut changes = Vec::new();
        let mut settled = Vec::new();
        for (place, stat) in touched {
            let block = read_block(core, place)?.ok_or_else(|| {
                StorageError::corrupt("block", place.to_string(), "it is missing")
            })?;
            let fate = clean_block(core, &block, stat, &mut changes)?;
            match fate {
                Fate::Keep => {}
                // Forgotten before its first piece goes: a reader that misses one asks the table why.
                Fate::Remove => core.change(|index| index.blocks.remove(place)),
                Fate::Mark(stat) | Fate::Rewrite(stat) => settled.push((place, stat)),
            }
        }
        if !changes.is_empty() {
            self.write(core, changes)?;
        }
        core.change(|index| {
            for (place, stat) in settled {
                index.blocks.insert(place, stat);
            }
        });
        Ok(last)
    }

    /// Writes changes and the state behind them in one durable batch.
    fn write(&mut self, core: &Core, mut changes: Vec<Change>) -> Result<(), StorageError> {
        self.state.steps += 1;
        let state = encode_compaction(&self.state)?;
        changes.push(Change::Put(
            Bytes::from_static(KEY_COMPACTION),
            state.into(),
        ));
        core.db.apply(changes)?;
        core.db.sync()
    }
}

/// Prunes a portion of the index; answers the key to go on with, or nothing at the end.
fn prune_index(core: &Core, from: Option<&Bytes>, through: Revision) -> Option<Bytes> {
    let portion = Portion {
        keys: core.limits.compaction_keys_per_step.max(1),
        changes: core.limits.compaction_changes_per_step.max(1),
    };
    core.change(|index| {
        let blocks = &mut index.blocks;
        let from = from.map(AsRef::as_ref);
        index
            .keys
            .prune(from, through, portion, |place| blocks.mark_dead(place))
    })
}

/// The next blocks that have dead records the disk does not know of, and the last block that was looked at.
fn next_touched(
    core: &Core,
    after: Option<Place>,
    through: Revision,
) -> (Vec<(Place, BlockStat)>, Option<Place>) {
    let blocks_max = core.limits.compaction_blocks_per_step.max(1);
    let index = core.index();
    let mut touched = Vec::new();
    let old = index
        .blocks
        .iter_after(after)
        .take_while(|(place, _)| place.main <= through);
    for ((place, stat), passed) in old.zip(1..) {
        if stat.dead > stat.marked {
            touched.push((place, stat));
        }
        if touched.len() == blocks_max || passed == blocks_max * PASSED_PER_BLOCK {
            return (touched, Some(place));
        }
    }
    (touched, None)
}

/// Decides what becomes of a block, and adds what that takes to the batch.
fn clean_block(
    core: &Core,
    block: &Block,
    stat: BlockStat,
    changes: &mut Vec<Change>,
) -> Result<Fate, StorageError> {
    let place = block.place();
    let (mut live, mut live_bytes, mut dead) = (Vec::new(), 0, Vec::new());
    {
        let index = core.index();
        for number in 0..block.records() {
            let record = block.record(number)?;
            let lost = number == 0 && fault::active(Fault::LiveRecordCleaned);
            if index.keys.holds(record.key, record.place()) && !lost {
                live_bytes += record.bytes();
                live.push(number);
            } else {
                dead.push(number);
            }
        }
    }
    if dead.is_empty() {
        return Ok(Fate::Keep);
    }
    if live.is_empty() {
        changes.extend((0..stat.pieces).map(|piece| Change::Remove(block_key(place, piece))));
        changes.push(Change::Remove(marks_key(place)));
        return Ok(Fate::Remove);
    }
    // A block of several pieces is read piece by piece, so it must not change under a reader.
    if live_bytes * 2 < block.bytes() && stat.pieces == 1 {
        let mut rest = BlockBuilder::default();
        for number in live {
            let record = block.record(number)?;
            rest.push(record.sub, &record.to_key_value())?;
        }
        let stat = add_block(changes, place, rest, block.is_complete(), core)?;
        changes.push(Change::Remove(marks_key(place)));
        return Ok(Fate::Rewrite(stat));
    }
    let dead_records = u32::try_from(dead.len()).unwrap_or(u32::MAX);
    let marks = encode_marks(block.records(), dead)?;
    if !fault::active(Fault::DeadMarksForgotten) {
        changes.push(Change::Put(marks_key(place), marks.into()));
    }
    Ok(Fate::Mark(BlockStat {
        dead: dead_records,
        marked: dead_records,
        ..stat
    }))
}
