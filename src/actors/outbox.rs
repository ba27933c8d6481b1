//! The bounded queue between a stream's watchers and its response body.
//!
//! Events wait for room in bytes, first come first served (B4); control items ignore that bound (P3) and are counted
//! instead. An outbox never drops, splits or reorders what it accepted, and knows no encoding.

use crate::fault::{self, Fault};
use crate::model::{Revision, WatchId};
use crate::watch::Batch;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// What an item costs beside its keys and values, in bytes: frame and response headers, event fields.
const ITEM_OVERHEAD_BYTES: usize = 128;
/// Which part of its bytes an item takes whose batch the item before it has too.
const SHARED_PART: usize = 8;

/// Why a watch was not created. The stream stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchRejection {
    /// The start revision is negative.
    NegativeStart,
    /// The range can hold no key.
    EmptyRange,
    /// The id is in use on this stream.
    DuplicateId,
    /// The id is negative: -1 stands for the whole stream.
    InvalidId,
    /// The stream, or the server, has as many watches as it may have.
    TooManyWatches {
        /// The limit that was reached.
        max: usize,
    },
    /// The cluster behind a relay refuses it, in these words.
    Refused(Arc<str>),
}

/// One response of a stream, before it is encoded.
#[derive(Debug)]
pub enum StreamItem {
    /// A watch was created.
    Created {
        /// Its id.
        watch_id: WatchId,
        /// The revision it was registered at: everything after it will be sent.
        revision: Revision,
    },
    /// A watch was not created.
    Rejected {
        /// The store's revision.
        revision: Revision,
        /// Why.
        reason: WatchRejection,
    },
    /// Events of one watch.
    Events {
        /// Whose.
        watch_id: WatchId,
        /// The events; the header's revision is that of the last one.
        batch: Arc<Batch>,
        /// The response may be cut into fragments.
        fragment: bool,
        /// The room it takes in the outbox, given back when the item is dropped.
        room: Room,
    },
    /// Everything up to this revision was sent.
    Progress {
        /// Whose, or [`WatchId::STREAM`] for all watches of the stream.
        watch_id: WatchId,
        /// Up to here.
        revision: Revision,
    },
    /// A watch has ended because the client asked for it.
    Canceled {
        /// Its id, free from now on.
        watch_id: WatchId,
        /// The store's revision.
        revision: Revision,
    },
    /// A watch has ended because what it wants next is compacted.
    Compacted {
        /// Its id, free from now on.
        watch_id: WatchId,
        /// The oldest revision that can still be asked for.
        compact_revision: Revision,
    },
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The server cannot go on with it; the client resumes by revision.
    Unavailable(&'static str),
    /// The client has gone.
    Canceled,
}

/// What the response body finds when it asks for more.
#[derive(Debug)]
pub enum Next {
    /// A response to encode.
    Item(StreamItem),
    /// The stream has ended; what was still queued is not sent.
    End(StreamEnd),
}

/// Room taken in an outbox, in bytes; given back on drop.
#[derive(Debug)]
pub struct Room {
    permit: OwnedSemaphorePermit,
}

impl Room {
    /// Both rooms, which are of one outbox, are given back together.
    pub fn merge(&mut self, other: Self) {
        self.permit.merge(other.permit);
    }
}

/// The outbox accepts nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// The bounded queue of one stream.
pub struct Outbox {
    queue: Mutex<Queue>,
    room: Arc<Semaphore>,
    /// The batch that took room last, by its number; 0 before the first.
    newest_batch: AtomicU64,
    control_room: Notify,
    limits: OutboxLimits,
}

/// The bounds of one stream's outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes of events that may wait.
    pub outbox_bytes_max: usize,
    /// Control items that may wait before the edge stops reading requests; etcd's control queue has 16.
    pub control_items_max: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            outbox_bytes_max: 1 << 20,
            control_items_max: 16,
        }
    }
}

#[derive(Default)]
struct Queue {
    items: VecDeque<StreamItem>,
    control_items: usize,
    end: Option<StreamEnd>,
    body: Option<Waker>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.queue();
        f.debug_struct("Outbox")
            .field("items", &queue.items.len())
            .field("room_bytes", &self.room.available_permits())
            .field("end", &queue.end)
            .finish_non_exhaustive()
    }
}

