//! What one watcher is sent in one message: whole revisions, in order, shared by all watchers of a class.
//!
//! A batch never splits a revision and is never changed; its encoded form is filled once by the edge.

use crate::fault::{self, Fault};
use crate::model::{Commit, Event, Revision, WatchClass};
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// How large a batch may get before it is cut, between revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Key and value bytes, previous values included. One revision above it goes alone, as in etcd.
    pub delivery_bytes_max: usize,
    /// Distinct revisions.
    pub revisions_per_batch_max: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            delivery_bytes_max: 1 << 20,
            revisions_per_batch_max: 1000,
        }
    }
}

/// The number of the next batch.
static BATCHES: AtomicU64 = AtomicU64::new(1);

/// Events of one or more whole revisions, in order; never empty.
#[derive(Debug)]
pub struct Batch {
    number: u64,
    events: Vec<Arc<Event>>,
    with_prev: bool,
    bytes: usize,
    revisions: usize,
    encoded: OnceLock<Bytes>,
}

impl Batch {
    /// A batch of these events, or `None` when there are none.
    pub fn new(events: Vec<Arc<Event>>, with_prev: bool) -> Option<Self> {
        if events.is_empty() {
            return None;
        }
        debug_assert!(
            events.is_sorted_by_key(|event| event.kv.mod_revision),
            "events out of order"
        );
        let bytes = events.iter().map(|event| event.bytes(with_prev)).sum();
        let revisions = events
            .chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision)
            .count();
        // Only that they differ matters, and not in which order they are given.
        let number = BATCHES.fetch_add(1, Ordering::Relaxed);
        Some(Self {
            number,
            events,
            with_prev,
            bytes,
            revisions,
            encoded: OnceLock::new(),
        })
    }

    /// A number that no other batch of this process has, never 0: an address may soon be another batch's.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The events, in order.
    pub fn events(&self) -> &[Arc<Event>] {
        &self.events
    }

    /// Whether the events carry their previous values.
    pub fn with_prev(&self) -> bool {
        self.with_prev
    }

    /// Key and value bytes, previous values included when they are carried and were known when the batch was made.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many revisions the events are of.
    pub fn revisions(&self) -> usize {
        self.revisions
    }

    /// The revision of the first event.
    pub fn first(&self) -> Revision {
        self.events
            .first()
            .map_or(Revision::default(), |event| event.kv.mod_revision)
    }

    /// The revision of the last event.
    pub fn last(&self) -> Revision {
        self.events
            .last()
            .map_or(Revision::default(), |event| event.kv.mod_revision)
    }

    /// The events at or after `from`, when only those are wanted.
    pub fn suffix(&self, from: Revision) -> Option<Self> {
        let skip = self
            .events
            .partition_point(|event| event.kv.mod_revision < from);
        Self::new(self.events.get(skip..)?.to_vec(), self.with_prev)
    }

    /// What an entry whose cursor is `next_revision` gets of this batch: the batch itself (nearly always, and for one
    /// comparison), a suffix, or nothing.
    pub fn since(self: &Arc<Self>, next_revision: Revision) -> Option<Cow<'_, Arc<Self>>> {
        if next_revision <= self.first() {
            return Some(Cow::Borrowed(self));
        }
        let suffix = self.suffix(next_revision)?;
        Some(Cow::Owned(Arc::new(suffix)))
    }

    /// The batch as the edge encodes it, made by `encode` the first time and shared after that.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.encoded.get_or_init(|| encode(self))
    }
}

/// The events of `commits` that a watcher of `class` is told of, from revision `from` on.
pub fn select(class: &WatchClass, commits: &[Arc<Commit>], from: Revision) -> Vec<Arc<Event>> {
    commits
        .iter()
        .filter(|commit| commit.revision >= from)
        .flat_map(|commit| &commit.events)
        .filter(|event| class.admit(event))
        .map(Arc::clone)
        .collect()
}

/// Cuts events into batches, between revisions only. A revision above a limit goes alone, and a limit of 0 is 1.
pub fn cut(events: Vec<Arc<Event>>, with_prev: bool, limits: &BatchLimits) -> Vec<Arc<Batch>> {
    let mut batches = Vec::new();
    let mut open: Vec<Arc<Event>> = Vec::new();
    let mut open_bytes = 0_usize;
    let mut open_revisions = 0_usize;
    let together = |a: &Arc<Event>, b: &Arc<Event>| {
        a.kv.mod_revision == b.kv.mod_revision && !fault::active(Fault::RevisionSplit)
    };
    for revision in events.chunk_by(together) {
        let bytes: usize = revision.iter().map(|event| event.bytes(with_prev)).sum();
        let full = open_bytes.saturating_add(bytes) > limits.delivery_bytes_max
            || open_revisions >= limits.revisions_per_batch_max;
        if full {
            batches.extend(Batch::new(std::mem::take(&mut open), with_prev).map(Arc::new));
            open_bytes = 0;
            open_revisions = 0;
        }
        open.extend_from_slice(revision);
        open_bytes = open_bytes.saturating_add(bytes);
        open_revisions += 1;
    }
    batches.extend(Batch::new(open, with_prev).map(Arc::new));
    batches
}

#[cfg(test)]
mod tests;
