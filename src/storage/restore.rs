//! Makes a data directory of a snapshot, or looks at one.
//!
//! Everything is checked before the directory has its name: a snapshot that is damaged, and a restore that is killed, leave no
//! directory that could be served. It never writes into a directory that holds anything.

use super::checkpoint::ReadAhead;
use super::codec::{
    Block, BlockBuilder, CompactionState, KEY_COMPACTION, KEY_IDENTITY, Place, SnapshotFrame,
    SnapshotReader, block_key, encode_compaction, encode_identity, encode_lease, lease_key,
};
use super::database::{Change, Database, Stored};
use super::directory::{create_directory, directory, sync_directory};
use super::dump::RecordHash;
use super::engines::SledEngines;
use super::logged::LoggedDatabase;
use super::recovery;
use super::{Readers, StorageError, StorageLimits};
use crate::fault::{Fault, active};
use crate::model::{LeaseId, Revision};
use bytes::Bytes;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a directory is called until it is whole: its name with this behind it.
const UNFINISHED: &str = ".restoring";
/// How large a batch is that goes into the engine, in records and bytes.
const BATCH_RECORDS_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What a snapshot says of itself, and what was found to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The hash of its records: that of the store at its revision.
    pub hash: u32,
    /// All changes up to here are in it.
    pub revision: Revision,
    /// The oldest revision that can be read from it.
    pub compact_revision: Revision,
    /// How many changes it holds.
    pub records: u64,
    /// How long it is.
    pub bytes: u64,
}

/// Reads all of a snapshot, and checks all of it.
pub fn inspect_snapshot(path: &Path) -> Result<SnapshotInfo, StorageError> {
    read(path, |_| Ok(()))
}

/// Makes a data directory of a snapshot. It is a new store with numbers of its own, and with all revisions of the old one
/// from the compact revision on, so that watches resume. `dir` has to be missing or empty.
pub fn restore_snapshot(
    path: &Path,
    dir: &Path,
    limits: &StorageLimits,
) -> Result<SnapshotInfo, StorageError> {
    check_empty(dir)?;
    let unfinished = unfinished(dir)?;
    check_empty(&unfinished)?;
    let made = make(path, &unfinished, limits);
    if active(Fault::RestoreNamedTooEarly) && unfinished.exists() {
        let _ = fs::rename(&unfinished, dir);
        return made;
    }
    let made = made.and_then(|info| {
        fs::rename(&unfinished, dir).map_err(|error| directory(dir, &error))?;
        if !active(Fault::RestoreChosenUnsynced) {
            sync_directory(parent(dir))?;
        }
        Ok(info)
    });
    if made.is_err() {
        // What is left of it would only be in the way of the next try; the error that counts is the first.
        let _ = fs::remove_dir_all(&unfinished);
    }
    made
}

fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn unfinished(dir: &Path) -> Result<PathBuf, StorageError> {
    let nameless = || io::Error::new(io::ErrorKind::InvalidInput, "it has no name");
    let name = dir.file_name().ok_or_else(|| directory(dir, &nameless()))?;
    let mut unfinished = OsString::from(name);
    unfinished.push(UNFINISHED);
    Ok(dir.with_file_name(unfinished))
}

