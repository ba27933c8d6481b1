//! The rules of watching, pure: who is told of a commit, in which batches, and what a late watcher has to read.
//!
//! Nothing here has a mailbox, a clock or I/O, and nothing here can fail.

mod batch;
mod entry;

pub use batch::{Batch, BatchLimits};
pub use entry::{Entry, WatcherId};
