//! Every message between actors, with who sends it to whom, what is true when it is sent, and what bounds the number in
//! flight.
//!
//! Facts have the reply `()` and are told; orders come from the edge alone and have a typed reply. A message that only
//! an actor sends to itself does not belong here.

use super::store::StoreFailure;
use super::stream::{InFlight, Link, StreamId, StreamState};
use crate::model::{Alarm, LeaseId, Refusal, Revision, Write, WriteAnswer};
use crate::storage::Defragmented;
use crate::watch::{Batch, Entry, Owed, WatcherId};
use actix::dev::{MessageResponse, OneshotSender};
use actix::prelude::*;
use serde::Serialize;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Why an order to Store was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OrderError {
    /// The request is at fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store has failed.
    #[error("the store has failed: {0}")]
    Failed(String),
    /// The store is closed, because the engine stops.
    #[error("the store is closed")]
    Closed,
}

/// Edge -> Store: carry out this write and answer when it is durable. Lease -> Store: the same, told: that a lease has ended
/// comes back as [`LeasesChanged`].
///
/// Bounded by the permit that it carries, in count and bytes (B1): a dropped caller cannot free it while the message
/// still waits.
#[derive(Debug, Message)]
#[rtype(result = "Result<WriteAnswer, OrderError>")]
pub(crate) struct Apply {
    pub(crate) write: Write,
    pub(crate) permit: Permit,
    /// The worker whose connection asks; it is given all answers of a group at once.
    pub(crate) worker: Option<usize>,
}

/// Room for one request on its way to Store.
#[derive(Debug)]
pub(crate) struct Permit {
    pub(crate) _request: OwnedSemaphorePermit,
    pub(crate) _bytes: OwnedSemaphorePermit,
}

/// Edge -> Store: forget history below a revision. Answered when the mark is durable, or with `physical` when the
/// records are gone. Bounded by the edge's permits.
#[derive(Debug, Message)]
#[rtype(result = "Result<Revision, OrderError>")]
pub(crate) struct Compact {
    pub(crate) revision: Revision,
    pub(crate) physical: bool,
    pub(crate) permit: Permit,
}

/// Edge -> Store: raise an alarm or take it back. Answered when that is durable, with whether it is, or was, raised.
/// Bounded by the edge's permits.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, OrderError>")]
pub(crate) struct SetAlarm {
    pub(crate) alarm: Alarm,
    pub(crate) raise: bool,
    pub(crate) permit: Permit,
}

/// Edge -> Store: give back what the data does not use of the disk. Answered when that has begun; `done` is told how it
/// ended, unless the store comes to its end before. Bounded by the edge's permits.
#[derive(Message)]
#[rtype(result = "Result<(), OrderError>")]
pub(crate) struct Defragment {
    pub(crate) done: Defragmented,
    pub(crate) permit: Permit,
}

impl fmt::Debug for Defragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Defragment")
    }
}

/// Edge -> Store: finish the group in flight, close the store and stop. Sent once.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), OrderError>")]
pub(crate) struct Close;

/// Store -> `WatcherGroup`: the ring has grown. Sent when the commits are durable, in the index and in the ring (W1); at
/// most one in flight per worker.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Committed;

/// Store -> `WatcherGroup`: history has been compacted. Watchers that want progress are told how far they have come, so that
/// a client that has seen nothing for a while can still resume where it stands.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct HistoryCompacted;

/// Edge -> `WatcherGroup`: here are new watchers, in the order in which they were asked for. Answered with the registration
/// revision, after each one's `created` was put in the outbox, or in the mailbox of an application's own actor. One in flight
/// per stream.
#[derive(Debug, Message)]
#[rtype(result = "Revision")]
pub(crate) struct Register {
    pub(crate) watchers: Vec<NewWatcher>,
}

impl Register {
    /// A watcher that was asked for alone.
    pub(crate) fn one(entry: Entry<Link>, start: Option<Revision>) -> Self {
        Self {
            watchers: vec![NewWatcher { entry, start }],
        }
    }
}

/// A watcher that is to be registered.
#[derive(Debug)]
pub(crate) struct NewWatcher {
    pub(crate) entry: Entry<Link>,
    /// The first revision wanted; `None` is everything after the registration.
    pub(crate) start: Option<Revision>,
}

/// Edge -> `WatcherGroup`: tell this stream how far it has come. The answer travels through the stream's outbox. One in
/// flight per stream.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct RequestProgress {
    pub(crate) stream: Arc<StreamState>,
}

