//! The threads that wait for the disk so that nobody else has to.
//!
//! A read that finds the queue full is answered at once; none is ever dropped without an answer.

use super::core::Core;
use super::{ReadError, Readers, StorageError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A read, called exactly once: with the store, or with the reason why it cannot run.
pub(crate) type Job = Box<dyn FnOnce(Result<&Core, ReadError>) + Send>;

/// Where reads run.
#[derive(Debug)]
pub(crate) struct ReaderPool {
    core: Arc<Core>,
    /// Nothing when reads run inline, or once the store is closed.
    queue: Mutex<Option<SyncSender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    inline: bool,
}

impl ReaderPool {
    /// Starts the threads.
    pub(crate) fn start(core: Arc<Core>, readers: Readers) -> Result<Self, StorageError> {
        let mut pool = Self {
            queue: Mutex::new(None),
            threads: Mutex::new(Vec::new()),
            inline: readers == Readers::Inline,
            core,
        };
        let Readers::Threads(threads) = readers else {
            return Ok(pool);
        };
        let (sender, receiver) = sync_channel(pool.core.limits.reader_queue_max);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut started = Vec::new();
        for number in 0..threads.max(1) {
            let (core, receiver) = (Arc::clone(&pool.core), Arc::clone(&receiver));
            let thread = thread::Builder::new()
                .name(format!("vigil-reader-{number}"))
                .spawn(move || run(&core, &receiver))
                .map_err(|error| StorageError::disk("start a reader thread", error))?;
            started.push(thread);
        }
        pool.queue = Mutex::new(Some(sender));
        pool.threads = Mutex::new(started);
        Ok(pool)
    }

    /// Runs a read of all of the store on a thread of its own, where there may be threads: it takes long, and others wait.
    pub(crate) fn run_long(&self, job: impl FnOnce(&Arc<Core>) + Send + 'static) {
        if self.inline {
            return job(&self.core);
        }
        let core = Arc::clone(&self.core);
        let spawned = thread::Builder::new()
            .name("vigil-dump".to_owned())
            .spawn(move || job(&core));
        if let Err(error) = spawned {
            log::error!("no thread to read the store with: {error}");
        }
    }

    /// Runs a read that may wait for the disk.
    pub(crate) fn submit(&self, job: Job) {
        if self.inline {
            return run_inline(&self.core, job);
        }
        let queue = self
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(queue) = queue else {
            return job(Err(ReadError::Failed(StorageError::Closed)));
        };
        match queue.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => job(Err(ReadError::Busy)),
            Err(TrySendError::Disconnected(job)) => {
                job(Err(ReadError::Failed(StorageError::Closed)));
            }
        }
    }

    /// Answers what waits, then ends the threads.
    pub(crate) fn stop(&self) {
        drop(
            self.queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A reader that closes the store cannot wait for itself.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                log::error!("a reader thread panicked");
            }
        }
    }
}

#[cfg(not(test))]
fn run_inline(core: &Core, job: Job) {
    job(Ok(core));
}

/// A simulation decides when.
#[cfg(test)]
fn run_inline(core: &Arc<Core>, job: Job) {
    super::testing::run_or_hold(core, job);
}

fn run(core: &Core, receiver: &Mutex<Receiver<Job>>) {
    loop {
        let next = receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(job) = next else { return };
        // A callback that panics must not take the other reads with it.
        if catch_unwind(AssertUnwindSafe(|| job(Ok(core)))).is_err() {
            log::error!("a read panicked");
        }
    }
}
