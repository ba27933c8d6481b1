//! What the actors of one worker share about a stream and about each of its watchers: counters and flags, no more.
//!
//! Everything here is counted by whoever sends and un-counted by a guard that travels in the message, so that no number
//! depends on a handler remembering it. Nothing here decides anything.

use super::outbox::{Outbox, StreamEnd, StreamLife};
use super::protocol::{Forget, Quiet, Roomy, ToWatcher};
use super::supervision::Worker;
use super::watch_table::WatchTable;
use crate::fault::{self, Fault};
use crate::model::{Revision, WatchId};
use crate::watch::WatcherId;
use actix::WeakRecipient;
use actix::prelude::Recipient;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;

/// The number of a stream within its worker; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u64);

/// What a worker's actors share about one stream (P1).
pub(crate) struct StreamState {
    /// Who.
    pub(crate) id: StreamId,
    /// Messages that were sent to watchers of this stream and are not yet in its outbox.
    in_flight: AtomicUsize,
    /// The bytes of those messages.
    in_flight_bytes: AtomicUsize,
    /// Entries of this stream that are not in the roster: what they still need, nobody may claim as sent.
    not_in_roster: AtomicUsize,
    /// The highest revision that a client of this stream may have heard of; progress never goes below it (P2).
    told: AtomicI64,
    /// A progress request waits for its answer.
    pub(crate) progress_pending: AtomicBool,
    /// The group starts no new turn for this stream, so that pending progress finds its zero (P2).
    pub(crate) held: AtomicBool,
    /// A delivery was refused because of `in_flight_bytes`.
    starved: AtomicBool,
    /// The stream has ended.
    closed: AtomicBool,
    /// Wakes watchers that wait for room, to see whether they are cancelled.
    pub(crate) cancellation: Notify,
    /// Where responses go; `None` when the watcher is an actor of the application's own.
    pub(crate) outbox: Option<Arc<Outbox>>,
    /// The live watches, by id.
    watches: Mutex<WatchTable<LiveWatch>>,
    /// The worker that the stream lives on.
    pub(crate) worker: Arc<Worker>,
}

/// A watch as its stream knows it.
#[derive(Clone)]
pub(crate) struct LiveWatch {
    /// What it shares with the actors; weak, because it holds the stream that holds this.
    pub(crate) shared: Weak<LinkState>,
    /// The way to cancel it; weak, because only the entry keeps a watcher alive.
    pub(crate) address: WeakRecipient<ToWatcher>,
}

impl fmt::Debug for LiveWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveWatch").finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamState")
            .field("id", &self.id)
            .field("in_flight", &self.in_flight)
            .field("in_flight_bytes", &self.in_flight_bytes)
            .field("not_in_roster", &self.not_in_roster)
            .finish_non_exhaustive()
    }
}

impl StreamState {
    /// A stream without watches on `worker`.
    pub(crate) fn new(worker: &Arc<Worker>, outbox: Option<Arc<Outbox>>) -> Arc<Self> {
        let id = StreamId(worker.next_number());
        let worker = Arc::clone(worker);
        Arc::new(Self {
            id,
            in_flight: AtomicUsize::new(0),
            in_flight_bytes: AtomicUsize::new(0),
            not_in_roster: AtomicUsize::new(0),
            told: AtomicI64::new(0),
            progress_pending: AtomicBool::new(false),
            held: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            cancellation: Notify::new(),
            outbox,
            watches: Mutex::new(WatchTable::default()),
            worker,
        })
    }

    /// Messages on their way to this stream's watchers.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Entries outside the roster.
    pub(crate) fn not_in_roster(&self) -> usize {
        self.not_in_roster.load(Ordering::Acquire)
    }

    /// The client may have heard of this revision.
    pub(crate) fn note_told(&self, revision: Revision) {
        // Mostly another watcher of the stream was told before, and a look costs less than a change.
        if self.told() < revision {
            self.told.fetch_max(revision.0, Ordering::AcqRel);
        }
    }

    /// The highest revision that the client may have heard of.
    pub(crate) fn told(&self) -> Revision {
        Revision(self.told.load(Ordering::Acquire))
    }

    /// True when nothing is on its way and every watcher is in the roster: all up to the group's revision is in the
    /// outbox.
    pub(crate) fn is_quiet(&self) -> bool {
        (self.in_flight() == 0 || fault::active(Fault::ProgressOvertakesEvents))
            && (self.not_in_roster() == 0 || fault::active(Fault::ProgressDespiteVictims))
    }

    /// True when no watch starts behind this revision: one that does may not be told of less (P2).
    pub(crate) fn has_started(&self, revision: Revision) -> bool {
        let is_behind = |live: &LiveWatch| {
            let shared = live.shared.upgrade();
            shared.is_none_or(|shared| shared.terms.start <= revision)
        };
        fault::active(Fault::ProgressBelowStart) || self.watches().values().all(is_behind)
    }

