//! Whoever settles the generations of the commit log, and between two of them copies the engine, when it is asked to.
//!
//! A copy that cannot be finished harms nobody: the engine in use stays what it is until another one is proven. A generation
//! waits for it no longer than it takes to copy twice its length, without which a copy need not come to its end.

use super::settling::{settle, settle_copy};
use super::{Inner, Layer};
use crate::fault::{self, Fault};
use crate::storage::database::{Database, Defragment, pause};
use crate::storage::defragment::{Copying, Step};
use crate::storage::engines::Engines;
use crate::storage::{StorageError, StorageLimits};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

/// How long one wait for those is who still read from an engine that was replaced, in milliseconds.
const READERS_WAIT_MS: u64 = 1;
/// A generation, of which there is never more than one, and a wake-up.
const JOBS_MAX: usize = 2;
/// How many times the length of a generation is copied after each that is settled.
const OWED_PER_GENERATION: usize = 2;
const ENDED: &str = "its thread has ended";

/// What a settler is to do.
#[derive(Debug)]
pub(super) enum Job {
    /// A generation whose changes are to go into the engine.
    Settle(u64, Arc<Layer>),
    /// Somebody has asked for a defragmentation.
    LookAgain,
}

/// Where the settling is done.
#[derive(Debug)]
pub(super) enum Settler {
    /// On the thread that writes, so that a run of it can be repeated exactly.
    Inline(Work),
    /// On a thread of its own.
    Thread(SyncSender<Job>, JoinHandle<()>),
}

impl Settler {
    /// Starts a thread.
    pub(super) fn start(work: Work) -> Result<Self, StorageError> {
        let (jobs, receiver) = sync_channel(JOBS_MAX);
        let thread = thread::Builder::new()
            .name("vigil-settle".to_owned())
            .spawn(move || {
                let inner = Arc::clone(&work.inner);
                // Whoever waits for a generation has to hear that nobody settles it any more.
                if catch_unwind(AssertUnwindSafe(|| work.go_on(&receiver))).is_err() {
                    inner.end(Err(StorageError::disk("settle the commit log", ENDED)));
                }
            })
            .map_err(|error| StorageError::disk("start the thread of the commit log", error))?;
        Ok(Self::Thread(jobs, thread))
    }

    /// Gives it a job; answers why it cannot be done.
    pub(super) fn give(&mut self, job: Job) -> Result<(), &'static str> {
        match self {
            Self::Inline(work) => {
                work.take(job);
                Ok(())
            }
            Self::Thread(jobs, _) => jobs.send(job).map_err(|_| ENDED),
        }
    }

    /// Has it look what was asked for. Whoever has a job looks when that is done.
    pub(super) fn wake(&mut self) -> Result<(), &'static str> {
        match self {
            Self::Thread(jobs, _) => match jobs.try_send(Job::LookAgain) {
                Err(TrySendError::Disconnected(_)) => Err(ENDED),
                _ => Ok(()),
            },
            Self::Inline(_) => Ok(()),
        }
    }

    /// Does a part of the work, if there is no thread for it; true if there is more for whoever calls this.
    pub(super) fn pass(&mut self) -> bool {
        match self {
            Self::Inline(work) => work.turn(),
            Self::Thread(..) => false,
        }
    }

    /// Ends it, once it has done what it was given.
    pub(super) fn stop(self) {
        match self {
            Self::Inline(mut work) => work.stop(),
            Self::Thread(jobs, thread) => {
                drop(jobs);
                // Whoever is called back there may let go of the last of the store.
                let is_own = thread.thread().id() == thread::current().id();
                if !is_own && thread.join().is_err() {
                    log::error!("the thread of the commit log panicked");
                }
            }
        }
    }
}

/// An engine that was replaced, until nobody reads from it any more.
type Replaced = Arc<dyn Database>;

/// What whoever settles works on.
#[derive(Debug)]
pub(super) struct Work {
    inner: Arc<Inner>,
    engines: Arc<dyn Engines>,
    slice_bytes_max: usize,
    log_bytes_max: usize,
    copying: Option<Copying>,
    /// How much has to be copied before the next generation is settled, in bytes: else whoever writes as fast as that would
    /// always be ahead.
    owed_bytes: usize,
    replaced: Option<Replaced>,
    /// Who waits for the copy that is made.
    orders: Vec<Defragment>,
}

impl Work {
    /// Nothing to do yet.
    pub(super) fn new(
        inner: Arc<Inner>,
        engines: Arc<dyn Engines>,
        limits: &StorageLimits,
    ) -> Self {
        Self {
            inner,
            engines,
            slice_bytes_max: limits.defragment_slice_bytes_max,
            log_bytes_max: usize::try_from(limits.log_bytes_max).unwrap_or(usize::MAX),
            copying: None,
            owed_bytes: 0,
            replaced: None,
            orders: Vec::new(),
        }
    }

    fn go_on(mut self, jobs: &Receiver<Job>) {
        loop {
            let job = if self.turn() {
                match jobs.try_recv() {
                    Err(TryRecvError::Empty) => continue,
                    job => job.ok(),
                }
            } else {
                jobs.recv().ok()
            };
            match job {
                Some(job) => self.take(job),
                None => return self.stop(),
            }
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Settle(generation, layer) => self.settle(generation, &layer),
            Job::LookAgain => {}
        }
    }

