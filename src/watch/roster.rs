//! Who watches what: the entries of a group that are level with it, by class.
//!
//! The roster decides whom a commit concerns and hands entries to whoever delivers; it never delivers. An entry that
//! leaves it has its true cursor written into it (W4), whichever way it leaves.

use super::class_table::{ClassId, ClassTable};
use super::slot_table::{Slot, SlotTable};
use super::{Batch, BatchLimits, Entry, WatcherId, cut};
use crate::fault::{self, Fault};
use crate::model::{Commit, Event, Revision};
use ahash::RandomState;
use smallvec::SmallVec;
use std::sync::Arc;

/// The entries of one class; a class of its own key has one, kept in place.
type Members<R> = SmallVec<[Entry<R>; 1]>;

/// The entries of a group that has handled everything up to its revision.
#[derive(Debug)]
pub struct Roster<R> {
    revision: Revision,
    classes: ClassTable<Members<R>>,
    hasher: RandomState,
    places: SlotTable<Place>,
    len: usize,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
struct Place {
    class: Slot,
    member: u32,
}

/// What one class is told of some commits. All its entries share the batches.
#[derive(Debug)]
pub struct Match {
    /// The class.
    pub class: ClassId,
    /// The events that it is told of, in order, at least one batch; mostly exactly one.
    pub batches: Vec<Arc<Batch>>,
    /// Events of a class with `prev_kv` whose previous value nobody has looked up yet. While there are any the class
    /// must not be delivered to; its entries can go to Sync instead.
    pub prev_missing: Vec<Arc<Event>>,
}

/// What becomes of an entry after it was visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// It stays.
    Keep,
    /// It leaves the roster and is handed to the caller.
    Take,
}

impl<R> Roster<R> {
    /// The empty roster of a group that has handled everything up to `revision`.
    pub fn new(revision: Revision) -> Self {
        Self {
            revision,
            classes: ClassTable::new(),
            hasher: RandomState::new(),
            places: SlotTable::new(),
            len: 0,
        }
    }

    /// The last revision that the group has handled.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The group has handled everything up to `to`: every entry that stays has been sent what it is told of.
    pub fn advance(&mut self, to: Revision) {
        self.revision = self.revision.max(to);
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many classes the entries are of.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// How many entries a class has; none once it is gone.
    pub fn class_len(&self, class: ClassId) -> usize {
        self.classes.get(class).map_or(0, SmallVec::len)
    }

    /// Takes an entry in. From now on it shares the class value of those that are there.
    pub fn insert(&mut self, mut entry: Entry<R>) {
        debug_assert!(self.get(entry.id).is_none(), "{:?} is twice", entry.id);
        let id = self.classes.find_or_insert(&entry.class);
        if let Some(class) = self.classes.class(id) {
            entry.class = Arc::clone(class);
        }
        let hash = self.hasher.hash_one(entry.id);
        let Some(members) = self.classes.get_mut(id) else {
            return;
        };
        let place = Place::at(id.slot, members.len());
        members.push(entry);
        let (hasher, classes) = (&self.hasher, &self.classes);
        let hash_of = |place| hash_place(hasher, classes, place);
        self.places.insert(hash, place, hash_of);
        self.len += 1;
    }

    /// Takes an entry out, its cursor written into it (W4).
    pub fn remove(&mut self, id: WatcherId) -> Option<Entry<R>> {
        let place = self.place(id)?;
        let class = self.classes.id(place.class)?;
        let entry = self.detach(class, place.member as usize)?;
        self.drop_if_empty(class);
        Some(entry)
    }

    /// An entry by its watcher.
    pub fn get(&self, id: WatcherId) -> Option<&Entry<R>> {
        entry_at(&self.classes, self.place(id)?)
    }

    /// All entries, class by class.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<R>> {
        self.classes.iter().flat_map(|(_, members)| members)
    }

    /// Takes all entries out, their cursors written into them: the ring has overrun the group, or it ends (W4, W5).
    pub fn take_all(&mut self) -> Vec<Entry<R>> {
        let revision = self.revision;
        let taken = std::mem::replace(self, Self::new(revision));
        let mut entries = Vec::with_capacity(taken.len);
        for mut entry in taken.classes.into_bodies().flatten() {
            entry.next_revision = entry.cursor(revision);
            entries.push(entry);
        }
        entries
    }

