//! Reads that a simulation holds back: they are answered when it says so, on the thread that asked.
//!
//! Each is answered once, or dropped with the store that was to answer it.

use crate::storage::core::Core;
use crate::storage::readers::Job;
use crate::storage::{ReadError, StorageError};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// Reads in the order in which they were asked, each with the store that is to answer it.
type Held = VecDeque<(Arc<Core>, Job)>;

thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// How a read that was held goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeldAnswer {
    /// It is carried out now.
    Read,
    /// The readers have no room for it.
    Busy,
    /// The disk refuses it.
    Failed,
}

/// Runs a read, or holds it while this thread holds reads.
pub(crate) fn run_or_hold(core: &Arc<Core>, job: Job) {
    let job = HELD.with(|held| match &mut *held.borrow_mut() {
        Some(held) => {
            held.push_back((Arc::clone(core), job));
            None
        }
        None => Some(job),
    });
    if let Some(job) = job {
        job(Ok(core));
    }
}

/// From now on the reads of this thread are held, or are not. What is held is dropped.
pub(crate) fn hold_reads(hold: bool) {
    let before = HELD.with(|held| held.replace(hold.then(VecDeque::new)));
    drop(before);
}

/// How many reads are held.
pub(crate) fn held_reads() -> usize {
    HELD.with(|held| held.borrow().as_ref().map_or(0, VecDeque::len))
}

/// Answers one of the reads that are held.
pub(crate) fn answer_held(at: usize, answer: HeldAnswer) {
    let taken = HELD.with(|held| held.borrow_mut().as_mut().and_then(|held| held.remove(at)));
    let Some((core, job)) = taken else { return };
    match answer {
        HeldAnswer::Read => job(Ok(&core)),
        HeldAnswer::Busy => job(Err(ReadError::Busy)),
        HeldAnswer::Failed => {
            let error = StorageError::disk("read", "the simulation says so");
            job(Err(ReadError::Failed(error)));
        }
    }
}
