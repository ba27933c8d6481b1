//! The face of the store for everyone who reads: cloneable, and never waiting for the disk on the caller's thread.
//!
//! What is in memory is answered at once; the rest is answered through the callback from a reader thread. It never
//! shows a revision that is not durable, and never one that is compacted away.

use super::codec::{Identity, Place};
use super::core::{Core, Sizes};
use super::dump::{StoreHash, hash};
use super::fetch::{Fetched, fetch, fetch_cached};
use super::history::{Stretch, history, history_cached};
use super::key_index::{Slot, live_at, slots_between};
use super::readers::{Job, ReaderPool};
use super::selection::{Chosen, Selection};
use super::snapshot::Snapshot;
use super::{ReadError, StorageError};
use crate::fault::{self, Fault};
use crate::model::{
    Alarm, Commit, Event, EventKind, KeyRange, KeyValue, LeaseId, RangeAnswer, RangeQuery, Refusal,
    Revision,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Called exactly once with the outcome of a read.
pub type Done<T> = Box<dyn FnOnce(Result<T, ReadError>) + Send>;

/// Which revisions touch a range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// These, ascending.
    Revisions(Vec<Revision>),
    /// Too many to name: scan history instead.
    Dense,
}

/// A reader's handle of the store.
#[derive(Clone, Debug)]
pub struct ReadView {
    core: Arc<Core>,
    pool: Arc<ReaderPool>,
}

/// Where a read may look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// One hold of the index lock and the caches.
    Memory,
    /// Everywhere.
    Disk,
}

/// What a read needs more than memory for.
enum Outcome<T> {
    Done(Result<T, ReadError>),
    NeedsReader,
}

impl ReadView {
    pub(super) fn new(core: Arc<Core>, pool: Arc<ReaderPool>) -> Self {
        Self { core, pool }
    }

    #[cfg(test)]
    pub(super) fn limits(&self) -> &super::StorageLimits {
        &self.core.limits
    }

    /// The last published revision.
    pub fn revision(&self) -> Revision {
        self.core.revision()
    }

    /// The oldest revision that may be read.
    pub fn compact_revision(&self) -> Revision {
        self.core.compact_revision()
    }

    /// Which store this is.
    pub fn identity(&self) -> Identity {
        self.core.identity
    }

    /// How large the store is now.
    pub fn sizes(&self) -> Sizes {
        // A defragmentation changes them without a commit.
        self.core.measure();
        self.core.sizes()
    }

    /// The leases there are, with how many seconds each lives.
    pub fn leases(&self) -> Vec<(LeaseId, i64)> {
        let mut leases: Vec<(LeaseId, i64)> = Vec::new();
        loop {
            let (known, last) = (leases.len(), leases.last().map(|(id, _)| *id));
            let index = self.core.index();
            let granted = index.leases.granted_after(last);
            leases.extend(granted.take(self.core.limits.keys_per_lock_max.max(1)));
            if leases.len() == known {
                return leases;
            }
        }
    }

    /// The keys that are attached to a lease, in order.
    pub fn keys_of_lease(&self, id: LeaseId) -> Vec<Bytes> {
        let mut keys: Vec<Bytes> = Vec::new();
        loop {
            let known = keys.len();
            let index = self.core.index();
            let attached = index.leases.keys_after(id, keys.last());
            let more: Vec<Bytes> = attached
                .take(self.core.limits.keys_per_lock_max.max(1))
                .cloned()
                .collect();
            keys.extend(more);
            if keys.len() == known {
                return keys;
            }
        }
    }

    /// The alarms that are raised.
    pub fn alarms(&self) -> Arc<[Alarm]> {
        self.core.alarms()
    }

    /// True while puts are refused because the disk is nearly full (D5).
    pub fn is_disk_full(&self) -> bool {
        self.core.is_disk_full()
    }

    /// Whether a defragmentation runs.
    pub fn is_defragmenting(&self) -> bool {
        self.core.upkeep.is_defragmenting()
    }

    /// How much the store may hold, in bytes; the largest number is no quota.
    pub fn quota_bytes(&self) -> u64 {
        self.core.limits.quota_bytes
    }

