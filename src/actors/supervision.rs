//! Who dies, who is told, and who starts again: our own table, because actix's supervisor does not survive a panic.
//!
//! | dies | its streams | then |
//! |---|---|---|
//! | a Watcher | its stream ends with Unavailable | nothing else happens |
//! | `WatcherGroup`, Sync or `VictimRetry` | all streams of that worker end with Unavailable | the three start again, empty |
//! | Lease | go on | it starts again, and every lease has its whole time once more |
//! | Store | all streams end with Unavailable | the engine has failed, and says why; only `main.rs` ends the process |
//!
//! Clients resume by revision. Nothing here handles an event, and nothing here keeps an address of an actor but the
//! worker's table.

mod lease_side;

pub(crate) use lease_side::LeaseSide;

use super::history::History;
use super::limits::EngineLimits;
use super::outbox::StreamEnd;
use super::protocol::{Died, LeasesChanged, Retire, Role};
use super::store::StoreFailure;
use super::stream::{StreamId, StreamState};
use super::sync::Sync;
use super::victim_retry::VictimRetry;
use super::watcher_group::WatcherGroup;
use crate::fault::{self, Fault};
use crate::model::Revision;
use crate::watch::Ring;
use actix::dev::ToEnvelope;
use actix::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use tokio::sync::{oneshot, watch};

/// What clients are told of it.
pub(crate) const WATCH_SIDE_FAILED: &str = "the watch side has failed";

/// What all actors of an engine share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The recent commits.
    pub(crate) ring: Arc<Ring>,
    /// What the ring has no more of.
    pub(crate) history: Arc<dyn History>,
    /// Every bound.
    pub(crate) limits: EngineLimits,
    /// Watchers that want previous values; while there are any Store looks them up at commit (W7).
    pub(crate) prev_wanted: AtomicUsize,
    /// Live watches of all workers, and of all orders of commits that count them together.
    pub(crate) watches: Arc<AtomicUsize>,
    /// The end of the engine, once it has come; whoever waits for it subscribes.
    pub(crate) failure: watch::Sender<Option<StoreFailure>>,
    /// Who hears of deaths.
    pub(crate) supervision: OnceLock<Recipient<Died>>,
    /// Who knows when leases end.
    pub(crate) lease_side: OnceLock<LeaseSide>,
}

impl Shared {
    /// For actors that have not started: a ring that begins behind `head`.
    pub(crate) fn new(
        history: Arc<dyn History>,
        head: Revision,
        limits: EngineLimits,
        watches: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            ring: Arc::new(Ring::bounded(
                limits.ring_bytes_max,
                limits.ring_revisions_max,
                head,
            )),
            history,
            limits,
            prev_wanted: AtomicUsize::new(0),
            watches,
            failure: watch::Sender::new(None),
            supervision: OnceLock::new(),
            lease_side: OnceLock::new(),
        }
    }

    /// Tells Lease a fact. While there is none nobody needs it: the next one asks the store.
    pub(crate) fn tell_lease(&self, message: LeasesChanged) {
        let side = self.lease_side.get();
        if let Some(lease) = side.and_then(LeaseSide::address) {
            lease.do_send(message);
        }
    }
}

/// One worker: its table of actors, through which everyone finds them (P6), and its streams.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Its number.
    pub(crate) number: usize,
    /// Where its actors live; `None` is the arbiter of whoever started the engine.
    arbiter: Option<ArbiterHandle>,
    /// The three actors of its watch side; replaced as one.
    side: Mutex<Option<Arc<WatchSide>>>,
    /// Which incarnation of the watch side this is.
    epoch: AtomicU64,
    /// A `Committed` is on its way to the group.
    pub(crate) committed_in_flight: AtomicBool,
    /// The last revision the group has handled.
    group_revision: AtomicI64,
    /// The live streams.
    streams: Mutex<BTreeMap<StreamId, Weak<StreamState>>>,
    /// The last number given to a stream or a watcher.
    last_number: AtomicU64,
    /// What all workers share.
    pub(crate) shared: Arc<Shared>,
}

/// The addresses of a worker's watch side.
#[derive(Debug)]
pub(crate) struct WatchSide {
    pub(crate) group: Addr<WatcherGroup>,
    pub(crate) sync: Addr<Sync>,
    pub(crate) victim_retry: Addr<VictimRetry>,
}

