//! Reads of all of the store: no pass of a compaction begins while one of them goes on.
//!
//! Whoever stops reading is not waited for for ever: its read ends in an error. Nothing here knows a clock.

use crate::fault::{self, Fault};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All reads of one store that go on.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<Vec<Arc<Hold>>>);

/// One read.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// How often it has read on, and how often it had when somebody looked.
    steps: AtomicU64,
    seen: AtomicU64,
    is_lost: AtomicBool,
}

impl Holds {
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Hold>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A read begins; answers it, and how many go on now.
    pub(crate) fn begin(&self) -> (Arc<Hold>, usize) {
        let (hold, mut all) = (Arc::<Hold>::default(), self.all());
        all.push(Arc::clone(&hold));
        (hold, all.len())
    }

    /// A read has ended.
    pub(crate) fn end(&self, hold: &Arc<Hold>) {
        self.all().retain(|other| !Arc::ptr_eq(other, hold));
    }

    /// True while no pass of a compaction may begin.
    pub(crate) fn are_there(&self) -> bool {
        !self.all().is_empty() && !fault::active(Fault::CompactionUnderDump)
    }

    /// Gives up the reads that have not gone on since this was called last; answers how many.
    pub(crate) fn give_up_idle(&self) -> usize {
        let mut all = self.all();
        let before = all.len();
        all.retain(|hold| {
            let steps = hold.steps.load(Ordering::SeqCst);
            let is_idle = hold.seen.swap(steps + 1, Ordering::SeqCst) == steps + 1;
            hold.is_lost.store(is_idle, Ordering::SeqCst);
            !is_idle
        });
        before - all.len()
    }
}

impl Hold {
    /// The read goes on.
    pub(crate) fn step(&self) {
        self.steps.fetch_add(1, Ordering::SeqCst);
    }

    /// True when it was given up: what it would read now may be gone.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::SeqCst)
    }
}
