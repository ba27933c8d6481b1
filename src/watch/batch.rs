//! What one watcher is sent in one message: whole revisions, in order, shared by all watchers of a class.
//!
//! A batch never splits a revision and is never changed; its encoded form is filled once by the edge.

use crate::model::{Event, Revision};
use bytes::Bytes;
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

/// Events of one or more whole revisions, in order; never empty.
#[derive(Debug)]
pub struct Batch {
    events: Vec<Arc<Event>>,
    with_prev: bool,
    bytes: usize,
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
        Some(Self {
            events,
            with_prev,
            bytes,
            encoded: OnceLock::new(),
        })
    }

    /// The events, in order.
    pub fn events(&self) -> &[Arc<Event>] {
        &self.events
    }

    /// Whether the events carry their previous values.
    pub fn with_prev(&self) -> bool {
        self.with_prev
    }

    /// Key and value bytes, previous values included when they are carried.
    pub fn bytes(&self) -> usize {
        self.bytes
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

    /// The batch as the edge encodes it, made by `encode` the first time and shared after that.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.encoded.get_or_init(|| encode(self))
    }
}