impl Worker {
    /// A worker without actors.
    pub(crate) fn new(
        number: usize,
        arbiter: Option<ArbiterHandle>,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            arbiter,
            side: Mutex::new(None),
            epoch: AtomicU64::new(0),
            committed_in_flight: AtomicBool::new(false),
            group_revision: AtomicI64::new(shared.ring.head().0),
            streams: Mutex::new(BTreeMap::new()),
            last_number: AtomicU64::new(0),
            shared,
        })
    }

    /// From now on a commit tells the group again. The swap sees what Store did before it set the flag.
    pub(crate) fn clear_wake_up(&self) {
        if !fault::active(Fault::WakeUpNeverCleared) {
            self.committed_in_flight.swap(false, Ordering::SeqCst);
        }
    }

    /// Starts the watch side, empty, on the current arbiter, in place of the one before.
    pub(crate) fn start_watch_side(self: &Arc<Self>) {
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        // The new group begins at the ring's head, with a cleared flag (P6).
        self.committed_in_flight.store(false, Ordering::SeqCst);
        self.set_group_revision(self.shared.ring.head());
        let side = WatchSide {
            group: WatcherGroup::new(Arc::clone(self), epoch).start(),
            sync: Sync::new(Arc::clone(self), epoch).start(),
            victim_retry: VictimRetry::new(Arc::clone(self), epoch).start(),
        };
        let before = self.side().replace(Arc::new(side));
        retire_all(before);
    }

    /// The addresses, for orders from the edge; `None` while there is no watch side.
    pub(crate) fn watch_side(&self) -> Option<Arc<WatchSide>> {
        // The lock is not held while anything is sent: a refused message may tell something itself when it is dropped.
        self.side().clone()
    }

    /// Tells the group a fact. It may be gone, and then nobody needs it.
    pub(crate) fn tell_group<M>(&self, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        WatcherGroup: Handler<M>,
        Context<WatcherGroup>: ToEnvelope<WatcherGroup, M>,
    {
        if let Some(side) = self.watch_side() {
            side.group.do_send(message);
        }
    }

    /// Tells Sync a fact.
    pub(crate) fn tell_sync<M>(&self, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        Sync: Handler<M>,
        Context<Sync>: ToEnvelope<Sync, M>,
    {
        if let Some(side) = self.watch_side() {
            side.sync.do_send(message);
        }
    }

    /// Tells `VictimRetry` a fact.
    pub(crate) fn tell_victim_retry<M>(&self, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        VictimRetry: Handler<M>,
        Context<VictimRetry>: ToEnvelope<VictimRetry, M>,
    {
        if let Some(side) = self.watch_side() {
            side.victim_retry.do_send(message);
        }
    }

    /// Every bound.
    pub(crate) fn limits(&self) -> &EngineLimits {
        &self.shared.limits
    }

    /// The last durable revision.
    pub(crate) fn revision(&self) -> Revision {
        self.shared.ring.head()
    }

    /// The last revision that the group has handled.
    pub(crate) fn group_revision(&self) -> Revision {
        Revision(self.group_revision.load(Ordering::Acquire))
    }

    /// The group has handled everything up to here.
    pub(crate) fn set_group_revision(&self, revision: Revision) {
        self.group_revision.store(revision.0, Ordering::Release);
    }

    /// A number that this worker never gave before.
    pub(crate) fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Remembers a stream, so that it can be ended with the others.
    pub(crate) fn adopt(&self, stream: &Arc<StreamState>) {
        self.streams().insert(stream.id, Arc::downgrade(stream));
    }

    /// Forgets a stream that has ended.
    pub(crate) fn forget(&self, stream: StreamId) {
        self.streams().remove(&stream);
    }

    /// Ends all streams of this worker; their clients resume elsewhere or later.
    pub(crate) fn end_streams(&self, reason: &'static str) {
        let streams = std::mem::take(&mut *self.streams());
        for stream in streams.into_values().filter_map(|stream| stream.upgrade()) {
            stream.end(StreamEnd::Unavailable(reason));
        }
    }

    /// Runs something where this worker's actors live.
    pub(crate) fn run(self: &Arc<Self>, task: impl FnOnce(&Arc<Self>) + Send + 'static) {
        match &self.arbiter {
            Some(arbiter) => {
                let worker = Arc::clone(self);
                // An arbiter that has stopped has no actors left to care for.
                let _ = arbiter.spawn_fn(move || task(&worker));
            }
            None => task(self),
        }
    }

    fn side(&self) -> MutexGuard<'_, Option<Arc<WatchSide>>> {
        // A table of addresses is never half written.
        self.side.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<StreamId, Weak<StreamState>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the addresses away and stops the actors.
    pub(crate) fn stop_watch_side(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let side = self.side().take();
        retire_all(side);
    }

    /// Ends the time of a watch side; false when it has ended already, so that the deaths of two of its actors are one
    /// restart.
    pub(crate) fn retire(&self, epoch: u64) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let next = epoch.wrapping_add(1);
        let swapped = self.epoch.compare_exchange(epoch, next, success, failure);
        swapped.is_ok()
    }

    /// How many streams there are, for tests of the actors.
    #[cfg(test)]
    pub(crate) fn streams_for_test(&self) -> usize {
        self.streams().len()
    }

    /// The incarnation of the watch side, for tests of the actors.
    #[cfg(test)]
    pub(crate) fn epoch_for_test(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }
}

/// Those of the three that live still stop, and with them what they hold.
fn retire_all(side: Option<Arc<WatchSide>>) {
    if let Some(side) = side {
        side.group.do_send(Retire);
        side.sync.do_send(Retire);
        side.victim_retry.do_send(Retire);
    }
}

/// Reports the death of the actor that holds it, when a panic drops it.
#[derive(Debug)]
pub(crate) struct Tripwire {
    died: Option<Died>,
    supervision: Option<Recipient<Died>>,
}

impl Tripwire {
    /// Armed for an actor.
    pub(crate) fn new(role: Role, worker: usize, epoch: u64, shared: &Shared) -> Self {
        let reason = StoreFailure(format!("{role:?} has panicked"));
        Self {
            died: Some(Died {
                role,
                worker,
                epoch,
                reason,
            }),
            supervision: shared.supervision.get().cloned(),
        }
    }

    /// Reports now, for this reason.
    pub(crate) fn trip(&mut self, reason: StoreFailure) {
        if let (Some(died), Some(supervision)) = (self.died.take(), &self.supervision) {
            supervision.do_send(Died { reason, ..died });
        }
    }

    /// The actor ends because it was asked to.
    pub(crate) fn disarm(&mut self) {
        self.died = None;
    }
}

impl Drop for Tripwire {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let (Some(died), Some(supervision)) = (self.died.take(), &self.supervision)
        {
            supervision.do_send(died);
        }
    }
}

