//! All changes of one revision: the unit that the ring holds and that no delivery may split.
//!
//! A commit is never changed after it was made.

use super::{Event, Revision};
use std::sync::Arc;

/// The changes of one revision, in the order in which they were made.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The revision.
    pub revision: Revision,
    /// Its events in sub-revision order; never empty when it comes from the store.
    pub events: Vec<Arc<Event>>,
}

impl Commit {
    /// Key and value bytes of all events, known previous values included.
    pub fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.bytes(true)).sum()
    }

    /// What keeping this commit in memory costs, in bytes, an encoded form included.
    pub fn memory_bytes(&self) -> usize {
        self.events.iter().map(|event| event.memory_bytes()).sum()
    }
}
