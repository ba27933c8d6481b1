//! Which blocks lie on the disk and how much of each is dead, in memory.
//!
//! It says where a change is found and which blocks are worth rewriting; it never touches the disk itself.

use super::codec::Place;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound;

/// One block: 16 bytes beside its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockStat {
    /// How many records it holds.
    pub records: u32,
    /// How many of them no revision needs any more.
    pub dead: u32,
    /// How many of them are known as dead on disk, by the block's marks.
    pub marked: u32,
    /// How many pieces it has.
    pub pieces: u16,
    /// True when no revision in it goes on in a later batch (D3).
    pub complete: bool,
}

/// Every block by its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockTable {
    blocks: BTreeMap<Place, BlockStat>,
}

impl BlockTable {
    /// Adds a block or replaces what is known of it.
    pub(crate) fn insert(&mut self, place: Place, stat: BlockStat) {
        self.blocks.insert(place, stat);
    }

    /// Forgets a block.
    pub(crate) fn remove(&mut self, place: Place) {
        self.blocks.remove(&place);
    }

    /// The block that holds this place, if any block does.
    pub(crate) fn block_of(&self, place: Place) -> Option<(Place, BlockStat)> {
        let (at, stat) = self.blocks.range(..=place).next_back()?;
        Some((*at, *stat))
    }

    /// Counts the change at this place as dead.
    pub(crate) fn mark_dead(&mut self, place: Place) {
        if let Some((_, stat)) = self.blocks.range_mut(..=place).next_back() {
            stat.dead = stat.dead.saturating_add(1).min(stat.records);
        }
    }

    /// The blocks behind `after`, in order.
    pub(crate) fn iter_after(
        &self,
        after: Option<Place>,
    ) -> impl Iterator<Item = (Place, BlockStat)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.blocks
            .range((start, Bound::Unbounded))
            .map(|(place, stat)| (*place, *stat))
    }
}
