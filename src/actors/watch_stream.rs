//! The commanding end of a watch stream: creates, cancels and asks for progress, each behind the one before.
//!
//! It decides ids and refuses what cannot be watched; it never decides what a watcher is sent. Every outcome goes
//! through the stream's outbox, so that nothing overtakes anything.

use super::nursery::Nursery;
use super::outbox::{Outbox, OutboxReader, StreamEnd, StreamItem, WatchRejection};
use super::part::Part;
use super::protocol::{NewWatcher, Register, RequestProgress, ToWatcher};
use super::stream::{Link, LinkState, LiveWatch, StreamState, WatchTerms};
use super::supervision::{WATCH_SIDE_FAILED, Worker};
use super::watcher::Watcher;
use crate::fault::{self, Fault};
use crate::model::{EventFilters, KeyRange, Revision, WatchClass, WatchId};
use crate::watch::{Entry, WatcherId};
use actix::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A request for a new watch, as it came from the client.
#[derive(Clone, Debug)]
pub struct WatchCreate {
    /// The id that the client chose, or [`WatchId::AUTO`].
    pub watch_id: WatchId,
    /// The keys.
    pub range: KeyRange,
    /// The first revision wanted; 0 is "from now on".
    pub start_revision: i64,
    /// Which events are left out.
    pub filters: EventFilters,
    /// Events carry the previous value.
    pub prev_kv: bool,
    /// Large responses may be cut into fragments.
    pub fragment: bool,
    /// Tell of progress while nothing happens.
    pub progress_notify: bool,
}

impl WatchCreate {
    /// What can be refused without knowing the stream.
    pub(crate) fn check(&self) -> Result<(), WatchRejection> {
        if self.start_revision < 0 {
            return Err(WatchRejection::NegativeStart);
        }
        if self.range.is_empty() {
            return Err(WatchRejection::EmptyRange);
        }
        if self.watch_id.0 < 0 {
            return Err(WatchRejection::InvalidId);
        }
        Ok(())
    }

    /// The class of the watch, which takes the range over: a copy of a key, even one that shares its bytes, would stay
    /// with the watcher for life (B3).
    fn into_class(self) -> Arc<WatchClass> {
        Arc::new(WatchClass {
            range: self.range,
            filters: self.filters,
            prev_kv: self.prev_kv,
        })
    }

    fn terms(&self) -> WatchTerms {
        WatchTerms {
            start: self.start().unwrap_or_default(),
            progress_notify: self.progress_notify,
            prev_kv: self.prev_kv,
            fragment: self.fragment,
        }
    }

    fn start(&self) -> Option<Revision> {
        (self.start_revision > 0).then_some(Revision(self.start_revision))
    }
}

/// The commanding end of a watch stream.
#[derive(Debug)]
pub struct WatchStream {
    stream: Arc<StreamState>,
    outbox: Arc<Outbox>,
    /// Where its watchers live.
    nursery: Nursery<Watcher>,
    /// The id that the next watch gets when the client leaves the choice to us; etcd counts from 0 too.
    next_id: i64,
}

impl WatchStream {
    /// Opens a stream on a worker. Has to be called on the worker's own thread, where its watchers will live.
    pub(crate) fn open(worker: &Arc<Worker>) -> (Self, OutboxReader) {
        let outbox = Arc::new(Outbox::new(worker.limits().outbox));
        let this = Self::on(worker, &outbox);
        let life = Box::new(Arc::clone(&this.stream));
        let reader = OutboxReader::new(outbox, life);
        (this, reader)
    }

    /// A part of a client's stream whose outbox is there already. To be called where its watchers will live, too.
    pub(crate) fn part(worker: &Arc<Worker>, outbox: &Arc<Outbox>) -> Self {
        Self::on(worker, outbox)
    }

    fn on(worker: &Arc<Worker>, outbox: &Arc<Outbox>) -> Self {
        let stream = StreamState::new(worker, Some(Arc::clone(outbox)));
        worker.adopt(&stream);
        Self {
            stream,
            outbox: Arc::clone(outbox),
            nursery: Nursery::open(),
            next_id: 0,
        }
    }

    /// The stream as whoever answers for several of them sees it.
    pub(crate) fn as_part(&self) -> Part {
        Part::new(Arc::clone(&self.stream))
    }

    /// The client's stream goes on without this part, which has no watches any more.
    pub(crate) fn leave(&self) {
        self.stream.leave();
    }

    /// True when a watch has this id.
    pub(crate) fn has(&self, watch_id: WatchId) -> bool {
        self.stream.watches().contains(watch_id)
    }

    /// How many watches there are.
    pub(crate) fn watches_len(&self) -> usize {
        self.stream.watches().len()
    }

