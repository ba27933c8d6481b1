//! Vigil: a durable multi-version key-value store whose every change can be watched, resumed and replayed by revision.
//!
//! Rooms import one way only, in the order of the `mod` lines below; `tests/tidy.rs` holds them to it.

pub mod model;

pub mod storage;

pub mod watch;

pub mod actors;

pub mod backend;

pub mod api;

pub mod cli;

pub mod config;

pub mod verbs;