/// Carries out the table above.
#[derive(Debug)]
pub(crate) struct Supervision {
    /// All workers, by number.
    workers: Vec<Arc<Worker>>,
    /// Where the end of the engine is announced.
    shared: Arc<Shared>,
}

impl Supervision {
    /// Supervision of these workers.
    pub(crate) fn new(workers: Vec<Arc<Worker>>, shared: Arc<Shared>) -> Self {
        Self { workers, shared }
    }

    /// Starts the watch sides and supervision, and returns when all of them run.
    pub(crate) async fn start_workers(
        shared: &Arc<Shared>,
        arbiters: &[ArbiterHandle],
    ) -> (Vec<Arc<Worker>>, Addr<Self>) {
        let workers: Vec<_> = if arbiters.is_empty() {
            vec![Worker::new(0, None, Arc::clone(shared))]
        } else {
            let numbered = arbiters.iter().enumerate();
            numbered
                .map(|(number, arbiter)| {
                    Worker::new(number, Some(arbiter.clone()), Arc::clone(shared))
                })
                .collect()
        };
        let supervision = Self::new(workers.clone(), Arc::clone(shared)).start();
        // The cell was made empty a moment ago.
        let _ = shared.supervision.set(supervision.clone().recipient());
        for worker in &workers {
            let (tx, running) = oneshot::channel();
            worker.run(move |worker| {
                worker.start_watch_side();
                // Whoever started us waits.
                let _ = tx.send(());
            });
            let _ = running.await;
        }
        (workers, supervision)
    }
}

impl Actor for Supervision {
    type Context = Context<Self>;
}

impl Handler<Died> for Supervision {
    type Result = ();

    fn handle(&mut self, died: Died, ctx: &mut Self::Context) {
        let reason = &died.reason.0;
        if died.role == Role::Store {
            log::error!("the store is dead: {reason}");
            for worker in &self.workers {
                worker.end_streams("the store has failed");
            }
            self.shared.failure.send_replace(Some(died.reason));
            ctx.stop();
            return;
        }
        if died.role == Role::Lease {
            log::error!("{reason}; it starts again, and every lease has its whole time once more");
            if let Some(side) = self.shared.lease_side.get() {
                side.start(&self.shared);
            }
            return;
        }
        let Some(worker) = self.workers.get(died.worker) else {
            return;
        };
        if !worker.retire(died.epoch) {
            return;
        }
        log::error!(
            "worker {}: {reason}; its streams end and its watch side starts again",
            died.worker
        );
        if fault::active(Fault::DeadSideSilent) {
            return worker.run(Worker::start_watch_side);
        }
        worker.end_streams(WATCH_SIDE_FAILED);
        worker.run(|worker| {
            // Those that were opened meanwhile have nobody who answers them.
            worker.end_streams(WATCH_SIDE_FAILED);
            worker.start_watch_side();
        });
    }
}

impl Handler<Retire> for Supervision {
    type Result = ();

    fn handle(&mut self, _retire: Retire, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
