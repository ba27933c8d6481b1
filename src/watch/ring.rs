//! The ring of recent commits: one log, one writer, many readers that each keep their own place in it.
//!
//! The ring must never hold a gap: from `first` to `head` it has every commit there is. It never holds more than its
//! bytes, never waits for a reader, and never splits a commit.

use crate::fault::{self, Fault};
use crate::model::{Commit, Revision};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Recent commits, bounded by bytes. Shared by `Arc` between its one writer and its readers.
///
/// The head is a frontier, "everything up to here has been handled", and not the last commit: where the source reports
/// progress without commits, [`Ring::advance`] moves it on, and revisions may have gaps.
#[derive(Debug)]
pub struct Ring {
    ring_bytes_max: usize,
    ring_revisions_max: usize,
    head: AtomicI64,
    held: RwLock<Held>,
}

#[derive(Debug)]
struct Held {
    kept: VecDeque<Kept>,
    /// Sum of `memory_bytes` of what is kept.
    bytes: usize,
    /// Everything up to and including this revision has left the ring, or was never in it.
    behind: Revision,
    /// What was to be told of grew here: up to this revision the ring has only what it was for then.
    widened: Revision,
}

/// A commit with its sizes as they were when it came in: a commit grows while its slots fill, and what was added must
/// be what is taken off.
#[derive(Debug)]
struct Kept {
    /// The commit's own, beside it: a search that looked into every commit on its way would wait for memory each time.
    revision: Revision,
    commit: Arc<Commit>,
    bytes: usize,
    memory_bytes: usize,
}

/// What a reader finds behind its own revision.
#[derive(Clone, Debug)]
pub enum RingRead {
    /// The next commits, at least one. The reader now stands at the last one's revision.
    Commits(Vec<Arc<Commit>>),
    /// Nothing happened up to this revision, where the reader now stands. Only a ring that was advanced says so.
    Quiet(Revision),
    /// The reader has read everything.
    Level,
    /// What the reader wants next has left the ring.
    Overrun,
}

impl Ring {
    /// An empty ring; everything up to `revision` lies behind it.
    pub fn new(ring_bytes_max: usize, revision: Revision) -> Self {
        Self::bounded(ring_bytes_max, usize::MAX, revision)
    }

    /// The same for so many commits at most.
    pub fn bounded(ring_bytes_max: usize, ring_revisions_max: usize, revision: Revision) -> Self {
        Self {
            ring_bytes_max,
            ring_revisions_max,
            head: AtomicI64::new(revision.0),
            held: RwLock::new(Held {
                kept: VecDeque::new(),
                bytes: 0,
                behind: revision,
                widened: revision,
            }),
        }
    }

    /// Appends commits, ascending and all above the head, and evicts the oldest beyond the bytes. A commit larger than
    /// the whole ring leaves it empty: whoever has not read that far is overrun (D3).
    pub fn append(&self, commits: &[Arc<Commit>]) {
        let evicted = {
            let mut held = self.write();
            for commit in commits {
                self.push(&mut held, commit);
            }
            held.evict(self.ring_bytes_max, self.ring_revisions_max)
        };
        // Freeing the last handle of a large commit takes a while; the readers do not wait for it.
        drop(evicted);
    }

    /// Moves the head without commits: the source has said that nothing else happened up to `to`.
    pub fn advance(&self, to: Revision) {
        let _held = self.write();
        if to > self.head() {
            self.head.store(to.0, Ordering::Release);
        }
    }

    /// From here on there is more to be told of than before. What is held stays for those who [`Ring::read_on`]; everybody
    /// else is overrun who has not read that far.
    pub fn widen(&self) {
        let mut held = self.write();
        held.widened = self.head();
    }

    /// Begins anew behind `to`: what comes before is not all there was. Whoever has not read that far is overrun.
    pub fn restart(&self, to: Revision) {
        let dropped = {
            let mut held = self.write();
            let to = to.max(self.head());
            if !fault::active(Fault::RestartOverrunsNobody) {
                held.behind = to;
            }
            held.bytes = 0;
            self.head.store(to.0, Ordering::Release);
            std::mem::take(&mut held.kept)
        };
        drop(dropped);
    }

    /// The revision up to which the ring has been told everything. Takes no lock.
    pub fn head(&self) -> Revision {
        Revision(self.head.load(Ordering::Acquire))
    }

    /// The oldest revision that can still be read here; head + 1 when nothing is held and nothing was advanced.
    pub fn first(&self) -> Revision {
        let held = self.read_lock();
        held.behind.max(held.widened).next()
    }

    /// What the kept commits cost in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.read_lock().bytes
    }

    /// The commits after revision `after`: at most `delivery_bytes_max` of keys and values and at most
    /// `revisions_max` commits, but one at least, however large.
    pub fn read(
        &self,
        after: Revision,
        delivery_bytes_max: usize,
        revisions_max: usize,
    ) -> RingRead {
        let first = |held: &Held| held.behind.max(held.widened);
        self.read_behind(after, first, delivery_bytes_max, revisions_max)
    }

    /// The same for whoever has read up to `after` here and wants no more than it did then: it has no use for what the ring
    /// was widened by, and does not miss it.
    pub fn read_on(
        &self,
        after: Revision,
        delivery_bytes_max: usize,
        revisions_max: usize,
    ) -> RingRead {
        self.read_behind(after, |held| held.behind, delivery_bytes_max, revisions_max)
    }

    fn read_behind(
        &self,
        after: Revision,
        behind: impl FnOnce(&Held) -> Revision,
        delivery_bytes_max: usize,
        revisions_max: usize,
    ) -> RingRead {
        if after >= self.head() {
            return RingRead::Level;
        }
        let held = self.read_lock();
        if after < behind(&held) && !fault::active(Fault::OverrunUnnoticed) {
            return RingRead::Overrun;
        }
        let skip = held.kept.partition_point(|kept| kept.revision <= after);
        let mut bytes = 0_usize;
        let mut commits = Vec::new();
        for kept in held.kept.range(skip..).take(revisions_max.max(1)) {
            bytes = bytes.saturating_add(kept.bytes);
            if bytes > delivery_bytes_max && !commits.is_empty() {
                break;
            }
            commits.push(Arc::clone(&kept.commit));
        }
        if commits.is_empty() {
            // The head only moves under the lock that is held here, so this is the frontier of what was just looked at.
            return RingRead::Quiet(self.head());
        }
        RingRead::Commits(commits)
    }

    fn push(&self, held: &mut Held, commit: &Arc<Commit>) {
        let in_order = commit.revision > self.head();
        debug_assert!(in_order, "commit {} is not above the head", commit.revision);
        if !in_order {
            return;
        }
        let memory_bytes = commit.memory_bytes();
        held.bytes = held.bytes.saturating_add(memory_bytes);
        held.kept.push_back(Kept {
            revision: commit.revision,
            commit: Arc::clone(commit),
            bytes: commit.bytes(),
            memory_bytes,
        });
        self.head.store(commit.revision.0, Ordering::Release);
    }

    // A poisoned lock is as good as any: no step of the writer leaves the ring between two states that matter.
    fn read_lock(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn evict(&mut self, ring_bytes_max: usize, ring_revisions_max: usize) -> Vec<Kept> {
        let mut evicted = Vec::new();
        while self.bytes > ring_bytes_max || self.kept.len() > ring_revisions_max {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(oldest.memory_bytes);
            self.behind = oldest.commit.revision;
            evicted.push(oldest);
        }
        evicted
    }
}

#[cfg(test)]
mod tests;
