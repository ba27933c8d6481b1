//! The engine: the only wiring. Starts the store, the workers and their actors inside a running actix System, and is
//! the handle through which the edge, or a larger application, talks to them.
//!
//! It decides where actors live and nothing else; it never holds an actor's address but Store's, and never exits the
//! process.

mod leases;
mod upkeep;

pub use leases::GrantedLease;

use super::app_watch::Watch;
use super::inspecting;
use super::limits::EngineLimits;
use super::outbox::OutboxReader;
use super::permits::Permits;
use super::protocol::{
    Apply, Close, Inspect, Inspection, OrderError, Permit, Register, Retire, ToWatcher,
};
use super::store::Store;
use super::stream::{Link, LinkState, LiveWatch, StreamState, WatchTerms};
use super::supervision::{LeaseSide, Shared, Supervision, Worker};
use super::watch_stream::WatchStream;
use crate::model::{
    KeyRange, Put, RangeAnswer, RangeQuery, Refusal, Revision, WatchId, WatchSpec, Write,
    WriteAnswer, WriteLimits,
};
use crate::storage::{
    Identity, ReadError, ReadView, Readers, StorageError, StorageLimits, Writer, open,
};
use crate::watch::{Entry, WatcherId};
use actix::prelude::*;
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// What clients are told when the engine stops.
const SHUTTING_DOWN: &str = "the server is shutting down";

/// Where the engine's actors live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Store on an arbiter of its own, and so many workers on arbiters of their own.
    Threads {
        /// How many; at least 1.
        workers: usize,
    },
    /// Everything on the arbiter that starts the engine, reads included, so that one clock governs all.
    Current,
}

/// What an engine is started with.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The store's directory; created when it does not exist.
    pub data_dir: PathBuf,
    /// Where the actors live.
    pub placement: Placement,
    /// The bounds of the actors.
    pub limits: EngineLimits,
    /// The bounds of the store.
    pub storage: StorageLimits,
}

impl EngineConfig {
    /// An engine with all defaults, on one worker thread.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            placement: Placement::Threads { workers: 1 },
            limits: EngineLimits::default(),
            storage: StorageLimits::default(),
        }
    }
}

/// Why the engine did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The request itself is at fault, and nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too much is in flight; trying again helps.
    #[error("too many requests in flight")]
    TooManyRequests,
    /// The engine has stopped or is stopping.
    #[error("stopped")]
    Stopped,
    /// The store has failed and takes no more writes.
    #[error("{0}")]
    Failed(String),
    /// A defragmentation was given up: the data lies where it lay. If the store has failed over it, the next write says so.
    #[error("not defragmented: {0}")]
    NotDefragmented(String),
}

impl From<OrderError> for EngineError {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Refused(refusal) => Self::Refused(refusal),
            OrderError::Failed(why) => Self::Failed(why),
            OrderError::Closed => Self::Stopped,
        }
    }
}

impl From<ReadError> for EngineError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Refused(refusal) => Self::Refused(refusal),
            ReadError::Busy => Self::TooManyRequests,
            ReadError::Failed(error) => Self::Failed(error.to_string()),
        }
    }
}

/// A running engine. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Addr<Store>,
    workers: Vec<Arc<Worker>>,
    supervision: Addr<Supervision>,
    arbiters: Vec<Arbiter>,
    /// Worker arbiters by worker number; empty when everything is on the current one.
    worker_handles: Vec<ArbiterHandle>,
    permits: Permits,
    next_worker: AtomicUsize,
    /// The store, for reading.
    view: ReadView,
    shared: Arc<Shared>,
}

impl Engine {
    /// Opens the store and starts the actors. Has to be called inside a running actix System.
    pub async fn start(config: EngineConfig) -> Result<Self, StorageError> {
        let EngineConfig {
            data_dir,
            placement,
            limits,
            storage,
        } = config;
        let opened = match placement {
            Placement::Current => open(&data_dir, storage, Readers::Inline),
            Placement::Threads { .. } => {
                let opening = move || open(&data_dir, storage, Readers::Threads(2));
                tokio::task::spawn_blocking(opening)
                    .await
                    .unwrap_or(Err(StorageError::Closed))
            }
        };
        let (writer, view) = opened?;
        Ok(Self::start_on((writer, view), placement, limits).await)
    }

