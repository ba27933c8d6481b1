//! Which of the distinct ranges contain a key.
//!
//! Four shapes, each where it is cheapest: single keys and prefixes hashed (prefixes once for each length in use), open
//! ranges ordered by start, all others in a tree. Keys and prefixes are not copied: the index holds slots and asks the
//! owner for their ranges. It never holds one range twice, and its answers never depend on a hash.

use super::range_tree::RangeTree;
use super::slot_table::{Slot, SlotTable};
use crate::model::{KeyRange, RangeEnd};
use ahash::RandomState;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Whoever keeps the ranges that an index points at. While a slot is in the index its range must not change.
pub(super) trait Ranges {
    /// The range of a slot.
    fn range(&self, slot: Slot) -> Option<&KeyRange>;
}

/// Distinct ranges by slot.
#[derive(Debug)]
pub(super) struct IntervalIndex {
    hasher: RandomState,
    keys: SlotTable<Slot>,
    /// Prefixes by their length; an empty prefix is an open range.
    prefixes: BTreeMap<usize, SlotTable<Slot>>,
    open: BTreeMap<Bytes, Slot>,
    others: RangeTree<Slot>,
}

/// Where a range belongs.
enum Shape<'a> {
    Key(&'a [u8]),
    Prefix(&'a [u8]),
    Open(&'a Bytes),
    Other(&'a Bytes, &'a Bytes),
}

impl IntervalIndex {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            keys: SlotTable::new(),
            prefixes: BTreeMap::new(),
            open: BTreeMap::new(),
            others: RangeTree::new(),
        }
    }

    /// The slot of exactly this range.
    pub(super) fn get(&self, ranges: &impl Ranges, range: &KeyRange) -> Option<Slot> {
        match Shape::of(range) {
            Shape::Key(key) => self.find(&self.keys, ranges, key),
            Shape::Prefix(prefix) => self.find(self.prefixes.get(&prefix.len())?, ranges, prefix),
            Shape::Open(start) => self.open.get(start).copied(),
            Shape::Other(start, end) => self.others.get(start, end),
        }
    }

    /// Adds the range of this slot, which is not there yet.
    pub(super) fn insert(&mut self, ranges: &impl Ranges, slot: Slot) {
        let Some(range) = ranges.range(slot) else {
            return;
        };
        let hasher = &self.hasher;
        let hash_of = |slot| hash_start(hasher, ranges, slot);
        match Shape::of(range) {
            Shape::Key(key) => self.keys.insert(hasher.hash_one(key), slot, hash_of),
            Shape::Prefix(prefix) => {
                let table = self
                    .prefixes
                    .entry(prefix.len())
                    .or_insert(SlotTable::new());
                table.insert(hasher.hash_one(prefix), slot, hash_of);
            }
            Shape::Open(start) => {
                self.open.insert(start.clone(), slot);
            }
            Shape::Other(start, end) => self.others.insert(start.clone(), end.clone(), slot),
        }
    }

    /// Takes a range out. The owner still has it, and may forget it after this.
    pub(super) fn remove(&mut self, ranges: &impl Ranges, range: &KeyRange) -> Option<Slot> {
        let hasher = &self.hasher;
        let hash_of = |slot| hash_start(hasher, ranges, slot);
        let take = |table: &mut SlotTable<Slot>, start: &[u8]| {
            let is_it = |slot| starts_at(ranges, slot, start);
            table.remove(hasher.hash_one(start), is_it, hash_of)
        };
        match Shape::of(range) {
            Shape::Key(key) => take(&mut self.keys, key),
            Shape::Prefix(prefix) => {
                let table = self.prefixes.get_mut(&prefix.len())?;
                let slot = take(table, prefix);
                if table.is_empty() {
                    self.prefixes.remove(&prefix.len());
                }
                slot
            }
            Shape::Open(start) => self.open.remove(start),
            Shape::Other(start, end) => self.others.remove(start, end),
        }
    }

    /// The slots of all ranges that contain the key, each once.
    pub(super) fn stab(&self, ranges: &impl Ranges, key: &[u8], hit: &mut impl FnMut(Slot)) {
        if let Some(slot) = self.find(&self.keys, ranges, key) {
            hit(slot);
        }
        for (length, table) in &self.prefixes {
            let Some(prefix) = key.get(..*length) else {
                break;
            };
            if let Some(slot) = self.find(table, ranges, prefix) {
                hit(slot);
            }
        }
        let until_key = (std::ops::Bound::Unbounded, std::ops::Bound::Included(key));
        for slot in self.open.range::<[u8], _>(until_key).map(|(_, slot)| *slot) {
            hit(slot);
        }
        if self.others.len() > 0 {
            self.others.stab(key, hit);
        }
    }

    fn find(&self, table: &SlotTable<Slot>, ranges: &impl Ranges, start: &[u8]) -> Option<Slot> {
        if table.is_empty() {
            return None;
        }
        table.find(self.hasher.hash_one(start), |slot| {
            starts_at(ranges, slot, start)
        })
    }
}

impl<'a> Shape<'a> {
    fn of(range: &'a KeyRange) -> Self {
        match &range.end {
            RangeEnd::Single => Self::Key(&range.start),
            RangeEnd::Open => Self::Open(&range.start),
            RangeEnd::Until(_) if range.is_prefix() => Self::Prefix(&range.start),
            RangeEnd::Until(end) => Self::Other(&range.start, end),
        }
    }
}

/// The ranges of one table are all of one shape, and prefixes of one length, so that the start tells them apart.
fn starts_at(ranges: &impl Ranges, slot: Slot, start: &[u8]) -> bool {
    ranges.range(slot).is_some_and(|range| range.start == start)
}

fn hash_start(hasher: &RandomState, ranges: &impl Ranges, slot: Slot) -> u64 {
    let start: &[u8] = ranges.range(slot).map_or(&[], |range| &range.start);
    hasher.hash_one(start)
}

#[cfg(test)]
mod tests;
