//! Which key changed when: every live key with the places of its changes, in memory.
//!
//! It holds no values and does no I/O. Whoever holds it behind a lock looks at a bounded number of keys per hold (D6).

use super::codec::{Place, RECORD_OVERHEAD_BYTES};
use crate::fault::{self, Fault};
use crate::model::{KeyRange, Revision};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;

/// One change of one key: 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// The revision of the change.
    pub main: Revision,
    /// The revision of the put that began the key's life; 0 in a tombstone.
    pub create_revision: Revision,
    /// 1 for the put that began the key's life, one more for each put after it; 0 is a tombstone.
    pub version: i64,
    /// The number of the change within its revision.
    pub sub: u32,
    /// The length of the value, in bytes.
    pub value_bytes: u32,
}

impl Slot {
    /// True for a deletion.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    /// Where the change stands in the order of all changes.
    pub(crate) fn place(&self) -> Place {
        Place {
            main: self.main,
            sub: self.sub,
        }
    }

    /// What the change takes on disk, in bytes.
    fn stored_bytes(&self, key: &[u8]) -> u64 {
        (RECORD_OVERHEAD_BYTES + key.len()) as u64 + u64::from(self.value_bytes)
    }
}

/// The changes of one key in order.
pub(crate) type Slots = SmallVec<[Slot; 1]>;

/// The newest change at or before a revision, tombstones included.
pub(crate) fn newest_at(slots: &[Slot], revision: Revision) -> Option<&Slot> {
    let behind = slots.partition_point(|slot| slot.main <= revision);
    slots.get(behind.checked_sub(1)?)
}

/// What the key is at a revision: nothing when it does not exist there.
pub(crate) fn live_at(slots: &[Slot], revision: Revision) -> Option<&Slot> {
    newest_at(slots, revision).filter(|slot| !slot.is_tombstone())
}

/// The changes within inclusive bounds.
pub(crate) fn slots_between(slots: &[Slot], from: Revision, through: Revision) -> &[Slot] {
    let begin = slots.partition_point(|slot| slot.main < from);
    let end = slots.partition_point(|slot| slot.main <= through);
    slots.get(begin..end).unwrap_or_default()
}

/// Every key with its changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyIndex {
    keys: BTreeMap<Bytes, Slots>,
    live_bytes: u64,
}

impl KeyIndex {
    /// What the changes it holds take on disk, in bytes.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// The key as the index shares it, and its changes.
    pub(crate) fn get(&self, key: &[u8]) -> Option<(&Bytes, &[Slot])> {
        self.keys
            .get_key_value(key)
            .map(|(key, slots)| (key, slots.as_slice()))
    }

    /// True when the key has a change at this place.
    pub(crate) fn holds(&self, key: &[u8], place: Place) -> bool {
        self.keys
            .get(key)
            .is_some_and(|slots| slots.binary_search_by_key(&place, Slot::place).is_ok())
    }

    /// The keys of a range in order, those behind `after` when it is given.
    pub(crate) fn range<'a>(&'a self, range: &KeyRange, after: Option<&[u8]>) -> Keys<'a> {
        if range.is_empty() {
            return Keys(None);
        }
        let (start, end) = range.bounds();
        let start = after.map_or(start, Bound::Excluded);
        let past = match (start, end) {
            (Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
            (Bound::Excluded(start), Bound::Included(end)) => start > end,
            _ => false,
        };
        if past {
            return Keys(None);
        }
        Keys(Some(self.keys.range::<[u8], _>((start, end))))
    }

    /// Adds a change, which is newer than all others of its key. A new key is kept as it comes: it must not be a slice
    /// of something large.
    pub(crate) fn push(&mut self, key: &Bytes, slot: Slot) {
        self.live_bytes += slot.stored_bytes(key);
        if let Some(slots) = self.keys.get_mut(key) {
            slots.push(slot);
        } else {
            self.keys.insert(key.clone(), SmallVec::from_buf([slot]));
        }
    }

    /// Adds a group's changes of one key, which are newer than all others of it, as [`Self::push`] does.
    pub(crate) fn append(&mut self, key: Bytes, new: Slots) {
        let bytes: u64 = new.iter().map(|slot| slot.stored_bytes(&key)).sum();
        self.live_bytes += bytes;
        match self.keys.entry(key) {
            btree_map::Entry::Occupied(known) => known.into_mut().extend_from_slice(&new),
            btree_map::Entry::Vacant(unknown) => {
                unknown.insert(new);
            }
        }
    }

    /// Drops what only revisions older than `through` need, for a bounded portion of the keys from `from` on, telling
    /// `dead` of every change that went. Answers the key to go on with, or nothing at the end.
    ///
    /// Of each key stay the changes newer than `through` and the newest of the others, that one only if it is a put or
    /// lies exactly at `through`: a watch that starts there still has to see the delete.
    pub(crate) fn prune(
        &mut self,
        from: Option<&[u8]>,
        through: Revision,
        portion: Portion,
        mut dead: impl FnMut(Place),
    ) -> Option<Bytes> {
        let start = from.map_or(Bound::Unbounded, Bound::Included);
        let bounds = (start, Bound::Unbounded);
        let (mut left, mut next, mut emptied) = (portion, None, Vec::new());
        for (key, slots) in self.keys.range_mut::<[u8], _>(bounds) {
            if left.keys == 0 || left.changes == 0 {
                next = Some(key.clone());
                break;
            }
            let prunable = prunable(slots, through);
            let drop = prunable.min(left.changes);
            for slot in slots.drain(..drop) {
                self.live_bytes = self.live_bytes.saturating_sub(slot.stored_bytes(key));
                dead(slot.place());
            }
            if slots.is_empty() {
                emptied.push(key.clone());
            } else if slots.spilled() && slots.len() <= slots.capacity() / 4 {
                slots.shrink_to_fit();
            }
            // The oldest went first, so that the rest may go later.
            if drop < prunable {
                next = Some(key.clone());
                break;
            }
            left.keys -= 1;
            left.changes -= drop;
        }
        for key in emptied {
            self.keys.remove(&key);
        }
        next
    }
}

/// How much of the index is pruned at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portion {
    /// How many keys are looked at.
    pub keys: usize,
    /// How many changes are dropped.
    pub changes: usize,
}

/// How many of the oldest changes of a key a compaction drops.
fn prunable(slots: &[Slot], through: Revision) -> usize {
    let old = slots.partition_point(|slot| slot.main <= through);
    let newest = old.checked_sub(1).and_then(|newest| slots.get(newest));
    match newest {
        None => 0,
        Some(_) if fault::active(Fault::LiveRecordPruned) => old,
        Some(slot) if slot.is_tombstone() && fault::active(Fault::TombstoneForgotten) => old,
        Some(slot) if slot.is_tombstone() && slot.main < through => old,
        Some(_) => old - 1,
    }
}

/// Keys in order with their changes.
#[derive(Debug)]
pub(crate) struct Keys<'a>(Option<btree_map::Range<'a, Bytes, Slots>>);

impl<'a> Iterator for Keys<'a> {
    type Item = (&'a Bytes, &'a [Slot]);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, slots) = self.0.as_mut()?.next()?;
        Some((key, slots.as_slice()))
    }
}

#[cfg(test)]
mod tests;
