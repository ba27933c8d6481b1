//! Values by the place of their change, bounded by bytes.
//!
//! A change never changes, so nothing here is ever invalidated; what was compacted simply ages out.

use super::codec::Place;
use crate::model::KeyValue;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

/// What an entry takes beyond its key and value, in bytes.
const ENTRY_OVERHEAD_BYTES: u64 = 200;
/// A shard below this is more likely to refuse a large value than to save a wait, in bytes.
const SHARD_BYTES_MIN: usize = 8 << 20;
const SHARDS_MAX: usize = 16;

/// The cache.
pub(crate) struct ValueCache(Cache<Place, Arc<KeyValue>, ByBytes, ahash::RandomState>);

impl fmt::Debug for ValueCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueCache({} bytes)", self.0.weight())
    }
}

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<Place, Arc<KeyValue>> for ByBytes {
    fn weight(&self, _: &Place, kv: &Arc<KeyValue>) -> u64 {
        ENTRY_OVERHEAD_BYTES + kv.bytes() as u64
    }
}

impl ValueCache {
    /// A cache of at most this many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(bounded(bytes_max, 512, ByBytes))
    }

    /// The change at this place, if it is cached.
    pub(crate) fn get(&self, place: Place) -> Option<Arc<KeyValue>> {
        self.0.get(&place)
    }

    /// Keeps the change at this place for a while.
    pub(crate) fn insert(&self, place: Place, kv: Arc<KeyValue>) {
        self.0.insert(place, kv);
    }
}

/// A cache of at most `bytes_max`, whose entries are about `entry_bytes` each.
pub(super) fn bounded<K, V, W>(
    bytes_max: usize,
    entry_bytes: usize,
    weighter: W,
) -> Cache<K, V, W, ahash::RandomState>
where
    K: Hash + Eq + Clone,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let shards = (bytes_max / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
    let mut options = OptionsBuilder::new();
    options
        .shards(shards)
        .weight_capacity(bytes_max as u64)
        .estimated_items_capacity(bytes_max / entry_bytes + 1);
    match options.build() {
        Ok(options) => {
            Cache::with_options(options, weighter, hasher(), DefaultLifecycle::default())
        }
        // Only a missing number is refused, and none is missing.
        Err(_) => Cache::with(
            bytes_max / entry_bytes + 1,
            bytes_max as u64,
            weighter,
            hasher(),
            DefaultLifecycle::default(),
        ),
    }
}

/// Seeded the same every time, so that a simulation evicts the same entries in every run.
fn hasher() -> ahash::RandomState {
    ahash::RandomState::with_seeds(0x76, 0x69, 0x67, 0x6c)
}
