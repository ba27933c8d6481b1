//! Every bound of the engine's actors, by name and unit.
//!
//! Where etcd has a limit, its default is ours. Nothing here is read from anywhere but these structs.

use super::outbox::OutboxLimits;
use crate::watch::BatchLimits;
use std::time::Duration;

/// The bounds of Store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Writes that one group may hold; more wait for the next, so that the latency stays level.
    pub group_ops_max: usize,
    /// Bytes of keys and values that one group may hold, one write more or less.
    pub group_bytes_max: usize,
    /// Requests on their way to Store; a further one waits for its permit (B1). etcd lets 5000 wait.
    pub requests_in_flight_max: usize,
    /// Bytes of those requests.
    pub request_bytes_in_flight_max: usize,
    /// Operations in one transaction, nested ones counted as etcd counts them.
    pub txn_ops_max: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            group_ops_max: 500,
            group_bytes_max: 4 << 20,
            requests_in_flight_max: 5000,
            request_bytes_in_flight_max: 64 << 20,
            txn_ops_max: 128,
        }
    }
}

/// Which history is compacted without being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// None.
    #[default]
    Off,
    /// What is older than this.
    Periodic(Duration),
    /// All but so many revisions.
    Revisions(i64),
}

/// The bounds of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// The bounds of Store.
    pub store: StoreLimits,
    /// Which history is compacted without being asked.
    pub auto_compaction: AutoCompaction,
    /// Messages in one watcher's mailbox; one more makes it a victim.
    pub mailbox_messages_max: usize,
    /// Bytes on their way to the watchers of one stream; one more byte makes a victim without a try (B2). A batch that
    /// many watchers share counts once.
    pub in_flight_bytes_max: usize,
    /// How large one delivery may get.
    pub batch: BatchLimits,
    /// Watchers that are delivered to before the group yields (W2).
    pub entries_per_slice_max: usize,
    /// The bounds of one stream's outbox.
    pub outbox: OutboxLimits,
    /// Memory that recent commits may take, in bytes.
    pub ring_bytes_max: usize,
    /// Recent commits that are kept at most.
    pub ring_revisions_max: usize,
    /// Bytes of batches that one worker keeps for victims; beyond it a victim keeps only its revision (V2).
    pub pinned_bytes_max: usize,
    /// Keys that a late watcher's range may have to be looked up in the index; a wider one is scanned for (L4).
    pub narrow_keys_max: usize,
    /// Revisions that are read by number for a late watcher; more are scanned for (L4).
    pub narrow_revisions_max: usize,
    /// Watches on one stream.
    pub watches_per_stream_max: usize,
    /// Watches of the whole engine.
    pub watches_max: usize,
    /// The shortest time that a lease may be granted for, in seconds: a shorter one is granted for this long. etcd's, with
    /// its default election timeout.
    pub lease_ttl_seconds_min: i64,
    /// How often a quiet watcher that asked for it is told of progress; at least 100 ms, as in etcd.
    pub progress_notify_interval: Duration,
    /// How often Sync looks whether it has missed a wake-up; a net, never the way.
    pub sync_net_interval: Duration,
    /// How often `VictimRetry` looks whether it has missed a wake-up; a net, never the way.
    pub retry_net_interval: Duration,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            store: StoreLimits::default(),
            auto_compaction: AutoCompaction::Off,
            mailbox_messages_max: 16,
            in_flight_bytes_max: 8 << 20,
            batch: BatchLimits::default(),
            entries_per_slice_max: 512,
            outbox: OutboxLimits::default(),
            ring_bytes_max: 64 << 20,
            ring_revisions_max: 1_000_000,
            pinned_bytes_max: 64 << 20,
            narrow_keys_max: 64,
            narrow_revisions_max: 1000,
            watches_per_stream_max: usize::MAX,
            watches_max: usize::MAX,
            lease_ttl_seconds_min: 2,
            progress_notify_interval: Duration::from_mins(10),
            sync_net_interval: Duration::from_millis(500),
            retry_net_interval: Duration::from_millis(500),
        }
    }
}