    /// True when the stream has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends the stream: its response body is told how, and whoever holds an entry of it drops it.
    pub(crate) fn end(&self, end: StreamEnd) {
        self.closed.store(true, Ordering::Release);
        if let Some(outbox) = &self.outbox {
            outbox.end(end);
        } else {
            // An application's actor has no stream to see ending, so it is told.
            let watches = self.watches();
            let watchers = watches.values().filter_map(|live| live.address.upgrade());
            let watchers: Vec<_> = watchers.collect();
            drop(watches);
            for watcher in watchers {
                watcher.do_send(ToWatcher::Cancelled);
            }
        }
        self.cancellation.notify_waiters();
    }

    /// The watcher itself has left: nobody has to be told but the group.
    pub(crate) fn leave(self: &Arc<Self>) {
        self.closed.store(true, Ordering::Release);
        self.worker.tell_group(Forget::Stream(Arc::clone(self)));
    }

    /// The live watches.
    pub(crate) fn watches(&self) -> MutexGuard<'_, WatchTable<LiveWatch>> {
        // The table is consistent between any two statements that can panic.
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the group when the stream has fallen quiet and progress waits for it.
    fn tell_if_quiet(self: &Arc<Self>) {
        if self.is_quiet() && self.progress_pending.load(Ordering::Acquire) {
            self.worker.tell_group(Quiet {
                stream: Arc::clone(self),
            });
        }
    }
}

/// Who wants to hear that a watcher has room again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WantedBy {
    /// Nobody.
    Nobody = 0,
    /// `VictimRetry`, which holds its batch (V1).
    VictimRetry = 1,
    /// `Sync`, which has one delivery outstanding (L3).
    Sync = 2,
}

/// What a client asked of its watch beside the events themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WatchTerms {
    /// The first revision that is wanted, 0 for "from now on"; progress below it is none of the watch's.
    pub(crate) start: Revision,
    /// Tell of progress while nothing happens.
    pub(crate) progress_notify: bool,
    /// Events carry the previous value.
    pub(crate) prev_kv: bool,
    /// Responses may be cut into fragments.
    pub(crate) fragment: bool,
}

/// What a watcher shares with whoever holds its entry.
pub(crate) struct LinkState {
    /// Who, within the worker.
    pub(crate) watcher: WatcherId,
    /// Who, on its stream.
    pub(crate) watch_id: WatchId,
    /// Its stream.
    pub(crate) stream: Arc<StreamState>,
    /// Messages on their way to this watcher.
    in_flight: AtomicU32,
    /// Who wants to be told when one of them is handled.
    wanted_by: AtomicU8,
    /// The client has cancelled the watch: what is on its way is dropped.
    pub(crate) cancelled: AtomicBool,
    /// Something was sent since the last progress tick, so that the next one passes it over.
    pub(crate) sent_since_tick: AtomicBool,
    /// What its client asked for.
    pub(crate) terms: WatchTerms,
    /// The entry is in the roster. Only its [`Link`] looks here; beside it there is no room in a row of the roster (B3).
    in_roster: AtomicBool,
}

impl fmt::Debug for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkState")
            .field("watcher", &self.watcher)
            .field("in_flight", &self.in_flight)
            .field("wanted_by", &self.wanted_by)
            .finish_non_exhaustive()
    }
}

impl LinkState {
    /// A watcher of `stream` that was sent nothing yet.
    pub(crate) fn new(
        (watcher, watch_id): (WatcherId, WatchId),
        stream: Arc<StreamState>,
        terms: WatchTerms,
    ) -> Arc<Self> {
        let engine = &stream.worker.shared;
        engine.watches.fetch_add(1, Ordering::AcqRel);
        if terms.prev_kv {
            // Before it registers: a commit applied from now on carries previous values (W7).
            engine.prev_wanted.fetch_add(1, Ordering::SeqCst);
        }
        Arc::new(Self {
            watcher,
            watch_id,
            stream,
            in_flight: AtomicU32::new(0),
            wanted_by: AtomicU8::new(WantedBy::Nobody as u8),
            cancelled: AtomicBool::new(false),
            // The first tick after the creation would come too early.
            sent_since_tick: AtomicBool::new(true),
            terms,
            in_roster: AtomicBool::new(false),
        })
    }

    /// Messages on their way to this watcher.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Asks to be told when the watcher has handled a message.
    pub(crate) fn want(&self, by: WantedBy) {
        self.wanted_by.store(by as u8, Ordering::SeqCst);
    }

