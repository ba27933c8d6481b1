//! Why a measurement could not be made.
//!
//! There is no number then: a load that a server refused in part has measured nothing.

use std::io;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A flag makes no sense.
    #[error("{flag} is {given}, and {wanted} is needed")]
    Flag {
        /// Which flag.
        flag: &'static str,
        /// What was given.
        given: String,
        /// What would do.
        wanted: &'static str,
    },
    /// Nobody listens there, or the connection ended.
    #[error("connection to {endpoint}")]
    Connection {
        /// Where.
        endpoint: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server refused a request.
    #[error("the server answered {code}: {message}")]
    Refused {
        /// The code of gRPC.
        code: i32,
        /// The server's words.
        message: String,
    },
    /// The server said something that cannot be.
    #[error("the server is wrong: {what}")]
    Wrong {
        /// What is wrong.
        what: String,
    },
    /// The server to start did not start.
    #[error("cannot run {command:?}")]
    Command {
        /// What was to be run.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// A thread of the generator could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The report could not be printed.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl BenchError {
    /// An answer that cannot be.
    pub(super) fn wrong(what: impl Into<String>) -> Self {
        Self::Wrong { what: what.into() }
    }
}
