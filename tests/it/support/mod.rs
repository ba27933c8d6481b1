//! What every integration test stands on: real server processes, raw gRPC streams, deadlines, and a checker of watches.
//!
//! It talks to a server over its sockets and signals only; it never looks inside one.

pub(crate) mod client;
pub(crate) mod history;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod requests;
pub(crate) mod stream;
pub(crate) mod validator;
mod validator_tests;
pub(crate) mod wait;

pub(crate) use client::Client;
pub(crate) use history::{Change, History};
pub(crate) use peer::{Peer, PeerKind, Setup};
pub(crate) use stream::WatchStream;
pub(crate) use validator::Validator;
pub(crate) use wait::{eventually, within};

/// The generated messages, as the tests name them.
pub(crate) use vigil::api::pb::{etcdserverpb as pb, mvccpb};
