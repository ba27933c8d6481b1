//! The rules of the store, tested from its face.
//!
//! Nothing here sleeps or measures time.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the numbers of a test are small"
)]

mod bounds;
mod compaction;
mod defragment;
mod disk;
mod dump;
mod engines;
mod known_bugs;
mod late;
mod leases;
mod log;
mod open;
mod quota;
mod random;
mod reads;
mod settling;
mod snapshot;
mod writes;
