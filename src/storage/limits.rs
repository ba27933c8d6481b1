//! Every bound of the store, by name and unit.
//!
//! A limit is plain data: nothing here reads a file or the environment.

/// The bounds of one store.
#[derive(Clone, Debug)]
pub struct StorageLimits {
    /// Largest block of a commit group, in bytes (D1). A block holds at least one record, however large.
    pub block_bytes_max: usize,
    /// Largest value that is given to the engine, in bytes (D2): a larger block is cut into pieces of this size.
    pub record_bytes_max: usize,
    /// Largest batch given to the engine, in bytes: a revision larger than this is written as several (D3).
    pub batch_bytes_max: usize,
    /// Length of a file of the commit log when it is made, in bytes: a generation that is as long goes into the engine.
    pub log_bytes_max: u64,
    /// The engine's page cache, in bytes.
    pub page_cache_bytes_max: u64,
    /// The cache of values by revision, in bytes.
    pub value_cache_bytes_max: usize,
    /// The cache of decoded history, in bytes (L5).
    pub history_cache_bytes_max: usize,
    /// Largest stretch of history that one read decodes, in bytes of memory; one revision is never split.
    pub stretch_bytes_max: usize,
    /// Largest stretch of history that one read decodes, in revisions; rounded down to a power of two.
    pub stretch_revisions_max: usize,
    /// How many keys a reader looks at per hold of the index lock (D6).
    pub keys_per_lock_max: usize,
    /// How many keys one step of a compaction prunes.
    pub compaction_keys_per_step: usize,
    /// How many changes one step of a compaction prunes, however few keys they belong to.
    pub compaction_changes_per_step: usize,
    /// How many blocks one step of a compaction reads and rewrites.
    pub compaction_blocks_per_step: usize,
    /// Writes are refused while the disk has less free space than this, in bytes (D5).
    pub free_space_reserve_bytes: u64,
    /// After how many written bytes the free space is looked at again (D5).
    pub free_space_check_bytes: u64,
    /// After how many times what is live the data on the disk is defragmented unasked; 0 is never.
    pub auto_defragment_multiple: u64,
    /// Data that takes no more of the disk than this, in bytes, is not defragmented unasked.
    pub auto_defragment_bytes_min: u64,
    /// How much of the data a defragmentation copies at a time, in bytes: a generation of the log waits for no more.
    pub defragment_slice_bytes_max: usize,
    /// How much the store may hold that is not compacted away, in bytes: beyond it the alarm is raised. `u64::MAX` is no
    /// quota.
    pub quota_bytes: u64,
    /// How many reads may wait for a reader thread.
    pub reader_queue_max: usize,
    /// Largest answer to a range, in bytes of keys and values (B1).
    pub range_answer_bytes_max: usize,
    /// How long to wait for another process to give the directory up, in milliseconds.
    pub lock_wait_ms_max: u64,
    /// After how many revisions the index is written to the checkpoint file; 0 is only at close.
    pub checkpoint_revisions: u64,
}

impl Default for StorageLimits {
    fn default() -> Self {
        const KIB: usize = 1 << 10;
        const MIB: usize = 1 << 20;
        Self {
            block_bytes_max: 64 * KIB,
            record_bytes_max: 64 * KIB,
            batch_bytes_max: 8 * MIB,
            log_bytes_max: 4 << 20,
            page_cache_bytes_max: 64 << 20,
            value_cache_bytes_max: 128 * MIB,
            history_cache_bytes_max: 32 * MIB,
            stretch_bytes_max: 4 * MIB,
            stretch_revisions_max: 1024,
            keys_per_lock_max: 4096,
            compaction_keys_per_step: 1024,
            compaction_changes_per_step: 16_384,
            compaction_blocks_per_step: 16,
            free_space_reserve_bytes: 128 << 20,
            free_space_check_bytes: 16 << 20,
            auto_defragment_multiple: 4,
            auto_defragment_bytes_min: 64 << 20,
            defragment_slice_bytes_max: MIB,
            quota_bytes: 2 << 30,
            reader_queue_max: 1024,
            range_answer_bytes_max: 512 * MIB,
            lock_wait_ms_max: 5_000,
            checkpoint_revisions: 500_000,
        }
    }
}

/// Where reads that need the disk run, and where the commit log is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// On this many threads of their own.
    Threads(usize),
    /// On the calling thread, for simulations and tests.
    Inline,
}