impl Outbox {
    /// An empty outbox.
    pub fn new(limits: OutboxLimits) -> Self {
        let room_bytes = limits.outbox_bytes_max.clamp(1, u32::MAX as usize);
        Self {
            queue: Mutex::new(Queue::default()),
            room: Arc::new(Semaphore::new(room_bytes)),
            newest_batch: AtomicU64::new(0),
            control_room: Notify::new(),
            limits,
        }
    }

    /// What a batch takes in the queue, in bytes. A batch larger than the whole outbox takes all of it.
    ///
    /// When many watchers of a stream are told of one batch, its memory is there once, so behind another item of it an item
    /// takes an eighth of its bytes; not less, because a control response waits for all that is queued before it.
    fn cost(&self, batch: &Batch) -> u32 {
        if fault::active(Fault::OutboxBytesUncounted) {
            return 0;
        }
        let bytes = batch.bytes() + ITEM_OVERHEAD_BYTES * batch.events().len();
        let shared = self.newest_batch.load(Ordering::Relaxed) == batch.number();
        let bytes = if shared { bytes / SHARED_PART } else { bytes };
        let wanted = bytes + ITEM_OVERHEAD_BYTES;
        let all = self.limits.outbox_bytes_max.clamp(1, u32::MAX as usize);
        u32::try_from(wanted.min(all)).unwrap_or(u32::MAX)
    }

    /// Takes room for a batch if there is some and nobody waits for it.
    pub(crate) fn try_room(&self, batch: &Batch) -> Result<Option<Room>, Closed> {
        match Arc::clone(&self.room).try_acquire_many_owned(self.cost(batch)) {
            Ok(permit) => Ok(Some(self.taken(permit, batch))),
            Err(tokio::sync::TryAcquireError::NoPermits) => Ok(None),
            Err(tokio::sync::TryAcquireError::Closed) => Err(Closed),
        }
    }

    /// Waits for room for a batch, behind everyone who asked before.
    pub(crate) async fn room(self: Arc<Self>, batch: Arc<Batch>) -> Result<Room, Closed> {
        let cost = self.cost(&batch);
        let permit = Arc::clone(&self.room).acquire_many_owned(cost).await;
        permit
            .map(|permit| self.taken(permit, &batch))
            .map_err(|_| Closed)
    }

    /// Only what has its room counts as there for those that come next.
    fn taken(&self, permit: OwnedSemaphorePermit, batch: &Batch) -> Room {
        self.newest_batch.store(batch.number(), Ordering::Relaxed);
        Room { permit }
    }

    /// Queues a response. Events bring their room with them; control items need none.
    pub(crate) fn push(&self, item: StreamItem) {
        let mut queue = self.queue();
        if queue.end.is_some() {
            return;
        }
        if !matches!(item, StreamItem::Events { .. }) {
            queue.control_items += 1;
        }
        if fault::active(Fault::OutboxReorders) && !queue.items.is_empty() {
            queue.items.push_front(item);
        } else {
            queue.items.push_back(item);
        }
        let body = queue.body.take();
        drop(queue);
        if let Some(body) = body {
            body.wake();
        }
    }

    /// Ends the stream: nothing more is accepted, what waits is dropped, and waiting watchers are told.
    pub(crate) fn end(&self, end: StreamEnd) {
        let mut queue = self.queue();
        if queue.end.is_some() {
            return;
        }
        queue.end = Some(end);
        let dropped = std::mem::take(&mut queue.items);
        queue.control_items = 0;
        let body = queue.body.take();
        drop(queue);
        drop(dropped);
        self.room.close();
        self.control_room.notify_waiters();
        if let Some(body) = body {
            body.wake();
        }
    }

    /// Waits until few enough control items wait (or the stream has ended), so that a client that only sends and
    /// never reads cannot fill the memory. Answers how many more may be added, which is at least one.
    pub async fn control_room(&self) -> usize {
        loop {
            let notified = self.control_room.notified();
            {
                let queue = self.queue();
                let room = queue.control_items < self.limits.control_items_max
                    || fault::active(Fault::ControlItemsUnbounded);
                if room || queue.end.is_some() {
                    let room = self.limits.control_items_max;
                    return room.saturating_sub(queue.control_items).max(1);
                }
            }
            notified.await;
        }
    }

