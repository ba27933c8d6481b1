//! What the writer and every reader share: the index behind its lock, the caches, the engine.
//!
//! Only the writer takes the lock for writing, and nobody holds it over I/O (D6).

use super::block_table::BlockTable;
use super::codec::Identity;
use super::database::Database;
use super::group::Blocks;
use super::history::HistoryCache;
use super::holds::Holds;
use super::key_index::{KeyIndex, Slots};
use super::lease_table::LeaseTable;
use super::overlay::LeaseChanges;
use super::upkeep::Upkeep;
use super::value_cache::ValueCache;
use super::{StorageError, StorageLimits};
use crate::model::{Alarm, Revision};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What lies where: one lock for both, so that they always agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    /// Which key changed when.
    pub keys: KeyIndex,
    /// Which blocks hold the changes.
    pub blocks: BlockTable,
    /// Which leases there are, and which keys they have.
    pub leases: LeaseTable,
}

/// How large the store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// What the data takes on the disk, in bytes.
    pub disk_bytes: u64,
    /// What of it is not compacted away, in bytes.
    pub live_bytes: u64,
}

/// The shared state.
pub(crate) struct Core {
    /// The engine.
    pub db: Arc<dyn Database>,
    /// The bounds.
    pub limits: StorageLimits,
    /// Which store this is.
    pub identity: Identity,
    /// Values by place.
    pub values: ValueCache,
    /// Decoded history.
    pub history: HistoryCache,
    /// Its defragmentations.
    pub upkeep: Arc<Upkeep>,
    index: RwLock<Index>,
    /// Published while the index is locked for writing, so that a reader's revision fits the index it sees.
    revision: AtomicI64,
    compact_revision: AtomicI64,
    disk_bytes: AtomicU64,
    live_bytes: AtomicU64,
    alarms: RwLock<Arc<[Alarm]>>,
    disk_full: AtomicBool,
    /// The reads that a compaction waits for.
    pub holds: Holds,
}

/// Says where the store stands, and never shows its keys.
impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("revision", &self.revision())
            .field("compact_revision", &self.compact_revision())
            .field("sizes", &self.sizes())
            .finish_non_exhaustive()
    }
}

impl Core {
    /// The state of a store that was just opened.
    pub(crate) fn new(
        db: Arc<dyn Database>,
        limits: StorageLimits,
        identity: Identity,
        index: Index,
        (revision, compact_revision): (Revision, Revision),
    ) -> Self {
        let core = Self {
            values: ValueCache::new(limits.value_cache_bytes_max),
            history: HistoryCache::new(limits.history_cache_bytes_max),
            live_bytes: AtomicU64::new(index.keys.live_bytes()),
            index: RwLock::new(index),
            revision: AtomicI64::new(revision.0),
            compact_revision: AtomicI64::new(compact_revision.0),
            disk_bytes: AtomicU64::new(0),
            alarms: RwLock::default(),
            disk_full: AtomicBool::new(false),
            holds: Holds::default(),
            upkeep: Arc::default(),
            db,
            limits,
            identity,
        };
        core.measure();
        core
    }

    /// The last published revision.
    pub(crate) fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// The oldest revision that may be read.
    pub(crate) fn compact_revision(&self) -> Revision {
        Revision(self.compact_revision.load(Ordering::Acquire))
    }

    /// How large the store is, as of the last measurement.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
            live_bytes: self.live_bytes.load(Ordering::Relaxed),
        }
    }

    /// The alarms that are raised, durably.
    pub(crate) fn alarms(&self) -> Arc<[Alarm]> {
        let alarms = self.alarms.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&alarms)
    }

    /// Has the alarms seen. The writer alone calls this, when they are durable.
    pub(crate) fn publish_alarms(&self, alarms: Arc<[Alarm]>) {
        *self.alarms.write().unwrap_or_else(PoisonError::into_inner) = alarms;
    }

    /// True while puts are refused because the disk is nearly full (D5).
    pub(crate) fn is_disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// Says whether puts are refused because the disk is nearly full.
    pub(crate) fn publish_disk_full(&self, is_full: bool) {
        self.disk_full.store(is_full, Ordering::Relaxed);
    }

    /// An error of a read, with the file that was read.
    pub(crate) fn blame(&self, error: StorageError) -> StorageError {
        error.in_file(self.db.data_path())
    }

    /// Looks at the disk for [`Self::sizes`]. A failure keeps the last number: nothing is decided by it.
    pub(crate) fn measure(&self) {
        match self.db.size_bytes() {
            Ok(bytes) => self.disk_bytes.store(bytes, Ordering::Relaxed),
            Err(error) => log::warn!("size of the data unknown: {error}"),
        }
    }

    /// The index, for a bounded number of keys.
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        // A panic of the writer ends the store; readers may still look at what was published.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index. The writer alone calls this.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        let mut index: RwLockWriteGuard<'_, Index> =
            self.index.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut index);
        self.live_bytes
            .store(index.keys.live_bytes(), Ordering::Relaxed);
        result
    }

    /// Merges a durable group into the index, a bounded number of keys per hold of the lock (D6), and publishes its
    /// last revision in the last hold. What was merged before that, no reader asks for: all of it is newer than what
    /// is published.
    pub(crate) fn merge(
        &self,
        keys: BTreeMap<Bytes, Slots>,
        leases: LeaseChanges,
        blocks: Blocks,
        revision: Revision,
    ) {
        let mut keys = keys.into_iter();
        let mut attached = leases.attached.into_iter();
        let mut blocks = Some(blocks);
        let keys_max = self.limits.keys_per_lock_max.max(1);
        while blocks.is_some() {
            self.change(|index| {
                for (key, slots) in keys.by_ref().take(keys_max) {
                    index.keys.append(key, slots);
                }
                for (key, lease) in attached.by_ref().take(keys_max) {
                    index.leases.attach(&key, lease);
                }
                if keys.len() == 0 && attached.len() == 0 {
                    for (id, ttl_seconds) in &leases.granted {
                        match ttl_seconds {
                            Some(ttl_seconds) => index.leases.grant(*id, *ttl_seconds),
                            None => index.leases.revoke(*id),
                        }
                    }
                    for (place, stat) in blocks.take().unwrap_or_default() {
                        index.blocks.insert(place, stat);
                    }
                    self.revision.store(revision.0, Ordering::Release);
                }
            });
        }
    }

    /// Publishes the compact revision, before the first record is deleted (L6).
    pub(crate) fn publish_compaction(&self, revision: Revision) {
        self.compact_revision.store(revision.0, Ordering::Release);
    }
}