    /// The hash of all records up to a revision, or up to the published one. Refused with `Compacted` or `FutureRevision`;
    /// `Busy` when too many such reads run. Dropped without an answer when there is no thread to be had.
    pub fn hash(&self, at: Option<Revision>, done: Done<StoreHash>) {
        self.pool
            .run_long(move |core| done(blamed(core, hash(core, at))));
    }

    /// Begins a snapshot at the published revision. It blocks on the disk as it is read.
    pub fn snapshot(&self) -> Result<Snapshot, ReadError> {
        blamed(&self.core, Snapshot::begin(&self.core))
    }

    /// Reads a range. The revision beside the answer is the store's own, for the header.
    pub fn range(&self, query: RangeQuery, done: Done<(Revision, RangeAnswer)>) {
        match read_range(&self.core, &query, Look::Memory) {
            Outcome::Done(result) => done(blamed(&self.core, result)),
            Outcome::NeedsReader => self.submit(done, move |core| {
                match read_range(core, &query, Look::Disk) {
                    Outcome::Done(result) => result,
                    Outcome::NeedsReader => Err(ReadError::Busy),
                }
            }),
        }
    }

    /// Decoded history from `from` on, one stretch at most and never past `through` or the published revision. Refused
    /// with `Compacted` when `from` was compacted meanwhile (L6).
    pub fn history(&self, from: Revision, through: Revision, done: Done<Stretch>) {
        let published = self.core.revision();
        let cached = if from <= through.min(published) {
            history_cached(&self.core, from, through.min(published))
        } else {
            Some(Stretch {
                commits: Vec::new(),
                next: from,
            })
        };
        let compact_revision = self.core.compact_revision();
        match cached {
            Some(_) if from < compact_revision => {
                done(Err(Refusal::Compacted { compact_revision }.into()));
            }
            Some(stretch) => done(Ok(stretch)),
            None => self.submit(done, move |core| history(core, from, through)),
        }
    }

    /// Which revisions from `from` through `through` touch the range, from the index alone (L4). `Dense` when more than
    /// `keys_max` keys or `revisions_max` revisions would have to be looked at, or when `from` is compacted (L6).
    #[expect(
        clippy::too_many_arguments,
        reason = "five plain numbers, each used once"
    )]
    pub fn revisions_of(
        &self,
        range: &KeyRange,
        from: Revision,
        through: Revision,
        keys_max: usize,
        revisions_max: usize,
    ) -> Wanted {
        let through = through.min(self.core.revision());
        let (mut keys, mut revisions) = (0, Vec::new());
        let visit = |_: &Bytes, slots: &[Slot]| {
            keys += 1;
            let wanted = slots_between(slots, from, through);
            if keys > keys_max || revisions.len() + wanted.len() > revisions_max {
                return Err(());
            }
            revisions.extend(wanted.iter().map(|slot| slot.main));
            Ok(())
        };
        if walk(&self.core, range, visit).is_err() {
            return Wanted::Dense;
        }
        if from < self.core.compact_revision() {
            // L6: looked at after reading. The index may have been pruned meanwhile, and what it does not name is no
            // answer then; a scan is refused.
            return Wanted::Dense;
        }
        revisions.sort_unstable();
        revisions.dedup();
        Wanted::Revisions(revisions)
    }

    /// The events within the range at these ascending revisions, all of each revision. Refused with `Compacted` when
    /// one of them is compacted meanwhile.
    pub fn commits_at(
        &self,
        range: KeyRange,
        revisions: Vec<Revision>,
        done: Done<Vec<Arc<Commit>>>,
    ) {
        let events = touched(&self.core, &range, &revisions);
        let first = revisions.first().copied();
        match fetch_cached(&self.core, &events.places()) {
            Some(fetched) => done(events.commits(&self.core, first, fetched)),
            None => self.submit(done, move |core| {
                let fetched = fetch(core, &events.places())?;
                events.commits(core, first, fetched)
            }),
        }
    }

    /// Fills in what each event's key was just before it; absent where that is compacted away.
    pub fn fill_prev(&self, events: Vec<Arc<Event>>, done: Done<()>) {
        let wanted = previous_places(&self.core, events);
        let places: Vec<Place> = wanted.iter().map(|(_, place)| *place).collect();
        let fill = |wanted: Vec<(Arc<Event>, Place)>, fetched: Fetched| {
            for ((event, _), prev) in wanted.iter().zip(fetched) {
                event.set_prev(prev);
            }
        };
        match fetch_cached(&self.core, &places) {
            Some(fetched) => {
                fill(wanted, fetched);
                done(Ok(()));
            }
            None => self.submit(done, move |core| {
                let fetched = fetch(core, &places)?;
                // L6: looked at after reading.
                let compact_revision = core.compact_revision();
                let lost = wanted.iter().zip(&fetched).find(|((event, _), kv)| {
                    kv.is_none() && event.kv.mod_revision.previous() >= compact_revision
                });
                if let Some(((_, place), _)) = lost {
                    return Err(lost_record(*place).into());
                }
                fill(wanted, fetched);
                Ok(())
            }),
        }
    }

    fn submit<T: 'static>(
        &self,
        done: Done<T>,
        read: impl FnOnce(&Core) -> Result<T, ReadError> + Send + 'static,
    ) {
        let job: Job = Box::new(move |core| done(core.and_then(|core| blamed(core, read(core)))));
        self.pool.submit(job);
    }
}

