//! Integration tests: a real server, real sockets, one module per capability.
//!
//! They speak to servers over gRPC, HTTP, signals and the command line only, and never look inside one.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says on stderr what it measured"
)]

mod bench;
mod bugs;
mod clients;
mod conformance;
mod crash;
mod defragment;
mod durability;
mod etcdctl;
mod http;
mod leases;
mod limits;
mod maintenance;
mod probes;
mod recorded;
mod relay;
mod serve;
mod slow_stream;
mod support;
mod tls;
mod transfer;
#[path = "../validator/mod.rs"]
mod validator;
mod verbs;