fn check_empty(dir: &Path) -> Result<(), StorageError> {
    match fs::read_dir(dir).map(|mut entries| entries.next()) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(StorageError::NotEmpty {
            path: dir.to_path_buf(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(directory(dir, &error)),
    }
}

/// Makes the directory under its first name, and opens it once as it will be opened later.
fn make(path: &Path, dir: &Path, limits: &StorageLimits) -> Result<SnapshotInfo, StorageError> {
    // A snapshot that is none makes no directory.
    let head = SnapshotReader::open(path)?.head();
    create_directory(dir)?;
    let (engines, engine) = SledEngines::open(dir, limits)?;
    let mut batch = Batch::new(engine.as_ref());
    let info = read(path, |part| match part {
        Part::Block(block) => batch.add_block(block, limits),
        Part::Leases(_) if active(Fault::RestoreMissesLeases) => Ok(()),
        Part::Leases(leases) => batch.add_leases(leases),
    })?;
    let identity = encode_identity(&recovery::new_identity())?;
    batch.add(Bytes::from_static(KEY_IDENTITY), identity.into())?;
    if head.compact_revision > Revision::NEVER_COMPACTED && !active(Fault::RestoreForgetsCompaction)
    {
        let state = CompactionState {
            scheduled: head.compact_revision,
            finished: head.compact_revision,
            steps: 0,
        };
        let state = encode_compaction(&state)?;
        batch.add(Bytes::from_static(KEY_COMPACTION), state.into())?;
    }
    batch.finish()?;
    let db = LoggedDatabase::open(dir, (engines, engine), limits, Readers::Inline)?;
    let recovered = recovery::recover(&db, None, ReadAhead::nothing());
    db.close();
    let revision = recovered?.revision;
    if revision != info.revision {
        let reason = format!("it ends with revision {revision}");
        return Err(StorageError::Snapshot {
            path: path.to_path_buf(),
            at: 0,
            reason,
        });
    }
    sync_directory(dir)?;
    Ok(info)
}

/// What a restored store is made of.
enum Part<'a> {
    Block(&'a Block),
    Leases(&'a [(LeaseId, i64)]),
}

/// Reads a snapshot to its end; gives each part away once it is checked.
fn read(
    path: &Path,
    mut take: impl FnMut(Part<'_>) -> Result<(), StorageError>,
) -> Result<SnapshotInfo, StorageError> {
    let mut reader = SnapshotReader::open(path)?;
    let head = reader.head();
    let mut hash = RecordHash::new(head.compact_revision);
    let (mut records, mut last) = (0, None);
    loop {
        match reader.next()? {
            (at, SnapshotFrame::Block(place, bytes)) => {
                let stored = Stored::from(Bytes::from(bytes));
                let block = Block::join(place, vec![stored])
                    .map_err(|error| reader.damaged(at, &error.to_string()))?;
                for record in block.iter() {
                    let record = record.map_err(|error| reader.damaged(at, &error.to_string()))?;
                    let place: Place = record.place();
                    if last.is_some_and(|last| last >= place) || place.main > head.revision {
                        return Err(reader.damaged(at, "its records are out of order"));
                    }
                    last = Some(place);
                    records += 1;
                    hash.add(place, &record.to_key_value());
                }
                take(Part::Block(&block))?;
            }
            (_, SnapshotFrame::Leases(leases)) => take(Part::Leases(&leases))?,
            (at, SnapshotFrame::End(end)) => {
                let hash = hash.finish();
                if (end.records, end.hash) != (records, hash) {
                    return Err(reader.damaged(at, "it has other records than it says"));
                }
                reader.finish()?;
                return Ok(SnapshotInfo {
                    hash,
                    revision: head.revision,
                    compact_revision: head.compact_revision,
                    records,
                    bytes: head.bytes,
                });
            }
        }
    }
}

/// Records on their way into an engine that nobody else uses.
struct Batch<'a> {
    engine: &'a dyn Database,
    changes: Vec<Change>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(engine: &'a dyn Database) -> Self {
        Self {
            engine,
            changes: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds a block, cut into pieces as the limits say.
    fn add_block(&mut self, block: &Block, limits: &StorageLimits) -> Result<(), StorageError> {
        let mut again = BlockBuilder::default();
        for record in block.iter() {
            let record = record?;
            again.push(record.sub, &record.to_key_value())?;
        }
        let place = block.place();
        let pieces = again.finish(place, true, limits.record_bytes_max)?;
        for (piece, number) in pieces.into_iter().zip(0..) {
            self.add(block_key(place, number), piece.into())?;
        }
        Ok(())
    }

    fn add_leases(&mut self, leases: &[(LeaseId, i64)]) -> Result<(), StorageError> {
        for (id, ttl_seconds) in leases {
            self.add(lease_key(*id), encode_lease(*ttl_seconds)?.into())?;
        }
        Ok(())
    }

    fn add(&mut self, key: Bytes, value: Bytes) -> Result<(), StorageError> {
        self.bytes += key.len() + value.len();
        self.changes.push(Change::Put(key, value));
        if self.changes.len() >= BATCH_RECORDS_MAX || self.bytes >= BATCH_BYTES_MAX {
            self.bytes = 0;
            self.engine.apply(std::mem::take(&mut self.changes))?;
        }
        Ok(())
    }

    /// Makes all of it durable.
    fn finish(self) -> Result<(), StorageError> {
        if !self.changes.is_empty() {
            self.engine.apply(self.changes)?;
        }
        self.engine.sync()
    }
}
