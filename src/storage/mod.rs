//! The store on disk: blocking, single-writer, and the only room that knows bytes on disk.
//!
//! It never knows an actor, a socket or a future: what cannot be answered at once is answered through a callback.
//! `codec` alone knows the bytes, `database` alone names the engine; `docs/storage-format.md` draws what lies on disk.

mod admission;
mod block_table;
mod checkpoint;
mod codec;
mod commit_log;
mod compaction;
mod core;
mod database;
mod defragment;
mod directory;
mod dump;
mod engine_files;
mod engines;
mod error;
mod fetch;
mod group;
mod history;
mod holds;
mod key_index;
mod lease_table;
mod limits;
mod logged;
mod mvcc;
mod overlay;
mod read_view;
mod readers;
mod recovery;
mod restore;
mod selection;
mod session;
mod snapshot;
mod space;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod txn;
mod upkeep;
mod value_cache;

pub use codec::Identity;
pub use compaction::CompactionStep;
pub use core::Sizes;
pub use database::Defragmented;
pub use dump::StoreHash;
pub use error::{ApplyError, ReadError, StorageError};
pub use history::Stretch;
pub use limits::{Readers, StorageLimits};
pub use mvcc::Writer;
pub use read_view::{Done, ReadView, Wanted};
pub use restore::{SnapshotInfo, inspect_snapshot, restore_snapshot};
pub use snapshot::{Snapshot, SnapshotPart};

use self::checkpoint::{Checkpointer, ReadAhead};
use self::compaction::Compactor;
use self::core::Core;
use self::database::Database;
use self::engines::SledEngines;
use self::logged::LoggedDatabase;
use self::readers::ReaderPool;
use std::path::Path;
use std::sync::Arc;

/// Opens the store in a directory, or makes an empty one.
///
/// ```
/// use vigil::model::{KeyRange, Put, RangeQuery, Revision, Write};
/// use vigil::storage::{Readers, StorageLimits, open};
///
/// let dir = tempfile::tempdir()?;
/// let (mut writer, view) = open(dir.path(), StorageLimits::default(), Readers::Inline)?;
/// let put = Put { key: "a".into(), value: "1".into(), ..Put::default() };
/// writer.apply(&Write::Put(put), false)?;
/// assert_eq!(view.revision(), Revision(1), "applied, but not durable");
/// let commits = writer.commit()?;
/// assert_eq!((commits.len(), view.revision()), (1, Revision(2)));
///
/// let query = RangeQuery::latest(KeyRange::single("a"));
/// view.range(query, Box::new(|answer| {
///     assert_eq!(answer.unwrap().1.kvs[0].value, "1");
/// }));
/// writer.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open(
    dir: &Path,
    limits: StorageLimits,
    readers: Readers,
) -> Result<(Writer, ReadView), StorageError> {
    let checkpoint = ReadAhead::start(dir, readers);
    let engines = SledEngines::open(dir, &limits)?;
    let db = LoggedDatabase::open(dir, engines, &limits, readers)?;
    open_with(Arc::new(db), Some(dir), limits, readers, checkpoint)
}

/// Opens the store on any disk; without a directory it keeps no checkpoints.
#[cfg(test)]
fn open_on(
    db: Arc<dyn Database>,
    dir: Option<&Path>,
    limits: StorageLimits,
    readers: Readers,
) -> Result<(Writer, ReadView), StorageError> {
    open_with(db, dir, limits, readers, ReadAhead::nothing())
}

fn open_with(
    db: Arc<dyn Database>,
    dir: Option<&Path>,
    limits: StorageLimits,
    readers: Readers,
    checkpoint: ReadAhead,
) -> Result<(Writer, ReadView), StorageError> {
    let recovered = recovery::recover(db.as_ref(), dir, checkpoint)
        .map_err(|error| error.in_file(db.data_path()))?;
    let published = (recovered.revision, recovered.compaction.scheduled);
    let alarms = admission::load(db.as_ref()).map_err(|error| error.in_file(db.data_path()))?;
    let core = Core::new(db, limits, recovered.identity, recovered.index, published);
    core.publish_alarms(alarms.into_iter().collect());
    let core = Arc::new(core);
    let pool = Arc::new(ReaderPool::start(Arc::clone(&core), readers)?);
    let view = ReadView::new(Arc::clone(&core), Arc::clone(&pool));
    let checkpointer = Checkpointer::new(dir, recovered.revision, readers == Readers::Inline);
    let compactor = Compactor::new(recovered.compaction);
    let writer = Writer::new(core, pool, compactor, checkpointer)?;
    Ok((writer, view))
}
