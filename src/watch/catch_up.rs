//! Late watchers, the pure half of Sync: who lags where, what to read next, and what a piece of history means for whom.
//!
//! An entry here is ready or has one delivery outstanding, never more (L3), and only ready entries are planned for. What
//! was read is handed out at most once to each, and never anything beyond what the caller says was covered (L1).

use super::class_table::{ClassId, ClassTable, Hits};
use super::roster::prev_missing;
use super::slot_table::Slot;
use super::waiting::{Wait, Waiting};
use super::{Batch, BatchLimits, Entry, WatcherId, cut, select};
use crate::fault::{self, Fault};
use crate::model::{Commit, Event, KeyRange, Revision};
use ahash::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

mod plan;

pub use plan::{Pick, Plan};

/// Up to so many classes are told apart in what is read for them.
const OUTLINED_CLASSES_MAX: usize = 16;

/// The sizes of the steps.
#[derive(Clone, Copy, Debug)]
pub struct CatchUpLimits {
    /// Revisions that one read of history covers at most.
    pub stretch_revisions_max: usize,
    /// Revisions that one pick reads at most.
    pub revisions_per_pick_max: usize,
    /// Classes that one plan looks at, at most.
    pub classes_per_plan_max: usize,
    /// Entries that one step moves at most; the rest stay ready and are served by the next.
    pub watchers_per_pass_max: usize,
    /// Events that one step puts into batches at most, counted anew for each batch: entries of one class at a thousand
    /// positions need a thousand of them. One batch is always made.
    pub batched_events_per_pass_max: usize,
    /// What one watcher is handed at once.
    pub batch: BatchLimits,
}

impl Default for CatchUpLimits {
    fn default() -> Self {
        Self {
            stretch_revisions_max: 1000,
            revisions_per_pick_max: 128,
            classes_per_plan_max: 64,
            watchers_per_pass_max: 2048,
            batched_events_per_pass_max: 1 << 16,
            batch: BatchLimits::default(),
        }
    }
}

/// A batch and who gets it. Their cursors already stand behind it, and they are not ready before they are
/// [`CatchUp::delivered`]; who cannot take it is removed, and keeps the batch as a victim.
#[derive(Debug)]
pub struct Handout {
    /// What they get.
    pub batch: Arc<Batch>,
    /// Who they are.
    pub watchers: Vec<WatcherId>,
    /// Events of a batch with `prev_kv` whose previous value has to be filled in before it is delivered.
    pub prev_missing: Vec<Arc<Event>>,
}

/// All lagging entries of a group.
#[derive(Debug)]
pub struct CatchUp<R> {
    limits: CatchUpLimits,
    lagging: HashMap<WatcherId, Lagging<R>, RandomState>,
    classes: ClassTable<Tally>,
    ready: Waiting,
    /// Entries with a delivery outstanding, by position.
    parked: BTreeSet<(Revision, WatcherId)>,
    plans: u64,
    passes: u64,
}

#[derive(Debug)]
struct Lagging<R> {
    entry: Entry<R>,
    class: ClassId,
    parked: bool,
}

#[derive(Debug, Default)]
struct Tally {
    members: usize,
    /// The key index called the class dense up to here.
    dense_until: Revision,
    /// The last pass that had a ready entry of the class in its stretch.
    pass: u64,
}

