//! Why a verb failed, in words for the person at the terminal.
//!
//! A server's own words are passed on as they came.

use crate::storage::StorageError;
use std::io;
use std::path::PathBuf;
use tonic::{Code, Status};

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerbError {
    /// `--endpoint` is not an address.
    #[error("--endpoint is {endpoint:?}, and HOST:PORT is needed")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// Nobody listens there.
    #[error("cannot reach {endpoint}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Why not.
        source: io::Error,
    },
    /// The server took too long.
    #[error("no answer from {endpoint} within {timeout_ms} ms (--timeout-ms)")]
    TimedOut {
        /// Where.
        endpoint: String,
        /// How long it was given.
        timeout_ms: u64,
    },
    /// The server answered with an error.
    #[error("{}", words(.0))]
    Status(Box<Status>),
    /// The server ended the watch.
    #[error("watch was canceled: {reason}")]
    WatchCanceled {
        /// The server's reason.
        reason: String,
    },
    /// The history that the watch needs is gone.
    #[error(
        "watch was canceled: etcdserver: mvcc: required revision has been compacted \
         (the oldest that is left is {compact_revision})"
    )]
    WatchCompacted {
        /// The oldest revision that can be watched from.
        compact_revision: i64,
    },
    /// A file cannot be written.
    #[error("cannot write {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What came is no whole snapshot.
    #[error("the snapshot is not whole: {reason}; nothing was saved")]
    SnapshotCut {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A snapshot, or a directory, is not as it has to be.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The value could not be read.
    #[error("cannot read the value from standard input")]
    Input(#[source] io::Error),
    /// The answer could not be printed.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl From<Status> for VerbError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl VerbError {
    /// True when nobody reads our output any more.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// True when the connection, and not the request, is at fault, so that asking again elsewhere or later may help.
    pub(super) fn is_connection(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            // A status that was made on this side of the wire carries the transport's error with it.
            Self::Status(status) => {
                status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
            }
            _ => false,
        }
    }
}

/// What the status says; one without words says its code.
fn words(status: &Status) -> &str {
    if status.message().is_empty() {
        status.code().description()
    } else {
        status.message()
    }
}