    /// Starts the actors on a store that is open.
    pub(crate) async fn start_on(
        (writer, view): (Writer, ReadView),
        placement: Placement,
        limits: EngineLimits,
    ) -> Self {
        let history = Arc::new(view.clone());
        let shared = Shared::new(history, view.revision(), limits, Arc::default());
        let shared = Arc::new(shared);
        let workers_count = match placement {
            Placement::Threads { workers } => workers.max(1),
            Placement::Current => 0,
        };
        let worker_arbiters: Vec<_> = (0..workers_count).map(|_| Arbiter::new()).collect();
        let worker_handles: Vec<_> = worker_arbiters.iter().map(Arbiter::handle).collect();
        let (workers, supervision) = Supervision::start_workers(&shared, &worker_handles).await;
        let own_arbiter = || matches!(placement, Placement::Threads { .. }).then(Arbiter::new);
        let (store_arbiter, lease_arbiter) = (own_arbiter(), own_arbiter());
        let store = start_store(writer, &shared, &workers, store_arbiter.as_ref());
        let permits = Permits::new(
            limits.store.requests_in_flight_max,
            limits.store.request_bytes_in_flight_max,
        );
        let lease_handle = lease_arbiter.as_ref().map(Arbiter::handle);
        let orders = store.downgrade().recipient();
        let granted = (orders, view.clone());
        let lease_side = LeaseSide::new(lease_handle, granted, permits.clone());
        shared.lease_side.get_or_init(|| lease_side).start(&shared);
        let arbiters = worker_arbiters.into_iter();
        let inner = Inner {
            store,
            workers,
            supervision,
            arbiters: arbiters.chain(store_arbiter).chain(lease_arbiter).collect(),
            worker_handles,
            permits,
            next_worker: AtomicUsize::new(0),
            view,
            shared,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Puts one key; returns its revision when it is durable.
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Revision, EngineError> {
        let put = Put {
            key: key.into(),
            value: value.into(),
            ..Put::default()
        };
        Ok(self.write(Write::Put(put)).await?.revision)
    }

    /// Carries out a write; returns when it is durable.
    pub async fn write(&self, write: Write) -> Result<WriteAnswer, EngineError> {
        self.write_for(write, None).await
    }

    /// Carries out a write that a connection of this worker asks for.
    pub(crate) async fn write_for(
        &self,
        write: Write,
        worker: Option<usize>,
    ) -> Result<WriteAnswer, EngineError> {
        let txn_ops_max = self.inner.shared.limits.store.txn_ops_max;
        write.check(WriteLimits { txn_ops_max })?;
        let bytes = write.bytes();
        let apply = |permit| Apply {
            write,
            permit,
            worker,
        };
        self.order(bytes, apply).await
    }

    /// Reads the latest of a range.
    pub async fn get(&self, range: KeyRange) -> Result<RangeAnswer, EngineError> {
        Ok(self.range(RangeQuery::latest(range)).await?.1)
    }

    /// Reads a range; the revision is the store's when it was read.
    pub async fn range(&self, query: RangeQuery) -> Result<(Revision, RangeAnswer), EngineError> {
        query.check()?;
        let (tx, rx) = oneshot::channel();
        self.inner
            .view
            .range(query, Box::new(move |answer| drop(tx.send(answer))));
        rx.await
            .map_err(|_| self.gone())?
            .map_err(EngineError::from)
    }

    /// Gives Store an order of so many bytes once there is room for it (B1), and waits for its answer.
    async fn order<M, T>(
        &self,
        bytes: usize,
        order: impl FnOnce(Permit) -> M,
    ) -> Result<T, EngineError>
    where
        M: Message<Result = Result<T, OrderError>> + Send + 'static,
        T: Send + 'static,
        Store: Handler<M>,
    {
        let permit = self.inner.permits.take(bytes).await;
        let permit = permit.ok_or(EngineError::Stopped)?;
        let answered = self.inner.store.send(order(permit)).await;
        let answer = answered.map_err(|_| self.gone())?;
        answer.map_err(EngineError::from)
    }

    /// Lets one of your own actors watch: its `Recipient` is given every event of the spec's range, in order, once,
    /// from the start revision on. When its mailbox is full the engine waits without holding anyone up, and goes on
    /// when it has handled a message. Hand over the recipient itself, not a clone: each clone brings a slot of its own.
    pub async fn watch(
        &self,
        spec: WatchSpec,
        recipient: Recipient<ToWatcher>,
    ) -> Result<Watch, EngineError> {
        let inner = &self.inner;
        let number = inner.next_worker.fetch_add(1, Ordering::Relaxed) % inner.workers.len().max(1);
        let worker = inner.workers.get(number).ok_or(EngineError::Stopped)?;
        if inner.shared.watches.load(Ordering::Acquire) >= inner.shared.limits.watches_max {
            return Err(EngineError::TooManyRequests);
        }
        let stream = StreamState::new(worker, None);
        let id = WatcherId(worker.next_number());
        let terms = WatchTerms {
            start: spec.start.unwrap_or_default(),
            progress_notify: spec.progress_notify,
            prev_kv: spec.class.prev_kv,
            fragment: false,
        };
        let shared = LinkState::new((id, WatchId(0)), Arc::clone(&stream), terms);
        let live = LiveWatch {
            shared: Arc::downgrade(&shared),
            address: recipient.downgrade(),
        };
        stream.watches().insert(WatchId(0), live);
        // It can be ended from now on, by whoever ends all of them, and by a caller who does not wait for the answer.
        worker.adopt(&stream);
        let mut watch = Watch::new(stream);
        let link = Link::new(recipient, shared);
        let entry = Entry {
            id,
            class: spec.class,
            next_revision: Revision::default(),
            link,
        };
        let side = worker.watch_side().ok_or(EngineError::Stopped)?;
        let registration = Register::one(entry, spec.start);
        let registered = side.group.send(registration).await;
        watch.revision = registered.map_err(|_| self.gone())?;
        Ok(watch)
    }

    /// The last durable revision.
    pub fn revision(&self) -> Revision {
        self.inner.shared.ring.head()
    }

    /// The store, for reading.
    pub(crate) fn view(&self) -> &ReadView {
        &self.inner.view
    }

    /// The numbers that the store was created with.
    pub fn identity(&self) -> Identity {
        self.inner.view.identity()
    }

    /// What every actor holds: the store first, then each worker's three.
    pub async fn inspect(&self) -> Vec<Inspection> {
        let mut states = Vec::new();
        states.extend(self.inner.store.send(Inspect).await);
        states.extend(inspecting::watch_sides(&self.inner.workers).await);
        states
    }

    /// Returns when the engine has failed, with the reason; never while it is well.
    pub async fn failed(&self) -> String {
        let mut failure = self.inner.shared.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(failure) => failure
                .as_ref()
                .map_or_else(String::new, |failure| failure.0.clone()),
            Err(_) => "the engine is gone".to_owned(),
        }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.inner.workers.len()
    }

    /// A worker's table, for tests of the actors.
    #[cfg(test)]
    pub(crate) fn worker_for_test(&self, worker: usize) -> Option<Arc<Worker>> {
        self.inner.workers.get(worker).map(Arc::clone)
    }

    /// Store's address, for tests of the actors.
    #[cfg(test)]
    pub(crate) fn store_for_test(&self) -> &Addr<Store> {
        &self.inner.store
    }

    /// Room for requests, for tests of the actors.
    #[cfg(test)]
    pub(crate) fn requests_free_for_test(&self) -> usize {
        self.inner.permits.requests_left_for_test()
    }

    /// The arbiter of a worker; `None` when everything is on the arbiter that started the engine.
    pub fn worker_arbiter(&self, worker: usize) -> Option<ArbiterHandle> {
        self.inner.worker_handles.get(worker).cloned()
    }

    /// Opens a watch stream of a worker; has to be called on that worker's thread.
    pub fn open_stream(&self, worker: usize) -> Result<(WatchStream, OutboxReader), EngineError> {
        let worker = self.inner.workers.get(worker).ok_or(EngineError::Stopped)?;
        Ok(WatchStream::open(worker))
    }

    /// Ends all streams with Unavailable, so that clients resume elsewhere or later.
    pub fn end_streams(&self, reason: &'static str) {
        for worker in &self.inner.workers {
            worker.end_streams(reason);
        }
    }

    /// Finishes the group in flight, ends all streams, closes the store and stops the actors. An engine whose last handle
    /// is dropped stops too, but nobody learns how.
    pub async fn stop(&self) -> Result<(), EngineError> {
        self.end_streams(SHUTTING_DOWN);
        let closed = self.inner.store.send(Close).await;
        self.inner.stop_actors();
        closed.map_err(|_| self.gone())?.map_err(EngineError::from)
    }

    fn gone(&self) -> EngineError {
        match &*self.inner.shared.failure.borrow() {
            Some(failure) => EngineError::Failed(failure.0.clone()),
            None => EngineError::Stopped,
        }
    }
}

impl Inner {
    fn stop_actors(&self) {
        for worker in &self.workers {
            worker.stop_watch_side();
            // Those that were opened meanwhile.
            worker.end_streams(SHUTTING_DOWN);
        }
        self.supervision.do_send(Retire);
        if let Some(side) = self.shared.lease_side.get() {
            side.stop();
        }
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop_actors();
    }
}

fn start_store(
    writer: Writer,
    shared: &Arc<Shared>,
    workers: &[Arc<Worker>],
    arbiter: Option<&Arbiter>,
) -> Addr<Store> {
    let (shared, workers) = (Arc::clone(shared), workers.to_vec());
    let store = move || Store::new(writer, shared, workers);
    match arbiter {
        Some(arbiter) => Store::start_in_arbiter(&arbiter.handle(), |_| store()),
        None => store().start(),
    }
}