    /// True when as many control items wait as may: nobody reads, and what can be said later need not be said now.
    pub(crate) fn is_crowded(&self) -> bool {
        self.queue().control_items >= self.limits.control_items_max
    }

    /// True when the stream has ended: whatever is said now, nobody hears.
    pub(crate) fn is_ended(&self) -> bool {
        self.queue().end.is_some()
    }

    /// The next response, for the one body that reads this outbox.
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut queue = self.queue();
        if let Some(end) = queue.end {
            return Poll::Ready(Next::End(end));
        }
        let Some(item) = queue.items.pop_front() else {
            queue.body = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if !matches!(item, StreamItem::Events { .. }) {
            queue.control_items -= 1;
            if queue.control_items + 1 == self.limits.control_items_max {
                self.control_room.notify_waiters();
            }
        }
        Poll::Ready(Next::Item(item))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // The queue is consistent between any two statements that can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading end of an outbox. Whoever drops it ends the stream and its watchers.
#[derive(Debug)]
pub struct OutboxReader {
    outbox: Arc<Outbox>,
    stream: Option<Box<dyn StreamLife>>,
}

/// What has to be told when the reading end of a stream goes away.
pub(crate) trait StreamLife: fmt::Debug + Send + Sync {
    /// The body is gone: the client has left, or the response is complete.
    fn ended(&self);
}

impl OutboxReader {
    /// The reading end of `outbox`; `life` is told when it is dropped.
    pub(crate) fn new(outbox: Arc<Outbox>, life: Box<dyn StreamLife>) -> Self {
        Self {
            outbox,
            stream: Some(life),
        }
    }

    /// A reading end that belongs to no engine, for tests of the edge.
    #[cfg(test)]
    pub(crate) fn detached(outbox: Arc<Outbox>) -> Self {
        Self {
            outbox,
            stream: None,
        }
    }

    /// The next response to encode, or how the stream ended.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        self.outbox.poll_next(cx)
    }
}

impl Drop for OutboxReader {
    fn drop(&mut self) {
        self.outbox.end(StreamEnd::Canceled);
        if let Some(stream) = self.stream.take() {
            stream.ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, EventKind, KeyValue};

    fn batch(value_bytes: usize) -> Batch {
        let kv = KeyValue {
            value: vec![b'v'; value_bytes].into(),
            ..KeyValue::default()
        };
        Batch::new(vec![Arc::new(Event::new(EventKind::Put, kv))], false).unwrap()
    }

    /// How many batches find room, one after the other.
    fn taken<'a>(outbox: &Arc<Outbox>, batches: impl Iterator<Item = &'a Batch>) -> usize {
        let rooms = batches.map_while(|it| outbox.try_room(it).unwrap());
        rooms.collect::<Vec<_>>().len()
    }

    #[test]
    fn b2_the_bytes_of_a_batch_are_counted_once_while_its_items_follow_each_other() {
        let outbox = Arc::new(Outbox::new(OutboxLimits {
            outbox_bytes_max: 64 << 10,
            ..OutboxLimits::default()
        }));
        let (one, other) = (batch(8 << 10), batch(8 << 10));
        let in_turns = [&one, &other].into_iter().cycle();
        assert_eq!(taken(&outbox, in_turns), 7);
        // The first takes 8 KiB and all others 1 KiB, and each its own overhead.
        let shared = taken(&outbox, std::iter::repeat(&one));
        assert!((40..=57).contains(&shared), "{shared}");
    }

    #[test]
    fn b2_a_batch_that_found_no_room_is_not_there_for_those_behind_it() {
        let limits = OutboxLimits {
            outbox_bytes_max: 12 << 10,
            ..OutboxLimits::default()
        };
        let outbox = Arc::new(Outbox::new(limits));
        let (one, other) = (batch(8 << 10), batch(8 << 10));
        let room = outbox.try_room(&one).unwrap();
        assert!(room.is_some());
        for _ in 0..2 {
            assert!(outbox.try_room(&other).unwrap().is_none());
        }
    }
}
