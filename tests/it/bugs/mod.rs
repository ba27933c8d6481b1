//! Bugs that other stores have had and that a client alone can bring about, each re-enacted over the wire: the same order
//! of operations, sizes and races.
//!
//! A test is named after the project and the number of its bug, and runs against Vigil and against etcd; where the etcd we
//! compare with still has the bug, `docs/differences.md` says so. Those that need a chosen interleaving are in
//! `src/actors/tests/known_bugs.rs`, those of the disk in `src/storage/tests/known_bugs.rs`.

mod compaction;
mod creation;
mod progress;
mod resumption;
mod size;