    /// Settles a generation. A panic of the engine is an error like any other: whoever waits has to hear of it.
    fn settle(&mut self, generation: u64, layer: &Layer) {
        if fault::active(Fault::SettlingUnseen) {
            self.inner.layers_mut().settling = Arc::default();
        }
        let engine = self.inner.engine();
        let settled = unless_panic(|| settle(engine.as_ref(), generation, layer));
        let is_settled = settled.is_ok();
        self.inner.end(settled);
        let Some(copying) = &self.copying else {
            return;
        };
        if is_settled && !fault::active(Fault::CopyMissesGeneration) {
            let copied = unless_panic(|| settle_copy(copying.target().as_ref(), generation, layer));
            self.owed_bytes = self.log_bytes_max.saturating_mul(OWED_PER_GENERATION);
            if let Err(error) = copied {
                self.give_up(&error);
            }
        }
    }

    /// Does one bounded part of a defragmentation; true if there is more to do.
    fn turn(&mut self) -> bool {
        if self.replaced.is_some() {
            return self.remove_replaced();
        }
        if self.copying.is_none() {
            self.orders = std::mem::take(&mut *self.inner.orders());
            if self.orders.is_empty() {
                return false;
            }
        }
        loop {
            match unless_panic(|| self.copy()) {
                Ok(Step::More(bytes)) => self.owed_bytes = self.owed_bytes.saturating_sub(bytes),
                Ok(Step::Proven) => {
                    self.replace();
                    return true;
                }
                Err(error) => {
                    self.give_up(&error);
                    return true;
                }
            }
            if self.owed_bytes == 0 {
                return true;
            }
        }
    }

    /// One slice.
    fn copy(&mut self) -> Result<Step, StorageError> {
        self.inner.check()?;
        let engine = self.inner.engine();
        let needed = self.orders.iter().map(|order| order.free_bytes_min).max();
        let (needed, free) = (needed.unwrap_or_default(), engine.free_bytes()?);
        if free < needed {
            let reason = format!(
                "{free} bytes are free on the disk, and {needed} have to stay so beside the copy"
            );
            return Err(StorageError::disk("defragment", reason));
        }
        if let Some(copying) = &mut self.copying {
            return copying.step(engine.as_ref());
        }
        let target = self.engines.make()?;
        self.copying = Some(Copying::new(target, self.slice_bytes_max));
        self.owed_bytes = 0;
        Ok(Step::More(0))
    }

    /// Has the copy take the engine's place.
    fn replace(&mut self) {
        let Some(copying) = self.copying.take() else {
            return;
        };
        match unless_panic(|| self.engines.choose_made()) {
            Ok(()) => {
                let copy = Arc::clone(copying.target());
                self.replaced = Some(self.inner.replace_engine(copy));
            }
            // Nobody knows which engine is opened next time: from here on neither may get ahead of the other.
            Err(error) => {
                log::error!("the store's engine was to be replaced: {error}");
                self.inner.fail(error.clone());
                copying.target().discard();
                self.answer(&Err(error));
            }
        }
    }

    /// Removes the engine that was replaced, if nobody reads from it any more.
    fn remove_replaced(&mut self) -> bool {
        let Some(replaced) = self.replaced.take() else {
            return false;
        };
        if Arc::strong_count(&replaced) > 1 {
            self.replaced = Some(replaced);
            pause(READERS_WAIT_MS);
            return true;
        }
        self.remove(replaced);
        self.answer(&Ok(()));
        true
    }

    fn remove(&self, replaced: Replaced) {
        replaced.discard();
        // With it goes the last handle of its file, and so the space that this takes.
        drop(replaced);
        self.engines.remove_others();
    }

    /// Goes on as if nobody had asked.
    fn give_up(&mut self, error: &StorageError) {
        if let Some(copying) = self.copying.take() {
            copying.target().discard();
        }
        // One that could not be made has left something as well.
        self.engines.remove_others();
        self.answer(&Err(error.clone()));
    }

    /// Answers everybody, those too who asked after it had begun.
    fn answer(&mut self, defragmented: &Result<(), StorageError>) {
        let late = std::mem::take(&mut *self.inner.orders());
        self.orders.extend(late);
        for order in self.orders.drain(..) {
            // Somebody else's code.
            let tell = || (order.done)(defragmented.clone());
            if catch_unwind(AssertUnwindSafe(tell)).is_err() {
                log::error!("whoever was told how a defragmentation ended panicked");
            }
        }
    }

    /// Nobody is left to do the rest.
    fn stop(&mut self) {
        if let Some(replaced) = self.replaced.take() {
            self.remove(replaced);
            self.answer(&Ok(()));
        }
        if self.copying.is_some() || !self.orders.is_empty() || !self.inner.orders().is_empty() {
            self.give_up(&StorageError::Closed);
        }
    }
}

fn unless_panic<T>(call: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        let (doing, reason) = ("use the engine", "it panicked");
        Err(StorageError::disk(doing, reason))
    })
}