    /// The stream's outbox.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Where the stream's watchers live, for tests that add one.
    #[cfg(test)]
    pub(crate) fn nursery_for_test(&self) -> &Nursery<Watcher> {
        &self.nursery
    }

    /// What the actors share about the stream, for their tests.
    #[cfg(test)]
    pub(crate) fn state_for_test(&self) -> Arc<StreamState> {
        Arc::clone(&self.stream)
    }

    /// Creates watches; returns when their outcomes are in the outbox, in the same order.
    pub async fn create(&mut self, creates: impl IntoIterator<Item = WatchCreate>) {
        let mut watchers = Vec::new();
        for create in creates {
            match self.prepare(create) {
                Ok(watcher) => watchers.push(watcher),
                Err(reason) => {
                    // Those before it are told first.
                    self.register(std::mem::take(&mut watchers)).await;
                    let revision = self.stream.worker.revision();
                    self.outbox.push(StreamItem::Rejected { revision, reason });
                }
            }
        }
        self.register(watchers).await;
    }

    /// Starts the watcher; it is registered after that, and `created` is its first message (P3).
    fn prepare(&mut self, create: WatchCreate) -> Result<NewWatcher, WatchRejection> {
        create.check()?;
        let worker = &self.stream.worker;
        let limits = worker.limits();
        let mut watches = self.stream.watches();
        let watch_id = match create.watch_id {
            WatchId::AUTO => {
                while watches.contains(WatchId(self.next_id)) {
                    self.next_id += 1;
                }
                WatchId(self.next_id)
            }
            chosen if watches.contains(chosen) && !fault::active(Fault::WatchIdReused) => {
                return Err(WatchRejection::DuplicateId);
            }
            chosen => chosen,
        };
        if watches.len() >= limits.watches_per_stream_max {
            return Err(WatchRejection::TooManyWatches {
                max: limits.watches_per_stream_max,
            });
        }
        if worker.shared.watches.load(Ordering::Acquire) >= limits.watches_max {
            return Err(WatchRejection::TooManyWatches {
                max: limits.watches_max,
            });
        }
        if create.watch_id == WatchId::AUTO {
            self.next_id += 1;
        }
        let id = WatcherId(worker.next_number());
        let shared = LinkState::new((id, watch_id), Arc::clone(&self.stream), create.terms());
        let watcher = Watcher::new(Arc::clone(&shared), Arc::clone(&self.outbox));
        let address = self.nursery.start(watcher, limits.mailbox_messages_max);
        let recipient: Recipient<ToWatcher> = address.recipient();
        let address = recipient.downgrade();
        let start = create.start();
        let live = LiveWatch {
            shared: Arc::downgrade(&shared),
            address,
        };
        watches.insert(watch_id, live);
        drop(watches);
        let link = Link::new(recipient, shared);
        // The group decides where the watch begins.
        let entry = Entry {
            id,
            class: create.into_class(),
            next_revision: Revision::default(),
            link,
        };
        Ok(NewWatcher { entry, start })
    }

    async fn register(&self, watchers: Vec<NewWatcher>) {
        if watchers.is_empty() {
            return;
        }
        let registration = Register { watchers };
        if let Some(side) = self.stream.worker.watch_side()
            && side.group.send(registration).await.is_ok()
        {
            return;
        }
        self.nobody_answers();
    }

    /// The group is dead and the next one has not started, or the engine stops: a client that waits for an answer shall
    /// come back (P6). Supervision may have ended the streams before this one asked.
    fn nobody_answers(&self) {
        self.stream.end(StreamEnd::Unavailable(WATCH_SIDE_FAILED));
    }

    /// Cancels a watch; returns when the outcome is in the outbox. An unknown id is passed over in silence, as in etcd.
    pub async fn cancel(&mut self, watch_id: WatchId) {
        let Some(live) = self.stream.watches().get(watch_id).cloned() else {
            return;
        };
        let Some(watcher) = live.address.upgrade() else {
            return;
        };
        if let Some(shared) = live.shared.upgrade() {
            shared.cancelled.store(true, Ordering::Release);
        }
        self.stream.cancellation.notify_waiters();
        // A watcher that has just stopped by itself has said why.
        let _ = watcher.send(ToWatcher::Cancelled).await;
    }

    /// Asks how far the whole stream has come.
    pub async fn request_progress(&mut self) {
        let stream = Arc::clone(&self.stream);
        if let Some(side) = stream.worker.watch_side() {
            let request = RequestProgress { stream };
            if side.group.send(request).await.is_ok() {
                return;
            }
        }
        self.nobody_answers();
    }
}