/// Edge -> `WatcherGroup`: hold this part of a stream at `through` or further, and say where once everything up to there is in
/// its outbox; nothing behind that is delivered until [`LetGo`]. At most one in flight per part.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Hold {
    pub(crate) stream: Arc<StreamState>,
    pub(crate) through: Revision,
    pub(crate) reply: oneshot::Sender<Revision>,
}

/// Edge -> `WatcherGroup`: this part is to be held no longer. One for each answer that was tried.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct LetGo {
    pub(crate) stream: Arc<StreamState>,
}

/// `WatcherGroup` -> Sync: these watchers want what the group has handled already. Carries ownership: never more entries
/// in flight than there are watchers.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Lagging {
    pub(crate) entries: Vec<Entry<Link>>,
}

/// Sync -> `WatcherGroup`: these watchers have been served up to about the group's revision (L2). Carries ownership.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct CaughtUp {
    pub(crate) entries: Vec<Entry<Link>>,
}

/// `WatcherGroup` or Sync -> `VictimRetry`: this watcher's mailbox is full, and here is what it was to be given. Carries
/// ownership.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Stalled {
    pub(crate) victims: Vec<(Entry<Link>, Owed)>,
}

/// `VictimRetry` -> `WatcherGroup`: these watchers took what they had to be given. Carries ownership.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Drained {
    pub(crate) entries: Vec<Entry<Link>>,
}

/// A watcher's message guard -> `VictimRetry` or Sync: there is room again (V1, L3). At most one in flight per entry
/// that the receiver holds, and one per stream.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) enum Roomy {
    /// This watcher has handled a message.
    Watcher(WatcherId),
    /// This stream has few enough bytes on their way.
    Stream(StreamId),
}

/// Watcher or stream -> `WatcherGroup`: it is gone (P5). Whoever else holds its entry sees that for itself. One per
/// watcher and one per stream.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) enum Forget {
    /// This watcher has stopped.
    Watcher(WatcherId),
    /// This stream has ended.
    Stream(Arc<StreamState>),
}

/// A watcher's message guard -> `WatcherGroup`: nothing of this stream is on its way, and progress waits for that (P2).
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Quiet {
    pub(crate) stream: Arc<StreamState>,
}

/// What happened to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseChange {
    /// It was granted.
    Granted {
        id: LeaseId,
        /// How long it lives without being kept alive, in seconds.
        ttl_seconds: i64,
    },
    /// It has ended, and its keys with it.
    Revoked(LeaseId),
    /// It was to end, and Store takes no changes now.
    Kept(LeaseId),
}

/// Store -> Lease: these leases came and went, in that order. Sent when that is durable and before anybody is answered; at
/// most one per group.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct LeasesChanged {
    pub(crate) changes: Vec<LeaseChange>,
}

/// Edge -> Lease: keep these leases alive. Answered in the same order. One in flight per stream.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Renewed>")]
pub(crate) struct KeepAlive {
    pub(crate) ids: Vec<LeaseId>,
}

/// What a keep-alive has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// The lease lives so many seconds from now.
    For(i64),
    /// Its time is over, and its end is on its way.
    Expired,
    /// There is no such lease.
    Unknown,
}

/// Edge -> Lease: answer when this lease is gone. One in flight per stream.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct LeaseGone {
    pub(crate) id: LeaseId,
}

/// Edge -> Lease: how long does this lease live? Nothing when its time is over. One in flight per call.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Option<LeaseTime>")]
pub(crate) struct LeaseTimeLeft {
    pub(crate) id: LeaseId,
}

/// How long a lease lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTime {
    /// From now on, in whole seconds.
    pub left_seconds: i64,
    /// From each keep-alive on, in seconds.
    pub ttl_seconds: i64,
}

/// Edge -> Lease: which leases are there? Answered with those that end first in front. One in flight per call.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<LeaseId>")]
pub(crate) struct LeasesByDeadline;

/// Events on their way to a watcher.
#[derive(Debug)]
pub struct Delivery {
    /// Whole revisions, in order.
    pub batch: Arc<Batch>,
    /// Counts the delivery as on its way until it is dropped.
    pub in_flight: InFlight,
}

