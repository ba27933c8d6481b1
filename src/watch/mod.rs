//! The rules of watching, pure: who is told of a commit, in which batches, and what a late watcher has to read.
//!
//! Nothing here has a mailbox, a clock or I/O, and nothing here can fail.

mod batch;
mod entry;
mod interval_index;
mod range_tree;
mod ring;
mod slot_table;

#[cfg(test)]
mod test_support;

pub use batch::{Batch, BatchLimits, cut, select};
pub use entry::{Entry, WatcherId};
pub use ring::{Ring, RingRead};
