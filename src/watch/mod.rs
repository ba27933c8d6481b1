//! The rules of watching, pure: who is told of a commit, in which batches, and what a late watcher has to read.
//!
//! Nothing here has a mailbox, a clock or I/O, and nothing here can fail.

mod batch;
mod catch_up;
mod chunked;
mod class_table;
mod entry;
mod interval_index;
mod range_tree;
mod ring;
mod roster;
mod slot_table;
mod victims;
mod waiting;

#[cfg(test)]
mod test_support;

pub use batch::{Batch, BatchLimits, cut, select};
pub use catch_up::{CatchUp, CatchUpLimits, Handout, Pick, Plan};
pub use chunked::Chunked;
pub use class_table::ClassId;
pub use entry::{Entry, WatcherId};
pub use ring::{Ring, RingRead};
pub use roster::{Match, Roster, Visit};
pub use victims::{Owed, Victim, Victims};
pub use waiting::Target;