/// `WatcherGroup`, Sync or `VictimRetry` -> the watcher, which is Vigil's own or an actor of yours: everything that can
/// happen to a watch, in order. Bounded by the watcher's mailbox.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum ToWatcher {
    /// The watch exists: everything after this revision (or from the start revision on) will come. The first message.
    Created {
        /// The registration revision.
        revision: Revision,
        /// Counts the message as on its way until it is dropped.
        in_flight: InFlight,
    },
    /// Events.
    Events(Delivery),
    /// Every event up to this revision was sent.
    Progress {
        /// Up to here.
        revision: Revision,
        /// Counts the message as on its way until it is dropped.
        in_flight: InFlight,
    },
    /// The watch has ended: what it wants next is compacted. The last message.
    Compacted {
        /// The oldest revision that can still be asked for.
        compact_revision: Revision,
        /// Counts the message as on its way until it is dropped.
        in_flight: InFlight,
    },
    /// The watch has ended because it was cancelled. The last message.
    Cancelled,
}

/// Supervision or the engine -> `WatcherGroup`, Sync, `VictimRetry`, Lease or Supervision: your time is over, stop. One per
/// actor.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Retire;

/// Supervision -> any actor, or a test: what do you hold? Answered with a serialisable state.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Inspection")]
pub(crate) struct Inspect;

/// What an actor holds, for tests, dashboard and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Inspection {
    /// The store.
    Store {
        /// The last durable revision.
        revision: Revision,
        /// Writes that wait for the next group.
        queued: usize,
        /// A compaction is under way.
        compacting: bool,
    },
    /// The synced watchers of a worker.
    WatcherGroup {
        /// The last revision it has handled.
        revision: Revision,
        /// Watchers that are level with it.
        synced: usize,
        /// Watchers held back so that pending progress can be answered.
        held: usize,
    },
    /// The watchers of a worker that are behind.
    Sync {
        /// How many.
        unsynced: usize,
        /// Stretches of history read from the disk so far.
        stretches_read: u64,
        /// Narrow look-ups by revision so far (L4).
        picks_read: u64,
    },
    /// The watchers of a worker whose mailbox is full.
    VictimRetry {
        /// How many.
        victims: usize,
        /// Bytes of the batches kept for them.
        pinned_bytes: usize,
    },
}

/// Which of the engine's actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Store,
    WatcherGroup,
    Sync,
    VictimRetry,
    Lease,
}

/// An actor's tripwire -> Supervision: it is dead and nobody asked it to. At most one per actor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Died {
    pub(crate) role: Role,
    /// The worker it belonged to, and which incarnation of its watch side.
    pub(crate) worker: usize,
    pub(crate) epoch: u64,
    pub(crate) reason: StoreFailure,
}

/// A reply that its actor gives later than the end of the handler.
pub(crate) struct Later<T>(Rc<RefCell<LaterState<T>>>);

struct LaterState<T> {
    tx: Option<OneshotSender<T>>,
    reply: Option<T>,
}

impl<T> fmt::Debug for Later<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}

impl<T> Later<T> {
    /// The two ends of one reply: one to return from the handler, one to keep.
    pub(crate) fn new() -> (Self, Self) {
        let state = Rc::new(RefCell::new(LaterState {
            tx: None,
            reply: None,
        }));
        (Self(Rc::clone(&state)), Self(state))
    }

    /// Gives the reply in another place: what has to be sent there, if somebody waits for it.
    pub(crate) fn reply_elsewhere(self, reply: T) -> Option<(OneshotSender<T>, T)> {
        let mut state = self.0.borrow_mut();
        let Some(tx) = state.tx.take() else {
            state.reply = Some(reply);
            return None;
        };
        Some((tx, reply))
    }

    /// Gives the reply. Nobody may be waiting for it any more, and that is no fault.
    pub(crate) fn reply(self, reply: T) {
        let mut state = self.0.borrow_mut();
        match state.tx.take() {
            Some(tx) => drop(tx.send(reply)),
            None => state.reply = Some(reply),
        }
    }
}

impl<A, M> MessageResponse<A, M> for Later<M::Result>
where
    A: Actor,
    M: Message,
{
    fn handle(self, _ctx: &mut A::Context, tx: Option<OneshotSender<M::Result>>) {
        let mut state = self.0.borrow_mut();
        match (state.reply.take(), tx) {
            (Some(reply), Some(tx)) => drop(tx.send(reply)),
            (_, tx) => state.tx = tx,
        }
    }
}

impl<A, M> MessageResponse<A, M> for Inspection
where
    A: Actor,
    M: Message<Result = Self>,
{
    fn handle(self, _ctx: &mut A::Context, tx: Option<OneshotSender<Self>>) {
        if let Some(tx) = tx {
            // Whoever asked may have gone.
            drop(tx.send(self));
        }
    }
}
