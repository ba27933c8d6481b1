//! What can go wrong below the store's face.
//!
//! A refusal is the client's business and changes nothing; a `StorageError` is the operator's, and after one of the
//! writer's own nothing more is written. No error here is ever turned into an empty answer.

use crate::model::Refusal;
use std::path::{Path, PathBuf};

/// The disk, or what lies on it, is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The directory cannot be made, read or synced.
    #[error("data directory {path}: {reason}", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another process has the directory open.
    #[error("data directory {path} is in use by another process", path = path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A call to the disk failed.
    #[error("failed to {doing}: {reason}")]
    Disk {
        /// What was tried, as a verb phrase.
        doing: &'static str,
        /// What the system or the engine said.
        reason: String,
    },
    /// A record on disk fails its check.
    #[error(
        "damaged {what} at {place}: {reason}; stop, and put the data directory back from a backup"
    )]
    Corrupt {
        /// What kind of record.
        what: &'static str,
        /// Where it lies: the file, and if it is one of many records, which.
        place: String,
        /// Which check it fails.
        reason: String,
    },
    /// The data was written by a version of the format that this program does not know.
    #[error("{what} has format {found}, and this program knows {known}")]
    Format {
        /// What kind of record.
        what: &'static str,
        /// The version found.
        found: u8,
        /// The version known.
        known: u8,
    },
    /// A snapshot is damaged.
    #[error("snapshot {path} is damaged at byte {at}: {reason}", path = path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// Which check it fails.
        reason: String,
    },
    /// A file is something else.
    #[error(
        "{path} is no snapshot of Vigil's: those begin with {name:?} (etcdutl reads those of etcd, and vigil mirror copies \
         from a running etcd)",
        path = path.display()
    )]
    NotSnapshot {
        /// The file.
        path: PathBuf,
        /// What every snapshot begins with.
        name: &'static str,
    },
    /// A snapshot cannot be read.
    #[error("cannot read the snapshot {path}: {reason}", path = path.display())]
    SnapshotUnread {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A snapshot was to be restored into a directory that holds something.
    #[error("{path} is not empty: a snapshot is restored into a directory that is empty or missing", path = path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// An earlier error made the writer refuse everything.
    #[error("the store stopped writing: {because}")]
    Failed {
        /// The first error.
        because: String,
    },
    /// The reader threads have ended: the store is closed.
    #[error("the store is closed")]
    Closed,
    /// Somebody read all of the store and stopped in the middle, for too long.
    #[error(
        "the store was read too slowly: a compaction has waited long enough, and what is left is gone"
    )]
    ReadTooSlowly,
    /// A compaction was asked for while applied writes wait for their commit.
    #[error("applied writes wait for their commit")]
    Uncommitted,
}

impl StorageError {
    /// A record that fails its check.
    pub(super) fn corrupt(
        what: &'static str,
        place: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Corrupt {
            what,
            place: place.into(),
            reason: reason.into(),
        }
    }

    /// The same, with the file that the record lies in, for those who find damage and know of records alone.
    pub(super) fn in_file(self, path: Option<PathBuf>) -> Self {
        let Some((path, dir)) = path
            .as_deref()
            .and_then(|path| Some((path, path.parent()?)))
        else {
            return self;
        };
        match self {
            Self::Corrupt {
                what,
                place,
                reason,
            } if !names_a_file(&place, dir) => Self::Corrupt {
                place: format!("{}, {place}", path.display()),
                what,
                reason,
            },
            other => other,
        }
    }

    /// A call that failed.
    pub(super) fn disk(doing: &'static str, reason: impl ToString) -> Self {
        Self::Disk {
            doing,
            reason: reason.to_string(),
        }
    }
}

/// Whether a place is that of a file in this directory, or in the one that it lies in: an engine's has the log's above it.
fn names_a_file(place: &str, dir: &Path) -> bool {
    let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
    Path::new(place).starts_with(dir)
        || above.is_some_and(|above| Path::new(place).starts_with(above))
}

/// Why a write was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The request is refused and left no trace.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The writer has failed and refuses everything from now on.
    #[error(transparent)]
    Failed(#[from] StorageError),
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The request is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disk failed, or a record on it is damaged.
    #[error(transparent)]
    Failed(#[from] StorageError),
    /// The readers' queue is full.
    #[error("too many reads wait for the disk")]
    Busy,
}