    /// True while somebody waits to be told.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted_by.load(Ordering::SeqCst) != WantedBy::Nobody as u8
    }

    /// Takes the wish back, if nobody has answered it yet.
    pub(crate) fn unwant(&self) {
        self.wanted_by
            .store(WantedBy::Nobody as u8, Ordering::SeqCst);
    }

    /// Counts a message of so many bytes; `None` when the stream has too many bytes on their way already (B2).
    pub(crate) fn depart(self: &Arc<Self>, bytes: usize) -> Option<InFlight> {
        let stream = &self.stream;
        let bytes_max = stream.worker.limits().in_flight_bytes_max;
        let before = stream.in_flight_bytes.fetch_add(bytes, Ordering::AcqRel);
        let full = before > 0 && before + bytes > bytes_max;
        if full && !fault::active(Fault::BytesInFlightUncounted) {
            stream.starved.store(true, Ordering::SeqCst);
            stream.in_flight_bytes.fetch_sub(bytes, Ordering::AcqRel);
            return None;
        }
        Some(self.counted(bytes))
    }

    /// Counts a message that carries no events: there are few of them, and they do not wait for bytes.
    pub(crate) fn depart_without_bytes(self: &Arc<Self>) -> InFlight {
        self.counted(0)
    }

    fn counted(self: &Arc<Self>, bytes: usize) -> InFlight {
        self.stream.in_flight.fetch_add(1, Ordering::AcqRel);
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight {
            link: Some(Arc::clone(self)),
            bytes,
        }
    }

    /// Takes a message off the counts; returns the bytes that are still on their way.
    fn uncount(&self, bytes: usize) -> usize {
        // In one order with the wish that is looked at next, and whoever places it looks here after that: one of the
        // two sees the other.
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        let before = self
            .stream
            .in_flight_bytes
            .fetch_sub(bytes, Ordering::AcqRel);
        self.stream.in_flight.fetch_sub(1, Ordering::AcqRel);
        before - bytes
    }

    fn arrived(&self, bytes: usize) {
        let stream = &self.stream;
        let left = self.uncount(bytes);
        // Here and below a look comes before the change: there is nearly never a wish, and a change costs ten looks.
        if self.is_wanted() {
            self.tell_of_room();
        }
        let low = stream.worker.limits().in_flight_bytes_max / 2;
        if left <= low
            && stream.starved.load(Ordering::SeqCst)
            && stream.starved.swap(false, Ordering::SeqCst)
        {
            stream.worker.tell_victim_retry(Roomy::Stream(stream.id));
        }
        stream.tell_if_quiet();
    }

    /// Answers the wish, once.
    fn tell_of_room(&self) {
        let wanted_by = self
            .wanted_by
            .swap(WantedBy::Nobody as u8, Ordering::SeqCst);
        let worker = &self.stream.worker;
        if wanted_by == WantedBy::VictimRetry as u8 && !fault::active(Fault::RoomNotTold) {
            worker.tell_victim_retry(Roomy::Watcher(self.watcher));
        } else if wanted_by == WantedBy::Sync as u8 {
            worker.tell_sync(Roomy::Watcher(self.watcher));
        }
    }
}

impl Drop for LinkState {
    fn drop(&mut self) {
        let engine = &self.stream.worker.shared;
        engine.watches.fetch_sub(1, Ordering::AcqRel);
        if self.terms.prev_kv {
            engine.prev_wanted.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// One message on its way to a watcher; when it is dropped the message has arrived, or will never arrive. In an
/// application's own actor it is dropped with the message it came in, so keep that message while you are busy with it.
pub struct InFlight {
    link: Option<Arc<LinkState>>,
    bytes: usize,
}

impl InFlight {
    /// Counts nothing: for messages that a test makes by itself.
    #[cfg(test)]
    pub(crate) fn of_nothing() -> Self {
        Self {
            link: None,
            bytes: 0,
        }
    }

    /// The message was refused: it is un-counted, and nobody is told of room, because none has appeared.
    pub(crate) fn never_left(mut self) {
        if let Some(link) = self.link.take() {
            link.uncount(self.bytes);
        }
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.arrived(self.bytes);
        }
    }
}

/// The way to a watcher, as its entry holds it. Not `Clone`: a second handle would bring a mailbox slot of its own, and
/// two holders could overtake each other.
pub(crate) struct Link {
    /// The only strong handle.
    pub(crate) recipient: Recipient<ToWatcher>,
    /// What is shared with the watcher.
    pub(crate) shared: Arc<LinkState>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// A link outside any roster.
    pub(crate) fn new(recipient: Recipient<ToWatcher>, shared: Arc<LinkState>) -> Self {
        shared.stream.not_in_roster.fetch_add(1, Ordering::AcqRel);
        Self { recipient, shared }
    }

    /// The entry enters the roster.
    pub(crate) fn join_roster(&mut self) {
        if !self.shared.in_roster.swap(true, Ordering::AcqRel) {
            self.shared
                .stream
                .not_in_roster
                .fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The entry leaves the roster.
    pub(crate) fn leave_roster(&mut self) {
        if self.shared.in_roster.swap(false, Ordering::AcqRel) {
            self.shared
                .stream
                .not_in_roster
                .fetch_add(1, Ordering::AcqRel);
        }
    }

    /// True when nobody will ever read what is sent through this link.
    pub(crate) fn is_gone(&self) -> bool {
        self.shared.stream.is_closed()
            || self.shared.cancelled.load(Ordering::Acquire)
            || !self.recipient.connected()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.shared.in_roster.load(Ordering::Acquire) {
            let stream = &self.shared.stream;
            stream.not_in_roster.fetch_sub(1, Ordering::AcqRel);
            stream.tell_if_quiet();
        }
    }
}

impl StreamLife for Arc<StreamState> {
    fn ended(&self) {
        self.end(StreamEnd::Canceled);
        self.worker.tell_group(Forget::Stream(Arc::clone(self)));
    }
}
