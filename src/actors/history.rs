//! Where what the ring has no more of is read from: the store on this machine, or a cluster behind a relay.
//!
//! Nothing here keeps anything, and no read is waited for: each answers by calling back.

use crate::model::{Commit, Event, KeyRange, Revision};
use crate::storage::{Done, ReadView, Stretch, Wanted};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Up to where a range is narrow enough to be looked up instead of scanned for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Narrow {
    /// Keys of the range.
    pub(crate) keys: usize,
    /// Revisions that touch them.
    pub(crate) revisions: usize,
}

/// The history behind a ring.
pub(crate) trait History: fmt::Debug + Send + Sync {
    /// The oldest revision that may still be read.
    fn compact_revision(&self) -> Revision;

    /// Which of these revisions touch a range, if that is known without a read and they are few enough to be named (L4).
    fn revisions_of(
        &self,
        range: &KeyRange,
        within: RangeInclusive<Revision>,
        max: Narrow,
    ) -> Wanted;

    /// All commits of a stretch of revisions, or of its beginning; only those of `outline` have to be among them, if one is
    /// given, and of them only what lies in it.
    fn history(
        &self,
        from: Revision,
        through: Revision,
        outline: Option<KeyRange>,
        done: Done<Stretch>,
    );

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
        within: RangeInclusive<Revision>,
        max: Narrow,
    ) -> Wanted {
        let (from, through) = within.into_inner();
        Self::revisions_of(self, range, from, through, max.keys, max.revisions)
    }

    fn history(
        &self,
        from: Revision,
        through: Revision,
        _outline: Option<KeyRange>,
        done: Done<Stretch>,
    ) {
        // Records are kept by revision: a part of the keys is no less to be read.
        Self::history(self, from, through, done);
    }

    fn commits_at(&self, range: KeyRange, revisions: Vec<Revision>, done: Done<Vec<Arc<Commit>>>) {
        Self::commits_at(self, range, revisions, done);
    }

    fn fill_prev(&self, events: Vec<Arc<Event>>, done: Done<()>) {
        Self::fill_prev(self, events, done);
    }
}
