//! The engine behind a commit log: a batch is durable once it is in the log, and goes into the engine later, with many.
//!
//! Readers see a batch once it is durable: what the engine lacks lies in memory. It never lets the log begin
//! anew over changes that are not durable in the engine, and never goes on after an error of either (D4).

use super::codec::{
    KEY_LAST_BLOCK, KEY_SETTLED, decode_last_block, decode_settled, encode_last_block,
    encode_settled, parse_block_key,
};
use super::commit_log::CommitLog;
use super::database::{Change, Database, Scan, Stored};
use super::{Readers, StorageError};
use crate::fault::{self, Fault};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::thread::{self, JoinHandle};

/// How large a batch is that goes into the engine, in records and bytes: it holds the engine's lock for its whole length.
const BATCH_RECORDS_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Changes by key; nothing means removed.
type Layer = BTreeMap<Bytes, Option<Bytes>>;

/// What the engine lacks.
#[derive(Debug, Default)]
struct Layers {
    /// The generation that is being written.
    open: Layer,
    /// The one before it, while it goes into the engine.
    settling: Arc<Layer>,
}

/// What the writer and the thread that settles tell each other.
#[derive(Debug, Default)]
struct Progress {
    busy: bool,
    failed: Option<StorageError>,
}

#[derive(Debug)]
struct Inner {
    engine: Arc<dyn Database>,
    layers: RwLock<Layers>,
    progress: Mutex<Progress>,
    settled: Condvar,
}

/// A generation whose changes are to go into the engine.
type Job = (u64, Arc<Layer>);

/// The thread that settles.
#[derive(Debug)]
struct Settler {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

/// What the writer alone uses.
#[derive(Debug)]
struct Writing {
    log: CommitLog,
    /// What was applied and is not durable.
    staged: Vec<Change>,
}

/// An engine with a log before it.
#[derive(Debug)]
pub(crate) struct LoggedDatabase {
    inner: Arc<Inner>,
    writing: Mutex<Writing>,
    /// Nothing when the writer settles by itself, or once it is closed.
    settler: Mutex<Option<Settler>>,
    log_bytes_max: u64,
}

impl LoggedDatabase {
    /// Opens the log in a directory, or makes one, and brings the engine up to it.
    pub(crate) fn open(
        dir: &Path,
        engine: Arc<dyn Database>,
        log_bytes_max: u64,
        readers: Readers,
    ) -> Result<Self, StorageError> {
        let log = Self::open_log(dir, engine.as_ref(), log_bytes_max)
            .map_err(|error| error.in_file(engine.data_path()))?;
        let inner = Arc::new(Inner {
            engine,
            layers: RwLock::default(),
            progress: Mutex::default(),
            settled: Condvar::new(),
        });
        let settler = match readers {
            Readers::Inline => None,
            Readers::Threads(_) => Some(Settler::start(&inner)?),
        };
        Ok(Self {
            inner,
            writing: Mutex::new(Writing {
                log,
                staged: Vec::new(),
            }),
            settler: Mutex::new(settler),
            log_bytes_max,
        })
    }

