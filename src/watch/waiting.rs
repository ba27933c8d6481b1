//! Where the lagging entries that can be served now are waiting: by position, by class, and counted by stretch.
//!
//! Only positions are kept here. Whoever moves an entry takes it out and puts it in again; nothing here moves by itself.

use super::WatcherId;
use super::slot_table::Slot;
use crate::model::Revision;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// One waiting entry: it wants everything from `at` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) class: Slot,
    pub(super) at: Revision,
    pub(super) id: WatcherId,
}

/// A stretch of history that entries wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The oldest revision of the stretch that an entry waits for.
    pub from: Revision,
    /// How many entries wait within the stretch.
    pub entries: usize,
    /// Of how many classes they are.
    pub classes: usize,
}

/// All waiting entries.
#[derive(Debug)]
pub(super) struct Waiting {
    stretch_revisions: i64,
    by_position: BTreeSet<(Revision, Slot, WatcherId)>,
    by_class: BTreeSet<(Slot, Revision, WatcherId)>,
    crowds: BTreeMap<i64, Crowd>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Crowd {
    entries: usize,
    classes: usize,
}

impl Waiting {
    /// Nobody waits. Stretches are aligned: all of one number of revisions, at least 1.
    pub(super) fn new(stretch_revisions_max: usize) -> Self {
        Self {
            stretch_revisions: i64::try_from(stretch_revisions_max)
                .map_or(i64::MAX, |it| it.max(1)),
            by_position: BTreeSet::new(),
            by_class: BTreeSet::new(),
            crowds: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_position.len()
    }

    pub(super) fn insert(&mut self, wait: Wait) {
        let stretch = self.stretch_of(wait.at);
        let is_first = !self.has_class_in(wait.class, stretch);
        if self.by_position.insert((wait.at, wait.class, wait.id)) {
            self.by_class.insert((wait.class, wait.at, wait.id));
            let crowd = self.crowds.entry(stretch).or_default();
            crowd.entries += 1;
            crowd.classes += usize::from(is_first);
        }
    }

    pub(super) fn remove(&mut self, wait: Wait) {
        if !self.by_position.remove(&(wait.at, wait.class, wait.id)) {
            return;
        }
        self.by_class.remove(&(wait.class, wait.at, wait.id));
        let stretch = self.stretch_of(wait.at);
        let was_last = !self.has_class_in(wait.class, stretch);
        if let Some(crowd) = self.crowds.get_mut(&stretch) {
            crowd.entries = crowd.entries.saturating_sub(1);
            crowd.classes = crowd.classes.saturating_sub(usize::from(was_last));
            if crowd.entries == 0 {
                self.crowds.remove(&stretch);
            }
        }
    }

    /// The stretch that most entries wait for, of those that begin at or before `through`; the oldest of equals.
    pub(super) fn crowded(&self, through: Revision) -> Option<Target> {
        let crowds = self.crowds(through).rev();
        // Of equals the last one wins, which is the oldest here.
        self.target(crowds.max_by_key(|(_, crowd)| crowd.entries))
    }

    /// The oldest stretch that anyone waits for.
    pub(super) fn oldest(&self, through: Revision) -> Option<Target> {
        self.target(self.crowds(through).next())
    }

    /// The first class that waits at or after a place, within the stretch of that place and not beyond `through`.
    pub(super) fn class_from(&self, place: (Revision, Slot), through: Revision) -> Option<Wait> {
        let from = (place.0, place.1, WatcherId(0));
        let (at, class, id) = self.by_position.range(from..).next().copied()?;
        let near = at <= through && self.stretch_of(at) == self.stretch_of(place.0);
        near.then_some(Wait { class, at, id })
    }

    /// Who waits within these positions, at most so many, the oldest first.
    pub(super) fn within(&self, positions: Range<Revision>, entries_max: usize) -> Vec<Wait> {
        if positions.is_empty() {
            return Vec::new();
        }
        let bound = |at| (at, Slot::FIRST, WatcherId(0));
        self.by_position
            .range(bound(positions.start)..bound(positions.end))
            .take(entries_max)
            .map(|&(at, class, id)| Wait { class, at, id })
            .collect()
    }

    /// The same for one class.
    pub(super) fn within_class(
        &self,
        class: Slot,
        positions: Range<Revision>,
        entries_max: usize,
    ) -> Vec<Wait> {
        if positions.is_empty() {
            return Vec::new();
        }
        let bound = |at| (class, at, WatcherId(0));
        self.by_class
            .range(bound(positions.start)..bound(positions.end))
            .take(entries_max)
            .map(|&(class, at, id)| Wait { class, at, id })
            .collect()
    }

    /// The stretches that have someone at or before `through`.
    fn crowds(&self, through: Revision) -> impl DoubleEndedIterator<Item = (i64, Crowd)> {
        let last = self.stretch_of(through);
        let crowds = self.crowds.range(..=last).map(|(at, crowd)| (*at, *crowd));
        crowds.filter(move |(stretch, _)| {
            // Only in the last one they can all be beyond it.
            *stretch < last || self.first_in(*stretch).is_some_and(|from| from <= through)
        })
    }

    fn target(&self, crowd: Option<(i64, Crowd)>) -> Option<Target> {
        let (stretch, crowd) = crowd?;
        Some(Target {
            from: self.first_in(stretch)?,
            entries: crowd.entries,
            classes: crowd.classes,
        })
    }

    /// The oldest position in a stretch that someone is known to wait in.
    fn first_in(&self, stretch: i64) -> Option<Revision> {
        let start = Revision(stretch.saturating_mul(self.stretch_revisions));
        let mut from = self.by_position.range((start, Slot::FIRST, WatcherId(0))..);
        from.next().map(|wait| wait.0)
    }

    fn stretch_of(&self, at: Revision) -> i64 {
        at.0.div_euclid(self.stretch_revisions)
    }

    fn has_class_in(&self, class: Slot, stretch: i64) -> bool {
        let start = Revision(stretch.saturating_mul(self.stretch_revisions));
        let mut from = self.by_class.range((class, start, WatcherId(0))..);
        from.next()
            .is_some_and(|&(found, at, _)| found == class && self.stretch_of(at) == stretch)
    }
}