    /// Which classes are told of which of these events, filters applied. A class that is told of nothing is absent.
    pub fn matching(&self, commits: &[Arc<Commit>], limits: &BatchLimits) -> Vec<Match> {
        let hits = self.classes.hits(commits, |_| true).into_iter();
        hits.map(|hits| {
            let with_prev = hits.class.prev_kv;
            Match {
                class: hits.id,
                prev_missing: prev_missing(&hits.events, with_prev),
                batches: cut(hits.events, with_prev, limits),
            }
        })
        .collect()
    }

    /// Visits at most `entries_max` entries of a class from `cursor` on, moves the cursor, and gives those that the
    /// visitor takes, their cursors written into them (W4). All have been visited once the cursor has reached
    /// [`Self::class_len`]. A class that is gone has no entries to visit.
    ///
    /// Between the visits of one delivery nothing else may take entries out of the class: the mailbox is closed (W2).
    pub fn visit(
        &mut self,
        class: ClassId,
        cursor: &mut usize,
        entries_max: usize,
        mut visitor: impl FnMut(&mut Entry<R>) -> Visit,
    ) -> Vec<Entry<R>> {
        let mut taken = Vec::new();
        let mut left = entries_max;
        loop {
            let members = self.classes.get_mut(class).map(SmallVec::as_mut_slice);
            let Some(unseen) = members.and_then(|it| it.get_mut(*cursor..)) else {
                break;
            };
            let slice = unseen.iter_mut().take(left);
            let mut kept = 0;
            let mut take = false;
            for entry in slice {
                take = visitor(entry) == Visit::Take;
                if take {
                    break;
                }
                kept += 1;
            }
            *cursor += kept;
            left -= kept;
            if !take {
                break;
            }
            // The last entry, which nobody has visited yet, moves to where the cursor stands.
            taken.extend(self.detach(class, *cursor));
            left -= 1;
        }
        self.drop_if_empty(class);
        taken
    }

    fn place(&self, id: WatcherId) -> Option<Place> {
        self.places.find(self.hasher.hash_one(id), |place| {
            entry_at(&self.classes, place).is_some_and(|entry| entry.id == id)
        })
    }

    /// Takes an entry out of its class, which may be empty after that.
    fn detach(&mut self, class: ClassId, member: usize) -> Option<Entry<R>> {
        let members = self.classes.get(class)?;
        let id = members.get(member)?.id;
        let last = members.len() - 1;
        let moved = members.get(last).filter(|_| last != member).map(|it| it.id);
        // The tables first: to find a cell they look at the entries where they still are.
        let (hasher, classes) = (&self.hasher, &self.classes);
        let is_it = |id| move |place| entry_at(classes, place).is_some_and(|it| it.id == id);
        let hash_of = |place| hash_place(hasher, classes, place);
        self.places.remove(hasher.hash_one(id), is_it(id), hash_of);
        if let Some(moved) = moved
            && let Some(place) = self.places.find_mut(hasher.hash_one(moved), is_it(moved))
        {
            *place = Place::at(class.slot, member);
        }
        let members = self.classes.get_mut(class)?;
        let mut entry = members.swap_remove(member);
        if members.spilled() && members.len() * 4 <= members.capacity() {
            members.shrink_to_fit();
        }
        self.len = self.len.saturating_sub(1);
        if !fault::active(Fault::CursorNotWritten) {
            entry.next_revision = entry.cursor(self.revision);
        }
        Some(entry)
    }

    fn drop_if_empty(&mut self, class: ClassId) {
        if self.classes.get(class).is_some_and(SmallVec::is_empty) {
            self.classes.remove(class);
        }
    }
}

impl Place {
    fn at(class: Slot, member: usize) -> Self {
        Self {
            class,
            member: u32::try_from(member).unwrap_or(u32::MAX),
        }
    }
}

/// The events of a class with `prev_kv` whose previous value nobody has looked up yet.
pub(super) fn prev_missing(events: &[Arc<Event>], with_prev: bool) -> Vec<Arc<Event>> {
    let events = events.iter().filter(|_| with_prev);
    let missing = events.filter(|event| event.prev().is_none());
    missing.map(Arc::clone).collect()
}

fn entry_at<R>(classes: &ClassTable<Members<R>>, place: Place) -> Option<&Entry<R>> {
    classes.at(place.class)?.get(place.member as usize)
}

fn hash_place<R>(hasher: &RandomState, classes: &ClassTable<Members<R>>, place: Place) -> u64 {
    entry_at(classes, place).map_or(0, |entry| hasher.hash_one(entry.id))
}

#[cfg(test)]
mod tests;
