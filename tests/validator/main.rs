//! The validator has to find each kind of fault, or whatever rests on it proves nothing: for every property a record that
//! breaks it and nothing else, and correct records that pass.
//!
//! Records are written by hand here; no server runs.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod call_faults;
mod script;
#[path = "mod.rs"]
mod validator;
mod watch_faults;