impl<R> CatchUp<R> {
    /// Nobody lags.
    pub fn new(limits: CatchUpLimits) -> Self {
        Self {
            limits,
            // Ids are our own, so nobody can choose some that collide; a simulation that lets Sync die lets go of its entries
            // in the same order every time (T5).
            lagging: HashMap::with_hasher(RandomState::with_seeds(1, 2, 3, 4)),
            classes: ClassTable::new(),
            ready: Waiting::new(limits.stretch_revisions_max),
            parked: BTreeSet::new(),
            plans: 0,
            passes: 0,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.lagging.len()
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.lagging.is_empty()
    }

    /// How many of the entries have no delivery outstanding.
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Takes an entry in, ready. From now on it shares the class value of those that are there.
    pub fn insert(&mut self, mut entry: Entry<R>) {
        debug_assert!(!self.lagging.contains_key(&entry.id), "an entry is twice");
        let class = self.classes.find_or_insert(&entry.class);
        if let Some(shared) = self.classes.class(class) {
            entry.class = Arc::clone(shared);
        }
        if let Some(tally) = self.classes.get_mut(class) {
            tally.members += 1;
        }
        self.ready.insert(Wait {
            class: class.slot,
            at: entry.next_revision,
            id: entry.id,
        });
        let lagging = Lagging {
            class,
            parked: false,
            entry,
        };
        self.lagging.insert(lagging.entry.id, lagging);
    }

    /// Takes an entry out: it is gone, or it stalled.
    pub fn remove(&mut self, id: WatcherId) -> Option<Entry<R>> {
        let lagging = self.lagging.remove(&id)?;
        self.take_off(&lagging);
        if let Some(tally) = self.classes.get_mut(lagging.class) {
            tally.members = tally.members.saturating_sub(1);
            if tally.members == 0 {
                self.classes.remove(lagging.class);
            }
        }
        Some(lagging.entry)
    }

    /// Takes all entries out, by watcher.
    pub fn take_all(&mut self) -> Vec<Entry<R>> {
        let taken = std::mem::replace(self, Self::new(self.limits));
        let entries = taken.lagging.into_values().map(|lagging| lagging.entry);
        let mut entries: Vec<_> = entries.collect();
        entries.sort_unstable_by_key(|entry| entry.id);
        entries
    }

    /// An entry by its watcher.
    pub fn get(&self, id: WatcherId) -> Option<&Entry<R>> {
        self.lagging.get(&id).map(|lagging| &lagging.entry)
    }

    /// The way to a watcher, to deliver through.
    pub fn link_mut(&mut self, id: WatcherId) -> Option<&mut R> {
        self.lagging
            .get_mut(&id)
            .map(|lagging| &mut lagging.entry.link)
    }

    /// The watcher has handled what it was handed: it is ready for more (L3).
    pub fn delivered(&mut self, id: WatcherId) {
        let Some(lagging) = self.lagging.get_mut(&id) else {
            return;
        };
        let at = lagging.entry.next_revision;
        if std::mem::replace(&mut lagging.parked, false) {
            self.parked.remove(&(at, id));
            let class = lagging.class.slot;
            self.ready.insert(Wait { class, at, id });
        }
    }

    /// What everything that lags lies in; nothing when it is of so many classes that nobody should look at each.
    pub fn outline(&self) -> Option<KeyRange> {
        if self.classes.len() > OUTLINED_CLASSES_MAX {
            return None;
        }
        let mut ranges = self.classes.iter().map(|(class, _)| &class.range);
        let first = ranges.next()?.clone();
        Some(ranges.fold(first, |outline, range| outline.hull(range)))
    }

    /// History was read: `commits` are all there is at the revisions of `covered`, or all there is of `outline`. Whoever
    /// waits within them is handed a batch, or moves on where nothing concerns it.
    pub fn absorb(
        &mut self,
        commits: &[Arc<Commit>],
        covered: Range<Revision>,
        outline: Option<&KeyRange>,
    ) -> Vec<Handout> {
        let mut waits = self
            .ready
            .within(covered.clone(), self.limits.watchers_per_pass_max.max(1));
        if let Some(outline) = outline
            && !fault::active(Fault::OutlineForAll)
        {
            // Who has come while it was read may want more than was asked for.
            waits.retain(|wait| self.lies_in(wait.class, outline));
        }
        waits.sort_unstable_by_key(|wait| (wait.class, wait.at, wait.id));
        self.passes = self.passes.wrapping_add(1);
        let pass = self.passes;
        for waits in waits.chunk_by(|a, b| a.class == b.class) {
            let id = waits.first().and_then(|wait| self.classes.id(wait.class));
            if let Some(tally) = id.and_then(|id| self.classes.get_mut(id)) {
                tally.pass = pass;
            }
        }
        let hits = self
            .classes
            .hits(within(commits, &covered), |tally| tally.pass == pass);
        // Both go by class, and there are no hits but for classes that wait.
        let mut hits = hits.into_iter().peekable();
        let mut handouts = Handouts::default();
        for waits in waits.chunk_by(|a, b| a.class == b.class) {
            let class = waits.first().map(|wait| wait.class);
            match hits.next_if(|hits| Some(hits.id.slot) == class) {
                Some(hits) => self.hand_out(hits, waits, covered.end, &mut handouts),
                None => waits
                    .iter()
                    .for_each(|wait| self.move_to(wait.id, covered.end, false)),
            }
        }
        handouts.made
    }

    fn lies_in(&self, class: Slot, outline: &KeyRange) -> bool {
        let id = self.classes.id(class);
        let class = id.and_then(|id| self.classes.class(id));
        class.is_some_and(|class| outline.encloses(&class.range))
    }

    /// A pick was read: `commits` are all there is of its range before `next`, which is the pick's own unless not all of
    /// it was read; then it is the first of its revisions that was not.
    pub fn absorb_pick(
        &mut self,
        pick: &Pick,
        commits: &[Arc<Commit>],
        next: Revision,
    ) -> Vec<Handout> {
        let covered = pick.from..next;
        let mut handouts = Handouts::default();
        if self.classes.class(pick.id).is_none() {
            return Vec::new();
        }
        let waits_max = self.limits.watchers_per_pass_max.max(1);
        let waits = self
            .ready
            .within_class(pick.id.slot, covered.clone(), waits_max);
        let hits = Hits {
            id: pick.id,
            class: Arc::clone(&pick.class),
            events: select(&pick.class, within(commits, &covered), pick.from),
        };
        let next = if fault::active(Fault::PickClaimsOneMore) {
            next.next()
        } else {
            next
        };
        self.hand_out(hits, &waits, next, &mut handouts);
        handouts.made
    }

    /// Takes out entries that want what is compacted, at most `entries_max`: they are to be told so (L6).
    pub fn compacted(&mut self, compact_revision: Revision, entries_max: usize) -> Vec<Entry<R>> {
        self.take_within(Revision(i64::MIN)..compact_revision, entries_max)
    }

    /// Takes out entries that have been handed everything up to `revision`, at most `entries_max`: the group can have
    /// them back. Their last delivery may still be outstanding; what the group sends comes after it (L2).
    pub fn level(&mut self, revision: Revision, entries_max: usize) -> Vec<Entry<R>> {
        let mut entries = self.take_within(revision.next()..Revision(i64::MAX), entries_max);
        if fault::active(Fault::HandOverMissesOne) {
            for entry in &mut entries {
                entry.next_revision = entry.next_revision.next();
            }
        }
        entries
    }

    fn take_within(&mut self, positions: Range<Revision>, entries_max: usize) -> Vec<Entry<R>> {
        if positions.is_empty() {
            return Vec::new();
        }
        let bound = |at| (at, WatcherId(0));
        let parked = self
            .parked
            .range(bound(positions.start)..bound(positions.end));
        let mut ids: Vec<_> = parked.take(entries_max).map(|(_, id)| *id).collect();
        let left = entries_max.saturating_sub(ids.len());
        let ready = self.ready.within(positions, left);
        ids.extend(ready.iter().map(|wait| wait.id));
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Cuts what a class is told into batches once, for all its entries: each gets the rest, from its own position on, of
    /// the first batch that it has not had. So positions that differ come together at the next cut.
    fn hand_out(&mut self, hits: Hits, waits: &[Wait], next: Revision, handouts: &mut Handouts) {
        let oldest = waits.first().map_or(next, |wait| wait.at);
        let mut events = hits.events;
        events.drain(..events.partition_point(|event| event.kv.mod_revision < oldest));
        let batches = cut(events, hits.class.prev_kv, &self.limits.batch);
        let first = handouts.made.len();
        for wait in waits {
            let index = batches.partition_point(|batch| batch.last() < wait.at);
            let Some(batch) = batches.get(index) else {
                self.move_to(wait.id, next, false);
                continue;
            };
            let later = batches
                .get(index + 1)
                .filter(|_| !fault::active(Fault::LaterBatchesSkipped));
            let after = later.map_or(next, |batch| batch.first());
            // Entries come by position: those that want the same events come one after the other.
            let shared = handouts.made.get_mut(first..).and_then(<[_]>::last_mut);
            if let Some(handout) = shared.filter(|it| wait.at <= it.batch.first()) {
                handout.watchers.push(wait.id);
            } else if handouts.batched_events < self.limits.batched_events_per_pass_max.max(1) {
                let Some(batch) = batch.since(wait.at) else {
                    continue;
                };
                handouts.add(batch.into_owned(), wait.id);
            } else {
                // Enough for one pass: this entry and those behind it stay ready.
                return;
            }
            self.move_to(wait.id, after, true);
        }
    }

    /// Moves a ready entry on, and parks it when it has been handed something.
    fn move_to(&mut self, id: WatcherId, next: Revision, parked: bool) {
        let Some(lagging) = self.lagging.get_mut(&id) else {
            return;
        };
        let mut wait = Wait {
            class: lagging.class.slot,
            at: lagging.entry.next_revision,
            id,
        };
        lagging.entry.next_revision = next;
        lagging.parked = parked;
        self.ready.remove(wait);
        if parked {
            self.parked.insert((next, id));
        } else {
            wait.at = next;
            self.ready.insert(wait);
        }
    }

    fn take_off(&mut self, lagging: &Lagging<R>) {
        let (at, id) = (lagging.entry.next_revision, lagging.entry.id);
        if lagging.parked {
            self.parked.remove(&(at, id));
        } else {
            let class = lagging.class.slot;
            self.ready.remove(Wait { class, at, id });
        }
    }
}

/// What one pass hands out, and how many events it has put into batches for that.
#[derive(Debug, Default)]
struct Handouts {
    made: Vec<Handout>,
    batched_events: usize,
}

impl Handouts {
    fn add(&mut self, batch: Arc<Batch>, watcher: WatcherId) {
        self.batched_events += batch.events().len();
        self.made.push(Handout {
            prev_missing: prev_missing(batch.events(), batch.with_prev()),
            batch,
            watchers: vec![watcher],
        });
    }
}

/// The commits of a stretch: ascending, so that they are one piece.
fn within<'a>(commits: &'a [Arc<Commit>], covered: &Range<Revision>) -> &'a [Arc<Commit>] {
    let from = commits.partition_point(|commit| commit.revision < covered.start);
    let to = commits.partition_point(|commit| commit.revision < covered.end);
    commits.get(from..to).unwrap_or(&[])
}

#[cfg(test)]
mod tests;
