//! Where what the ring has no more of is read from: the store on this machine, or a cluster behind a relay.
//!
//! Nothing here keeps anything, and no read is waited for: each answers by calling back.

use crate::model::{Commit, Event, KeyRange, Revision};
use crate::storage::{Done, ReadView, Stretch, Wanted};
use std::fmt;
use std::sync::Arc;

/// The history behind a ring.
pub(crate) trait History: fmt::Debug + Send + Sync {
    /// The oldest revision that may still be read.
    fn compact_revision(&self) -> Revision;

    /// Which revisions touch a range, if that is known without a read and they are few enough to be named (L4).
    fn revisions_of(
        &self,
        range: &KeyRange,
        from: Revision,
        through: Revision,
        keys_max: usize,
        revisions_max: usize,
    ) -> Wanted;

    /// All commits of a stretch of revisions, or of its beginning.
    fn history(&self, from: Revision, through: Revision, done: Done<Stretch>);

    /// What happened in a range at these revisions, which ascend.
    fn commits_at(&self, range: KeyRange, revisions: Vec<Revision>, done: Done<Vec<Arc<Commit>>>);

    /// Looks up the previous values of these events.
    fn fill_prev(&self, events: Vec<Arc<Event>>, done: Done<()>);
}

impl History for ReadView {
    fn compact_revision(&self) -> Revision {
        Self::compact_revision(self)
    }

    fn revisions_of(
        &self,
        range: &KeyRange,
        from: Revision,
        through: Revision,
        keys_max: usize,
        revisions_max: usize,
    ) -> Wanted {
        Self::revisions_of(self, range, from, through, keys_max, revisions_max)
    }

    fn history(&self, from: Revision, through: Revision, done: Done<Stretch>) {
        Self::history(self, from, through, done);
    }

    fn commits_at(&self, range: KeyRange, revisions: Vec<Revision>, done: Done<Vec<Arc<Commit>>>) {
        Self::commits_at(self, range, revisions, done);
    }

    fn fill_prev(&self, events: Vec<Arc<Event>>, done: Done<()>) {
        Self::fill_prev(self, events, done);
    }
}
