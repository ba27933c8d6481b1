//! The flags of the verbs that save data and bring it back.

use super::{ClientArgs, Format};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to do with a snapshot.
#[derive(Clone, Debug, Subcommand)]
pub enum SnapshotVerb {
    /// Save all data of a server, as of one revision, to a file.
    Save(SnapshotSaveArgs),
    /// Make a data directory of a file, without a server.
    Restore(SnapshotRestoreArgs),
    /// Check a file and show what is in it, without a server.
    Status(SnapshotStatusArgs),
}

/// `vigil snapshot save`.
#[derive(Clone, Debug, Args)]
pub struct SnapshotSaveArgs {
    /// The file; one that is there is replaced when all is saved.
    pub file: PathBuf,
    /// Where and how.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `vigil snapshot restore`.
#[derive(Clone, Debug, Args)]
pub struct SnapshotRestoreArgs {
    /// The file.
    pub file: PathBuf,
    /// The directory to make; it has to be missing or empty.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// How the answer is printed.
    #[arg(short = 'w', long, value_name = "FORMAT", default_value = "simple")]
    pub write_out: Format,
}

/// `vigil snapshot status`.
#[derive(Clone, Debug, Args)]
pub struct SnapshotStatusArgs {
    /// The file.
    pub file: PathBuf,
    /// How the answer is printed.
    #[arg(short = 'w', long, value_name = "FORMAT", default_value = "simple")]
    pub write_out: Format,
}
