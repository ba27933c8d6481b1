//! What the tests of this room share: a disk in memory that can fail and crash, and a store around it.
//!
//! The disk keeps what is applied and what is durable apart, as a real one does.

mod held_reads;
mod logged_disk;
mod memory_engines;

pub(crate) use held_reads::{HeldAnswer, answer_held, held_reads, hold_reads, run_or_hold};
pub(crate) use logged_disk::{Kept, LogFault, LoggedDisk};
pub(crate) use memory_engines::MemoryEngines;

pub(crate) use super::database::NO_LOG;
use super::database::{Change, Database, Scan, Stored};
use super::{
    ApplyError, CompactionStep, ReadError, ReadView, Readers, StorageError, StorageLimits, Stretch,
    Writer, open_on,
};
use crate::model::{
    Commit, DeleteRange, KeyRange, KeyValue, Op, Put, RangeAnswer, RangeQuery, Refusal, Revision,
    Txn, Write, WriteAnswer,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};

type Image = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default)]
struct State {
    live: Image,
    /// Batches that are applied and not synced, oldest first.
    unsynced: Vec<Vec<Change>>,
    durable: Image,
    /// How many more calls of `apply` and `sync` succeed.
    calls_left: Option<usize>,
    applies: usize,
    syncs: usize,
    failed_syncs: usize,
    /// Nothing when the disk cannot say.
    free_bytes: Option<u64>,
    while_syncing: WhileSyncing,
}

#[derive(Default)]
struct WhileSyncing(Option<SyncHook>);

impl std::fmt::Debug for WhileSyncing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WhileSyncing")
    }
}

/// Something to do before the next read.
type Hook = Box<dyn FnOnce() + Send>;
/// Something to do while the disk syncs, each time.
type SyncHook = Arc<dyn Fn() + Send + Sync>;

/// A disk in memory.
#[derive(Clone)]
pub(crate) struct MemoryDisk(Arc<Mutex<State>>, Arc<Mutex<Option<Hook>>>);

impl std::fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryDisk")
    }
}

impl Default for MemoryDisk {
    fn default() -> Self {
        let state = State {
            free_bytes: Some(u64::MAX),
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)), Arc::default())
    }
}

fn apply_to(image: &mut Image, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put(key, value) => image.insert(key.to_vec(), value.to_vec()),
            Change::Remove(key) => image.remove(&key[..]),
        };
    }
}

impl MemoryDisk {
    /// Lets this many more writing calls succeed; every later one fails.
    pub(crate) fn fail_after(&self, calls: usize) {
        self.0.lock().unwrap().calls_left = Some(calls);
    }

    /// Does this when the disk is read next, before it answers.
    pub(crate) fn on_next_read(&self, hook: impl FnOnce() + Send + 'static) {
        *self.1.lock().unwrap() = Some(Box::new(hook));
    }

    /// Does this during every sync, when everything is applied and nothing of it is durable.
    pub(crate) fn while_syncing(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.0.lock().unwrap().while_syncing.0 = Some(Arc::new(hook));
    }

    /// How many batches are applied and not synced.
    pub(crate) fn unsynced(&self) -> usize {
        self.0.lock().unwrap().unsynced.len()
    }

    fn before_read(&self) {
        let hook = self.1.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
    }

    pub(crate) fn set_free_bytes(&self, free_bytes: u64) {
        self.0.lock().unwrap().free_bytes = Some(free_bytes);
    }

    /// The disk does not say any more how much it has.
    pub(crate) fn lose_free_bytes(&self) {
        self.0.lock().unwrap().free_bytes = None;
    }

    /// How many batches were applied and how often they were synced.
    pub(crate) fn calls(&self) -> (usize, usize) {
        let state = self.0.lock().unwrap();
        (state.applies, state.syncs)
    }

    /// How many syncs have failed.
    pub(crate) fn failed_syncs(&self) -> usize {
        self.0.lock().unwrap().failed_syncs
    }

    /// What is left after a power cut: everything durable, and the oldest `kept` of the batches that were not.
    pub(crate) fn after_power_cut(&self, kept: usize) -> Self {
        let state = self.0.lock().unwrap();
        let mut image = state.durable.clone();
        for batch in state.unsynced.iter().take(kept) {
            apply_to(&mut image, batch);
        }
        Self::from_image(image)
    }

    /// What a worse power cut leaves: everything durable, and of the batches that were not only the newest.
    pub(crate) fn with_newest_unsynced(&self) -> Self {
        let state = self.0.lock().unwrap();
        let mut image = state.durable.clone();
        if let Some(batch) = state.unsynced.last() {
            apply_to(&mut image, batch);
        }
        Self::from_image(image)
    }

    /// A copy of everything that is applied.
    pub(crate) fn copy(&self) -> Self {
        Self::from_image(self.0.lock().unwrap().live.clone())
    }

