//! Why a verb failed, in words for the person at the terminal.
//!
//! A server's own words are passed on as they came.

use crate::storage::StorageError;
use crate::tls::TlsError;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use tonic::{Code, Status};

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerbError {
    /// An endpoint is not an address.
    #[error(
        "{endpoint:?} is no endpoint: HOST:PORT is needed, with or without http:// or https:// before it"
    )]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// A certificate or a key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
    /// The server is there, and it was not spoken to as it wants.
    #[error("{advice} ({said})", said = with_source(said))]
    Misled {
        /// How the connection ended.
        said: Box<VerbError>,
        /// What to do.
        advice: String,
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
    /// A key consists of nothing but the prefix that is to be left away.
    #[error("{key:?} would have no name at the destination")]
    NoName {
        /// The key at the source.
        key: String,
    },
    /// Too small.
    #[error("--{flag} is {value}, and the least is {min}")]
    BelowMin {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: usize,
        /// The limit.
        min: usize,
    },
    /// A mirror would read what it writes.
    #[error(
        "{from} and {to} are the same store, and the keys that would be written (prefix {dest_prefix:?}) overlap with those \
         that are read (prefix {prefix:?}), so that the mirror would go on for ever: give --prefix and --dest-prefix of which \
         neither begins with the other"
    )]
    Loop {
        /// The source.
        from: String,
        /// The destination.
        to: String,
        /// What the keys begin with that are read.
        prefix: String,
        /// What they begin with where they are written.
        dest_prefix: String,
    },
    /// A line to be imported is no good.
    #[error("line {line}: {reason} ({imported} keys of the lines before it are imported)")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
        /// How many keys are there already.
        imported: u64,
    },
    /// A file cannot be written.
    #[error("cannot write {path}", path = path.display())]
    Save {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file could not be opened.
    #[error("cannot read {}", path.display())]
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
    /// The input could not be read.
    #[error("cannot read from standard input")]
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

    /// True when history that is needed is gone.
    pub(super) fn is_compacted(&self) -> bool {
        match self {
            Self::WatchCompacted { .. } => true,
            Self::Status(status) => {
                status.code() == Code::OutOfRange && status.message().contains("compacted")
            }
            _ => false,
        }
    }

    /// True when no call gets through, for whatever reason.
    pub(super) fn is_transport(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status(status) => Error::source(status).is_some(),
            _ => false,
        }
    }

    /// True when the connection, and not the request, is at fault, so that asking again elsewhere or later may help.
    pub(super) fn is_connection(&self) -> bool {
        match self {
            // What looks like a mistake may be a proxy whose server is away.
            Self::Misled { said, .. } => said.is_connection(),
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            // A status that was made on this side of the wire carries the transport's error with it.
            Self::Status(status) => {
                status.code() == Code::Unavailable || Error::source(status).is_some()
            }
            _ => false,
        }
    }
}

fn with_source(error: &VerbError) -> String {
    match Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// What the status says; one without words says its code, and one that was made on this side of the wire what is behind it.
fn words(status: &Status) -> String {
    let said = if status.message().is_empty() {
        status.code().description()
    } else {
        status.message()
    };
    match Error::source(status) {
        None => said.to_owned(),
        Some(source) => format!("{said}: {}", root_cause(source)),
    }
}

/// The transport wraps the system's error several times; the innermost says why.
pub(super) fn root_cause(error: &dyn Error) -> io::Error {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    io::Error::other(cause.to_string())
}
