//! The engine behind a commit log: a batch is durable once it is in the log, and goes into the engine later, with many.
//!
//! Readers see a batch once it is durable: what the engine lacks lies in memory. It never lets the log begin
//! anew over changes that are not durable in the engine, and never goes on after an error of either (D4).

mod settler;
mod settling;

use self::settler::{Job, Settler, Work};
use self::settling::{check_settled, settle};
use super::codec::{KEY_SETTLED, decode_settled};
use super::commit_log::CommitLog;
use super::database::{Change, Database, Defragment, Scan, Stored};
use super::engines::{Engines, Opened};
use super::{Readers, StorageError, StorageLimits};
use crate::fault::{self, Fault};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

/// How many records a scan reads at a time, at first and at most.
const SCAN_RECORDS_MIN: usize = 4;
const SCAN_RECORDS_MAX: usize = 64;
const CLOSED: &str = "it is closed";

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

/// What the writer and whoever settles tell each other.
#[derive(Debug, Default)]
struct Progress {
    busy: bool,
    failed: Option<StorageError>,
}

#[derive(Debug)]
struct Inner {
    /// The engine in use.
    engine: RwLock<Arc<dyn Database>>,
    layers: RwLock<Layers>,
    progress: Mutex<Progress>,
    settled: Condvar,
    /// What the log's files take, in bytes.
    log_bytes: AtomicU64,
    /// The defragmentations that were asked for and have not begun.
    orders: Mutex<Vec<Defragment>>,
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
    engines: Arc<dyn Engines>,
    writing: Mutex<Writing>,
    /// Nothing once it is closed.
    settler: Mutex<Option<Settler>>,
    log_bytes_max: u64,
}

impl LoggedDatabase {
    /// Opens the log in a directory, or makes one, and brings the engine up to it.
    pub(crate) fn open(
        dir: &Path,
        (engines, engine): Opened,
        limits: &StorageLimits,
        readers: Readers,
    ) -> Result<Self, StorageError> {
        let log_bytes_max = limits.log_bytes_max;
        let log = Self::open_log(dir, engine.as_ref(), log_bytes_max)
            .map_err(|error| error.in_file(engine.data_path()))?;
        // Now that the log fits this one.
        engines.remove_others();
        let inner = Arc::new(Inner {
            engine: RwLock::new(engine),
            layers: RwLock::default(),
            progress: Mutex::default(),
            settled: Condvar::new(),
            log_bytes: AtomicU64::new(log.size_bytes()),
            orders: Mutex::default(),
        });
        let work = Work::new(Arc::clone(&inner), Arc::clone(&engines), limits);
        let settler = match readers {
            Readers::Inline => Settler::Inline(work),
            Readers::Threads(_) => Settler::start(work)?,
        };
        Ok(Self {
            inner,
            engines,
            writing: Mutex::new(Writing {
                log,
                staged: Vec::new(),
            }),
            settler: Mutex::new(Some(settler)),
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
            Job::Settle(log.generation(), Arc::clone(&layers.settling))
        };
        log.switch();
        self.inner.progress().busy = true;
        if let Err(reason) = self.give(job) {
            self.inner
                .end(Err(StorageError::disk("settle the commit log", reason)));
        }
        self.inner.check()
    }

    fn give(&self, job: Job) -> Result<(), &'static str> {
        self.settler()
            .as_mut()
            .map_or(Err(CLOSED), |settler| settler.give(job))
    }

    fn settler(&self) -> MutexGuard<'_, Option<Settler>> {
        self.settler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the settling, once what was given to it is done.
    fn join(&self) {
        let settler = self.settler().take();
        if let Some(settler) = settler {
            settler.stop();
        }
    }
}

