//! One change of one key, shared by everyone who is told of it.
//!
//! An event is immutable but for three slots that are filled once: the previous value (by whoever first knows it) and
//! the two encoded forms, which only the edge understands. A slot is never emptied or overwritten.

use super::KeyValue;
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// What an event costs in memory beyond its keys and values, in bytes: itself and its slots.
const OVERHEAD_BYTES: usize = 256;

/// What happened to the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The key was created or changed.
    Put,
    /// The key was deleted.
    Delete,
}

/// One change of one key.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key after the change; a delete has only `key` and `mod_revision`.
    pub kv: KeyValue,
    prev: OnceLock<Option<Arc<KeyValue>>>,
    encoded: OnceLock<Bytes>,
    encoded_with_prev: OnceLock<Bytes>,
}

impl Event {
    /// An event whose previous value nobody has looked up yet. A put that created its key has none, and knows it.
    pub fn new(kind: EventKind, kv: KeyValue) -> Self {
        let event = Self {
            kind,
            kv,
            prev: OnceLock::new(),
            encoded: OnceLock::new(),
            encoded_with_prev: OnceLock::new(),
        };
        if event.is_create() {
            event.set_prev(None);
        }
        event
    }

    /// True for the put that began the key's current life.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }

    /// The previous value: `None` while nobody has looked it up, `Some(None)` when there is none (a create, or the
    /// previous revision is compacted).
    pub fn prev(&self) -> Option<Option<&Arc<KeyValue>>> {
        self.prev.get().map(Option::as_ref)
    }

    /// Fills the previous value; the first to fill it wins.
    pub fn set_prev(&self, prev: Option<Arc<KeyValue>>) {
        // A second filling carries the same value, so losing it loses nothing.
        let _ = self.prev.set(prev);
    }

    /// The event as the edge encodes it, made by `encode` the first time and shared after that.
    pub fn encoded(&self, with_prev: bool, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        let slot = if with_prev {
            &self.encoded_with_prev
        } else {
            &self.encoded
        };
        slot.get_or_init(|| encode(self))
    }

    /// What keeping this event in memory costs, in bytes, an encoded form included.
    pub fn memory_bytes(&self) -> usize {
        OVERHEAD_BYTES + 2 * self.bytes(true)
    }

    /// Key and value bytes, those of a known previous value included when `with_prev`.
    pub fn bytes(&self, with_prev: bool) -> usize {
        let prev = match self.prev.get() {
            Some(Some(prev)) if with_prev => prev.bytes(),
            _ => 0,
        };
        self.kv.bytes() + prev
    }
}