/// The outcome of a read; an error names the file.
fn blamed<T>(core: &Core, result: Result<T, ReadError>) -> Result<T, ReadError> {
    result.map_err(|error| match error {
        ReadError::Failed(error) => ReadError::Failed(core.blame(error)),
        other => other,
    })
}

fn lost_record(place: Place) -> StorageError {
    StorageError::corrupt(
        "history",
        place.to_string(),
        "the index has it, the disk has not",
    )
}

/// Shows every key of a range, a bounded number of them per hold of the lock (D6).
fn walk<E>(
    core: &Core,
    range: &KeyRange,
    mut visit: impl FnMut(&Bytes, &[Slot]) -> Result<(), E>,
) -> Result<(), E> {
    let per_hold = core.limits.keys_per_lock_max.max(1);
    let mut after: Option<Bytes> = None;
    loop {
        let index = core.index();
        let (mut looked_at, mut last) = (0, None);
        for (key, slots) in index.keys.range(range, after.as_deref()).take(per_hold) {
            looked_at += 1;
            last = Some(key);
            visit(key, slots)?;
        }
        if looked_at < per_hold {
            return Ok(());
        }
        after = last.cloned();
    }
}

/// Why a walk over a range stopped early.
enum Stop {
    Refused(Refusal),
    NeedsReader,
}

/// Answers a range, again and again if compaction overtakes a read of the latest revision.
fn read_range(core: &Core, query: &RangeQuery, look: Look) -> Outcome<(Revision, RangeAnswer)> {
    loop {
        let (current, compact_revision) = (core.revision(), core.compact_revision());
        let at = match Revision(query.revision) {
            at if at.0 <= 0 => current,
            at if at > current => return refused(Refusal::FutureRevision { current }),
            at if at < compact_revision => return refused(Refusal::Compacted { compact_revision }),
            at => at,
        };
        let chosen = match choose(core, query, at, look) {
            Ok(chosen) => chosen,
            Err(Stop::NeedsReader) => return Outcome::NeedsReader,
            Err(Stop::Refused(refusal)) => return refused(refusal),
        };
        let places = chosen.places();
        let fetched = match look {
            Look::Memory => match fetch_cached(core, &places) {
                Some(fetched) => fetched,
                None => return Outcome::NeedsReader,
            },
            Look::Disk => match fetch(core, &places) {
                Ok(fetched) => fetched,
                Err(error) => return Outcome::Done(Err(error.into())),
            },
        };
        let lost = places.iter().zip(&fetched).find(|(_, kv)| kv.is_none());
        let lost = lost.map(|(place, _)| *place);
        let answer = chosen.answer(fetched);
        // L6: looked at after reading, since the index is pruned and records go while they are read.
        let compact_revision = if fault::active(Fault::CompactedRangeAnswered) {
            compact_revision
        } else {
            core.compact_revision()
        };
        match answer {
            _ if at < compact_revision && query.revision <= 0 => {}
            _ if at < compact_revision => return refused(Refusal::Compacted { compact_revision }),
            Some(answer) => {
                let header = if fault::active(Fault::RangeHeaderStale) {
                    at
                } else {
                    current
                };
                return Outcome::Done(Ok((header, answer)));
            }
            None => {
                let place = lost.unwrap_or_default();
                return Outcome::Done(Err(lost_record(place).into()));
            }
        }
    }
}