    fn open_log(
        dir: &Path,
        engine: &dyn Database,
        log_bytes_max: u64,
    ) -> Result<CommitLog, StorageError> {
        let Some(settled) = engine.get(KEY_SETTLED)? else {
            CommitLog::check_none(dir)?;
            let log = CommitLog::create(dir, log_bytes_max)?;
            settle(engine, 0, &Layer::new())?;
            return Ok(log);
        };
        let settled = decode_settled(settled.as_ref())?;
        let (log, held) = CommitLog::open(dir, settled)?;
        let layer: Layer = held.unsettled.into_iter().map(entry).collect();
        let before = held.settled.into_iter().map(entry).collect();
        check_settled(engine, &before, &layer)?;
        if !layer.is_empty() {
            settle(engine, log.generation() - 1, &layer)?;
        }
        Ok(log)
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the open generation over, once the one before it lies in the engine, and begins the next.
    fn switch(&self, log: &mut CommitLog) -> Result<(), StorageError> {
        if !fault::active(Fault::LogSwitchedUnsettled) {
            self.inner.wait()?;
        }
        let job = {
            let mut layers = self.inner.layers_mut();
            layers.settling = Arc::new(std::mem::take(&mut layers.open));
            (log.generation(), Arc::clone(&layers.settling))
        };
        log.switch();
        self.inner.progress().busy = true;
        let settler = self.settler();
        let sent = match settler.as_ref() {
            None => {
                self.inner.run(&job);
                Ok(())
            }
            Some(settler) => settler.jobs.send(job).map_err(|_| "its thread has ended"),
        };
        if let Err(reason) = sent {
            self.inner
                .end(Err(StorageError::disk("settle the commit log", reason)));
        }
        self.inner.check()
    }

    fn settler(&self) -> MutexGuard<'_, Option<Settler>> {
        self.settler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the thread that settles, once it has done what it was given.
    fn join(&self) {
        if let Some(Settler { jobs, thread }) = self.settler().take() {
            drop(jobs);
            if thread.join().is_err() {
                log::error!("the thread of the commit log panicked");
            }
        }
    }
}

/// Whoever lets go of a database without closing it finds its directory free afterwards.
impl Drop for LoggedDatabase {
    fn drop(&mut self) {
        self.join();
    }
}

impl Settler {
    fn start(inner: &Arc<Inner>) -> Result<Self, StorageError> {
        let (jobs, receiver): (_, Receiver<Job>) = sync_channel(1);
        let inner = Arc::clone(inner);
        let thread = thread::Builder::new()
            .name("vigil-settle".to_owned())
            .spawn(move || receiver.iter().for_each(|job| inner.run(&job)))
            .map_err(|error| StorageError::disk("start the thread of the commit log", error))?;
        Ok(Self { jobs, thread })
    }
}

impl Inner {
    fn layers(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn layers_mut(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles a generation. A panic of the engine is an error like any other: whoever waits has to hear of it.
    fn run(&self, (generation, layer): &Job) {
        if fault::active(Fault::SettlingUnseen) {
            self.layers_mut().settling = Arc::default();
        }
        let settle = || settle(self.engine.as_ref(), *generation, layer);
        let panicked = |_| {
            Err(StorageError::disk(
                "settle the commit log",
                "the engine panicked",
            ))
        };
        self.end(catch_unwind(AssertUnwindSafe(settle)).unwrap_or_else(panicked));
    }

    /// Lets go of a layer that was settled, and tells whoever waits for it.
    fn end(&self, settled: Result<(), StorageError>) {
        let mut progress = self.progress();
        progress.busy = false;
        match settled {
            Ok(()) => self.layers_mut().settling = Arc::default(),
            Err(error) => {
                log::error!(
                    "the commit log cannot be settled, and holds what is not in the engine: {error}"
                );
                progress.failed.get_or_insert(error);
            }
        }
        self.settled.notify_all();
    }

    /// Waits until no generation is on its way into the engine.
    fn wait(&self) -> Result<(), StorageError> {
        let mut progress = self.progress();
        while progress.busy {
            progress = self
                .settled
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
        progress.failed.clone().map_or(Ok(()), Err)
    }

    fn check(&self) -> Result<(), StorageError> {
        self.progress().failed.clone().map_or(Ok(()), Err)
    }
}

/// Puts changes into the engine, durably, and then the mark that says so: the log may begin anew only behind the mark.
fn settle(engine: &dyn Database, generation: u64, layer: &Layer) -> Result<(), StorageError> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    for (key, value) in layer {
        bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        batch.push(match value {
            Some(value) => Change::Put(key.clone(), value.clone()),
            None => Change::Remove(key.clone()),
        });
        if batch.len() >= BATCH_RECORDS_MAX || bytes >= BATCH_BYTES_MAX {
            engine.apply(std::mem::take(&mut batch))?;
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        engine.apply(batch)?;
    }
    let is_unsynced = fault::active(Fault::SettledWithoutSync);
    if !fault::active(Fault::SettledMarkBeforeSync) && !is_unsynced {
        engine.sync()?;
    }
    let mark = Change::Put(Bytes::from_static(KEY_SETTLED), encode_settled(generation)?);
    let mut marks = vec![mark];
    marks.extend(last_block(engine, layer)?);
    engine.apply(marks)?;
    if is_unsynced {
        return Ok(());
    }
    engine.sync()
}

/// What changes of the record of the last block: without it, history that lost its end would look like one that is shorter.
fn last_block(engine: &dyn Database, layer: &Layer) -> Result<Option<Change>, StorageError> {
    let known = match engine.get(KEY_LAST_BLOCK)? {
        Some(known) => decode_last_block(known.as_ref())?,
        None => Vec::new(),
    };
    let is_block =
        |(key, value): &(&Bytes, &Option<Bytes>)| value.is_some() && parse_block_key(key).is_ok();
    let key = Bytes::from_static(KEY_LAST_BLOCK);
    Ok(match layer.iter().rev().find(is_block) {
        Some((last, _)) if last[..] > known[..] => Some(Change::Put(key, encode_last_block(last)?)),
        // It was removed, and which is the last now is known with the next.
        _ if layer.get(&known[..]) == Some(&None) => Some(Change::Remove(key)),
        _ => None,
    })
}

/// Sees that the engine has what it was given last: it may lose its end to damage, or a page, and say nothing. Where a
/// later generation has the same key it may have been given that already.
fn check_settled(engine: &dyn Database, given: &Layer, after: &Layer) -> Result<(), StorageError> {
    let damaged = |key: &[u8]| {
        let reason = "it is not what was written: a part of the data is lost";
        Err(StorageError::corrupt(
            "data",
            format!("record {key:?}"),
            reason,
        ))
    };
    if let Some(last) = engine.get(KEY_LAST_BLOCK)? {
        let last = decode_last_block(last.as_ref())?;
        if !after.contains_key(&last[..]) && engine.get(&last)?.is_none() {
            return damaged(&last);
        }
    }
    for (key, value) in given.iter().filter(|(key, _)| !after.contains_key(*key)) {
        let found = engine.get(key)?;
        if found.as_ref().map(Stored::as_ref) != value.as_deref() {
            return damaged(key);
        }
    }
    Ok(())
}

fn entry(change: Change) -> (Bytes, Option<Bytes>) {
    match change {
        Change::Put(key, value) => (key, Some(value)),
        Change::Remove(key) => (key, None),
    }
}

impl Database for LoggedDatabase {
    fn apply(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        self.inner.check()?;
        let mut writing = self.writing();
        for change in &changes {
            writing.log.stage(change)?;
        }
        writing.staged.extend(changes);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.inner.check()?;
        let mut writing = self.writing();
        if let Err(error) = writing.log.sync() {
            self.inner.progress().failed = Some(error.clone());
            return Err(error);
        }
        let durable = writing.staged.drain(..).map(entry);
        self.inner.layers_mut().open.extend(durable);
        if writing.log.bytes() >= self.log_bytes_max && !writing.log.is_empty() {
            // What was staged is durable, whatever becomes of the generation before: the next call is told of it.
            drop(self.switch(&mut writing.log));
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StorageError> {
        {
            let layers = self.inner.layers();
            let found = layers.open.get(key).or_else(|| layers.settling.get(key));
            if let Some(found) = found {
                return Ok(found.clone().map(Stored::from));
            }
        }
        self.inner.engine.get(key)
    }

    fn scan(&self, from: &[u8], until: &[u8]) -> Scan<'_> {
        let bounds = (Bound::Included(from), Bound::Excluded(until));
        let above: Layer = {
            let layers = self.inner.layers();
            let own = |(key, value): (&Bytes, &Option<Bytes>)| (key.clone(), value.clone());
            let mut above: Layer = layers.settling.range::<[u8], _>(bounds).map(own).collect();
            above.extend(layers.open.range::<[u8], _>(bounds).map(own));
            above
        };
        let below = self.inner.engine.scan(from, until);
        if above.is_empty() {
            return below;
        }
        Box::new(Merged {
            above: above.into_iter().peekable(),
            below: below.peekable(),
        })
    }

    fn close(&self) {
        let mut writing = self.writing();
        let settled = if writing.log.is_empty() {
            self.inner.wait()
        } else {
            self.switch(&mut writing.log)
                .and_then(|()| self.inner.wait())
        };
        if let Err(error) = settled {
            log::warn!("the commit log is settled at the next start: {error}");
        }
        self.join();
        self.inner
            .progress()
            .failed
            .get_or_insert(StorageError::Closed);
        // The engine first: whoever reads meanwhile must not find it without what only the layers have.
        self.inner.engine.close();
        *self.inner.layers_mut() = Layers::default();
    }

    fn size_bytes(&self) -> Result<u64, StorageError> {
        Ok(self.inner.engine.size_bytes()? + self.writing().log.size_bytes())
    }

    fn free_bytes(&self) -> Result<u64, StorageError> {
        self.inner.engine.free_bytes()
    }

    fn data_path(&self) -> Option<&Path> {
        self.inner.engine.data_path()
    }
}

/// The engine's records under those that it lacks, in key order.
struct Merged<'a> {
    above: std::iter::Peekable<std::collections::btree_map::IntoIter<Bytes, Option<Bytes>>>,
    below: std::iter::Peekable<Scan<'a>>,
}

impl Iterator for Merged<'_> {
    type Item = Result<(Stored, Stored), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((key, _)) = self.above.peek() else {
                return self.below.next();
            };
            match self.below.peek() {
                Some(Ok((low, _))) if low.as_ref() < key.as_ref() => return self.below.next(),
                Some(Err(_)) => return self.below.next(),
                Some(Ok((low, _))) if low.as_ref() == key.as_ref() => drop(self.below.next()),
                _ => {}
            }
            if let Some((key, Some(value))) = self.above.next() {
                return Some(Ok((Stored::from(key), Stored::from(value))));
            }
        }
    }
}