    fn from_image(image: Image) -> Self {
        let disk = Self::default();
        {
            let mut state = disk.0.lock().unwrap();
            state.live = image.clone();
            state.durable = image;
        }
        disk
    }

    /// Every record, for a test that damages one.
    pub(crate) fn records(&self) -> Image {
        self.0.lock().unwrap().live.clone()
    }

    pub(crate) fn overwrite(&self, key: &[u8], value: Option<Vec<u8>>) {
        let mut state = self.0.lock().unwrap();
        let change = match value {
            Some(value) => Change::Put(Bytes::copy_from_slice(key), value.into()),
            None => Change::Remove(Bytes::copy_from_slice(key)),
        };
        apply_to(&mut state.live, std::slice::from_ref(&change));
        apply_to(&mut state.durable, &[change]);
    }
}

impl State {
    fn call(&mut self) -> Result<(), StorageError> {
        match &mut self.calls_left {
            None => Ok(()),
            Some(0) => Err(StorageError::disk("write", "the test says so")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl Database for MemoryDisk {
    /// A disk in memory has no lock to let go of.
    fn close(&self) {}

    fn apply(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        let mut state = self.0.lock().unwrap();
        state.call()?;
        state.applies += 1;
        apply_to(&mut state.live, &changes);
        state.unsynced.push(changes);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        let hook = self.0.lock().unwrap().while_syncing.0.clone();
        if let Some(hook) = hook {
            hook();
        }
        let mut state = self.0.lock().unwrap();
        if let Err(error) = state.call() {
            state.failed_syncs += 1;
            return Err(error);
        }
        state.syncs += 1;
        for batch in std::mem::take(&mut state.unsynced) {
            apply_to(&mut state.durable, &batch);
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StorageError> {
        self.before_read();
        let state = self.0.lock().unwrap();
        Ok(state
            .live
            .get(key)
            .map(|value| Stored::from(Bytes::copy_from_slice(value))))
    }

    fn scan(&self, from: &[u8], until: &[u8]) -> Scan<'_> {
        self.before_read();
        let state = self.0.lock().unwrap();
        let range = state.live.range(from.to_vec()..until.to_vec());
        let pair = |(key, value): (&Vec<u8>, &Vec<u8>)| {
            Ok((
                Stored::from(Bytes::copy_from_slice(key)),
                Stored::from(Bytes::copy_from_slice(value)),
            ))
        };
        Box::new(range.map(pair).collect::<Vec<_>>().into_iter())
    }

    fn size_bytes(&self) -> Result<u64, StorageError> {
        let state = self.0.lock().unwrap();
        let sizes = state
            .live
            .iter()
            .map(|(key, value)| key.len() + value.len());
        Ok(sizes.sum::<usize>() as u64)
    }

    fn free_bytes(&self) -> Result<u64, StorageError> {
        let free_bytes = self.0.lock().unwrap().free_bytes;
        free_bytes.ok_or_else(|| StorageError::disk("look", "the test says so"))
    }
}

/// A store on a disk in memory, read by whoever asks.
pub(crate) fn open_memory(
    disk: &MemoryDisk,
    limits: StorageLimits,
) -> Result<(Writer, ReadView), StorageError> {
    open_on(Arc::new(disk.clone()), None, limits, Readers::Inline)
}

/// Limits so small that every bound is met.
pub(crate) fn tiny() -> StorageLimits {
    StorageLimits {
        block_bytes_max: 256,
        record_bytes_max: 256,
        batch_bytes_max: 1024,
        page_cache_bytes_max: 1 << 20,
        value_cache_bytes_max: 1024,
        history_cache_bytes_max: 4096,
        stretch_bytes_max: 512,
        stretch_revisions_max: 8,
        keys_per_lock_max: 1,
        compaction_keys_per_step: 1,
        compaction_changes_per_step: 1,
        compaction_blocks_per_step: 1,
        free_space_check_bytes: 1,
        defragment_slice_bytes_max: 256,
        reader_queue_max: 1,
        lock_wait_ms_max: 0,
        ..StorageLimits::default()
    }
}

/// Default limits with caches that a test can afford.
pub(crate) fn small() -> StorageLimits {
    StorageLimits {
        page_cache_bytes_max: 8 << 20,
        value_cache_bytes_max: 1 << 20,
        history_cache_bytes_max: 1 << 20,
        ..StorageLimits::default()
    }
}

/// A store and its disk.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) disk: MemoryDisk,
    pub(crate) writer: Writer,
    pub(crate) view: ReadView,
}

impl Store {
    pub(crate) fn new(limits: StorageLimits) -> Self {
        Self::on(MemoryDisk::default(), limits)
    }

    pub(crate) fn on(disk: MemoryDisk, limits: StorageLimits) -> Self {
        Self::try_on(disk, limits).unwrap()
    }

    pub(crate) fn try_on(disk: MemoryDisk, limits: StorageLimits) -> Result<Self, StorageError> {
        let (writer, view) = open_memory(&disk, limits)?;
        Ok(Self { disk, writer, view })
    }

    /// The same data opened anew.
    pub(crate) fn reopened(&self) -> Self {
        Self::on(self.disk.copy(), self.view.limits().clone())
    }

    pub(crate) fn apply(&mut self, write: Write) -> Result<WriteAnswer, ApplyError> {
        self.writer.apply(&write, true)
    }

    pub(crate) fn commit(&mut self) -> Vec<Arc<Commit>> {
        self.writer.commit().unwrap()
    }

    /// Puts and commits.
    pub(crate) fn put(&mut self, key: &str, value: &str) -> Revision {
        let answer = self.apply(put(key, value)).unwrap();
        self.commit();
        answer.revision
    }

    /// Deletes and commits.
    pub(crate) fn delete(&mut self, range: KeyRange) -> Revision {
        let answer = self.apply(delete(range)).unwrap();
        self.commit();
        answer.revision
    }

    /// Compacts and does all the work of it.
    pub(crate) fn compact(&mut self, revision: i64) {
        self.writer.compact(Revision(revision)).unwrap();
        self.settle();
    }

    /// Compacts on a disk that fails after this many calls; says whether it was scheduled, and whether all was done.
    pub(crate) fn compact_failing_after(
        &mut self,
        calls: usize,
        revision: Revision,
    ) -> (bool, bool) {
        self.disk.fail_after(calls);
        let scheduled = self.writer.compact(revision).is_ok();
        let finished = loop {
            match self.writer.compaction_step() {
                Ok(CompactionStep::Idle) => break true,
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        (scheduled, finished)
    }

    pub(crate) fn settle(&mut self) {
        while self.writer.compaction_step().unwrap() != CompactionStep::Idle {}
    }

    pub(crate) fn get(&self, key: &str, revision: i64) -> Option<KeyValue> {
        let query = RangeQuery {
            revision,
            ..RangeQuery::latest(KeyRange::single(key.to_owned()))
        };
        let (_, mut answer) = read(&self.view, query).unwrap();
        answer.kvs.pop().map(Arc::unwrap_or_clone)
    }
}

pub(crate) fn put(key: &str, value: &str) -> Write {
    Write::Put(put_op(key, value))
}

pub(crate) fn put_op(key: &str, value: &str) -> Put {
    Put {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
        ..Put::default()
    }
}

pub(crate) fn delete(range: KeyRange) -> Write {
    let prev_kv = false;
    Write::Delete(DeleteRange { range, prev_kv })
}

pub(crate) fn txn(ops: Vec<Op>) -> Write {
    Write::Txn(Txn {
        success: ops,
        ..Txn::default()
    })
}

/// Calls a read and waits for its callback.
pub(crate) fn wait<T: Send + 'static>(call: impl FnOnce(super::Done<T>)) -> Result<T, ReadError> {
    let (sender, receiver) = mpsc::channel();
    call(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().expect("a read answers exactly once")
}

pub(crate) fn read(
    view: &ReadView,
    query: RangeQuery,
) -> Result<(Revision, RangeAnswer), ReadError> {
    wait(|done| view.range(query, done))
}

/// History from `from` through `through`, stretch by stretch.
pub(crate) fn history(
    view: &ReadView,
    from: i64,
    through: i64,
) -> Result<Vec<Arc<Commit>>, ReadError> {
    let (mut next, mut commits) = (Revision(from), Vec::new());
    while next <= Revision(through) {
        let stretch: Stretch = wait(|done| view.history(next, Revision(through), done))?;
        assert!(stretch.next > next, "a stretch covers something");
        assert!(
            stretch
                .commits
                .iter()
                .all(|commit| (next..stretch.next).contains(&commit.revision))
        );
        commits.extend(stretch.commits);
        next = stretch.next;
    }
    Ok(commits)
}

/// A commit as plain data: its revision, and for each event the key, the value and the three numbers.
pub(crate) fn plain(commit: &Commit) -> (Revision, Vec<KeyValue>) {
    let events = commit.events.iter().map(|event| event.kv.clone());
    (commit.revision, events.collect())
}

pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, ReadError>) -> Refusal {
    match result.unwrap_err() {
        ReadError::Refused(refusal) => refusal,
        other => panic!("not a refusal: {other}"),
    }
}

pub(crate) fn write_refusal(result: Result<WriteAnswer, ApplyError>) -> Refusal {
    match result.unwrap_err() {
        ApplyError::Refused(refusal) => refusal,
        ApplyError::Failed(error) => panic!("not a refusal: {error}"),
    }
}

/// Keys a to e: c is the newest, a has three versions, and the values run against the keys.
pub(crate) fn five() -> Store {
    let mut store = Store::new(tiny());
    for (key, value) in [
        ("a", "9"),
        ("b", "8"),
        ("d", "6"),
        ("e", "5"),
        ("a", "9"),
        ("a", "9"),
    ] {
        store.put(key, value);
    }
    store.put("c", "7");
    store
}