fn refused<T>(refusal: Refusal) -> Outcome<T> {
    Outcome::Done(Err(refusal.into()))
}

/// Picks the keys that a range answers.
fn choose<'a>(
    core: &Core,
    query: &'a RangeQuery,
    at: Revision,
    look: Look,
) -> Result<Chosen<'a>, Stop> {
    let mut selection = Selection::new(query, core.limits.range_answer_bytes_max);
    let mut keys = 0;
    walk(core, &query.range, |key, slots| {
        keys += 1;
        if look == Look::Memory && keys > core.limits.keys_per_lock_max {
            return Err(Stop::NeedsReader);
        }
        match live_at(slots, at) {
            Some(slot) => selection.offer(key, slot).map_err(Stop::Refused),
            None => Ok(()),
        }
    })?;
    selection.choose().map_err(Stop::Refused)
}

/// The changes of a range at some revisions, by place.
struct Touched(BTreeMap<Place, (Bytes, Slot)>);

fn touched(core: &Core, range: &KeyRange, revisions: &[Revision]) -> Touched {
    let mut changes = BTreeMap::new();
    let published = core.revision();
    let bounds = revisions.first().zip(revisions.last());
    if let Some((first, last)) = bounds {
        let visit = |key: &Bytes, slots: &[Slot]| {
            for slot in slots_between(slots, *first, (*last).min(published)) {
                if revisions.binary_search(&slot.main).is_ok() {
                    changes.insert(slot.place(), (key.clone(), *slot));
                }
            }
            Ok::<(), std::convert::Infallible>(())
        };
        let Ok(()) = walk(core, range, visit);
    }
    Touched(changes)
}

impl Touched {
    /// The changes whose values have to be read: a deletion is known from the index alone.
    fn places(&self) -> Vec<Place> {
        let puts = self.0.iter().filter(|(_, (_, slot))| !slot.is_tombstone());
        puts.map(|(place, _)| *place).collect()
    }

    fn commits(
        self,
        core: &Core,
        first: Option<Revision>,
        fetched: Fetched,
    ) -> Result<Vec<Arc<Commit>>, ReadError> {
        // L6: looked at after reading.
        let compact_revision = core.compact_revision();
        if first.is_some_and(|first| first < compact_revision) {
            return Err(Refusal::Compacted { compact_revision }.into());
        }
        let mut fetched = fetched.into_iter();
        let mut commits: Vec<Commit> = Vec::new();
        for (place, (key, slot)) in self.0 {
            let event = if slot.is_tombstone() {
                Event::new(EventKind::Delete, KeyValue::tombstone(key, slot.main))
            } else {
                let kv = fetched.next().flatten().ok_or_else(|| lost_record(place))?;
                Event::new(EventKind::Put, KeyValue::clone(&kv))
            };
            match commits.last_mut() {
                Some(last) if last.revision == slot.main => last.events.push(Arc::new(event)),
                _ => commits.push(Commit {
                    revision: slot.main,
                    events: vec![Arc::new(event)],
                }),
            }
        }
        Ok(commits.into_iter().map(Arc::new).collect())
    }
}

/// Where the previous value of each event lies. Events that have none are told so at once.
fn previous_places(core: &Core, events: Vec<Arc<Event>>) -> Vec<(Arc<Event>, Place)> {
    let mut wanted = Vec::with_capacity(events.len());
    let mut events = events.into_iter().filter(|event| event.prev().is_none());
    loop {
        let index = core.index();
        // Read under the lock: while it is held nothing more is pruned.
        let compact_revision = core.compact_revision();
        let mut looked_at = 0;
        for event in events.by_ref().take(core.limits.keys_per_lock_max.max(1)) {
            looked_at += 1;
            let mut at = event.kv.mod_revision.previous();
            if fault::active(Fault::PrevOfWrongRevision) {
                at = at.previous();
            }
            let known = index
                .keys
                .get(&event.kv.key)
                .filter(|_| at >= compact_revision);
            match known.and_then(|(_, slots)| live_at(slots, at)) {
                Some(slot) => wanted.push((event, slot.place())),
                None => event.set_prev(None),
            }
        }
        if looked_at == 0 {
            return wanted;
        }
    }
}
