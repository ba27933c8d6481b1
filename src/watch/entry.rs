//! One watcher as the engine sees it: who it is, what it wants, and how far it has been served.
//!
//! An entry is not `Clone`: it lives in exactly one place (a roster, Sync's list, the victims, or a message between
//! them), and that place alone may deliver to it. There are no flags to disagree with.

use crate::model::{Revision, WatchClass};
use std::sync::Arc;

/// The number of a watcher within its worker; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId(pub u64);

/// One watcher. `R` is what a delivery goes through.
#[derive(Debug)]
pub struct Entry<R> {
    /// Who.
    pub id: WatcherId,
    /// Which events, in which form.
    pub class: Arc<WatchClass>,
    /// The first revision not yet handed to the watcher. While the entry is in a roster the true cursor is the larger
    /// of this and the group's revision + 1 (W4).
    pub next_revision: Revision,
    /// The way to the watcher.
    pub link: R,
}

impl<R> Entry<R> {
    /// Where the entry really stands in a group that has handled everything up to `group_revision` (W4): a watcher of
    /// an idle key is not behind.
    pub fn cursor(&self, group_revision: Revision) -> Revision {
        self.next_revision.max(group_revision.next())
    }
}