/// Whoever lets go of a database without closing it finds its directory free afterwards.
impl Drop for LoggedDatabase {
    fn drop(&mut self) {
        self.join();
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

    fn orders(&self) -> MutexGuard<'_, Vec<Defragment>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine in use. Who keeps it keeps a replaced one from being removed.
    fn engine(&self) -> Arc<dyn Database> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&engine)
    }

    /// Puts another engine in its place, which has the same; answers the one before.
    fn replace_engine(&self, engine: Arc<dyn Database>) -> Arc<dyn Database> {
        let mut replaced = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *replaced, engine)
    }

    /// The end of all writing.
    fn fail(&self, error: StorageError) {
        self.progress().failed.get_or_insert(error);
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
        self.inner
            .log_bytes
            .store(writing.log.size_bytes(), Ordering::Relaxed);
        let durable = writing.staged.drain(..).map(entry);
        self.inner.layers_mut().open.extend(durable);
        if writing.log.bytes() >= self.log_bytes_max && !writing.log.is_empty() {
            // What was staged is durable, whatever becomes of the generation before: the next call is told of it.
            drop(self.switch(&mut writing.log));
        }
        self.pass();
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
        self.inner.engine().get(key)
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
        let below: Scan<'_> = Box::new(Below::new(&self.inner, from, until));
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
        self.inner.fail(StorageError::Closed);
        // The engine first: whoever reads meanwhile must not find it without what only the layers have.
        self.inner.engine().close();
        *self.inner.layers_mut() = Layers::default();
        self.engines.release();
    }

    fn size_bytes(&self) -> Result<u64, StorageError> {
        // Without the writer's lock: whoever asks would wait for its sync.
        let log_bytes = self.inner.log_bytes.load(Ordering::Relaxed);
        Ok(self.inner.engine().size_bytes()? + log_bytes)
    }

    fn free_bytes(&self) -> Result<u64, StorageError> {
        self.inner.engine().free_bytes()
    }

    fn defragment(&self, order: Defragment) {
        let settled = {
            let mut writing = self.writing();
            // What the log alone knows to be gone would be copied with the rest.
            if self.inner.orders().is_empty() && !writing.log.is_empty() {
                self.switch(&mut writing.log)
            } else {
                Ok(())
            }
        };
        if let Err(error) = settled {
            return (order.done)(Err(error));
        }
        self.inner.orders().push(order);
        let woken = self.settler().as_mut().map_or(Err(CLOSED), Settler::wake);
        if let Err(reason) = woken {
            let error = StorageError::disk("defragment", reason);
            let orders = std::mem::take(&mut *self.inner.orders());
            for order in orders {
                (order.done)(Err(error.clone()));
            }
        }
    }

    fn pass(&self) -> bool {
        self.settler().as_mut().is_some_and(Settler::pass)
    }

    fn data_path(&self) -> Option<PathBuf> {
        self.inner.engine().data_path()
    }
}

/// The records of whichever engine is in use, a few at a time: who reads slowly keeps none from being replaced.
struct Below<'a> {
    inner: &'a Inner,
    from: Vec<u8>,
    until: Vec<u8>,
    read: VecDeque<Result<(Stored, Stored), StorageError>>,
    /// How many are read next; nothing once the end was read.
    records: Option<usize>,
}

impl<'a> Below<'a> {
    fn new(inner: &'a Inner, from: &[u8], until: &[u8]) -> Self {
        Self {
            inner,
            from: from.to_vec(),
            until: until.to_vec(),
            read: VecDeque::new(),
            records: Some(SCAN_RECORDS_MIN),
        }
    }

    fn read_on(&mut self, records: usize) {
        let engine = self.inner.engine();
        self.read
            .extend(engine.scan(&self.from, &self.until).take(records));
        self.records = match self.read.back() {
            Some(Ok((last, _))) if self.read.len() == records => {
                // The least key behind it.
                self.from = [last.as_ref(), &[0]].concat();
                Some((2 * records).min(SCAN_RECORDS_MAX))
            }
            _ => None,
        };
    }
}

impl Iterator for Below<'_> {
    type Item = Result<(Stored, Stored), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read.is_empty()
            && let Some(records) = self.records
        {
            self.read_on(records);
        }
        self.read.pop_front()
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
