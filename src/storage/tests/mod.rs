//! The rules of the store, tested from its face.
//!
//! Nothing here sleeps or measures time.

mod compaction;
mod disk;
mod random;
mod reads;
mod writes;
