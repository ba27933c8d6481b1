//! One watch of a stream: takes batches from its mailbox and puts them in the stream's outbox, waiting for room.
//!
//! It never decides what to send, never skips anything but what comes after its cancellation, and says nothing after
//! `canceled`. While it waits for room its mailbox fills, and whoever sends to it sees that it is slow.

use super::hooks::{self, HookPoint};
use super::outbox::{Closed, Outbox, Room, StreamEnd, StreamItem};
use super::protocol::{Delivery, Forget, ToWatcher};
use super::slim_context::SlimContext;
use super::stream::LinkState;
use crate::fault::{self, Fault};
use crate::watch::Batch;
use actix::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One watch of a gRPC stream.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// What it shares with whoever holds its entry.
    shared: Arc<LinkState>,
    /// Where its responses go.
    outbox: Arc<Outbox>,
}

impl Watcher {
    /// A watcher that has not started.
    pub(crate) fn new(shared: Arc<LinkState>, outbox: Arc<Outbox>) -> Self {
        Self { shared, outbox }
    }

    fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Acquire)
    }

    fn events(&mut self, delivery: Delivery, ctx: &mut SlimContext<Self>) {
        hooks::pass(HookPoint::StreamSend, self, ctx, |watcher, ctx| {
            watcher.take(delivery, ctx);
        });
    }

    fn take(&mut self, delivery: Delivery, ctx: &mut SlimContext<Self>) {
        if self.is_cancelled() {
            return;
        }
        match self.outbox.try_room(&delivery.batch) {
            Ok(Some(room)) => self.push(delivery.batch, room),
            Ok(None) => self.wait_for_room(delivery, ctx),
            Err(Closed) => ctx.stop(),
        }
    }

    /// The one place where a watcher waits: for room in its outbox, or for its cancellation.
    fn wait_for_room(&mut self, delivery: Delivery, ctx: &mut SlimContext<Self>) {
        let shared = Arc::clone(&self.shared);
        let room = Arc::clone(&self.outbox).room(Arc::clone(&delivery.batch));
        let waiting = async move {
            // In this order, so that a simulation replays exactly; a cancelled watcher pushes nothing either way.
            tokio::select! {
                biased;
                room = room => Some(room),
                () = cancelled(&shared), if !fault::active(Fault::CancelWaitsForRoom) => None,
            }
        };
        ctx.wait(waiting.into_actor(self).map(move |room, watcher, ctx| {
            match room {
                Some(Ok(room)) if !watcher.is_cancelled() => watcher.push(delivery.batch, room),
                Some(Ok(_)) | None => {}
                Some(Err(Closed)) => ctx.stop(),
            }
            // Only now has the message arrived.
            drop(delivery.in_flight);
        }));
    }

    fn push(&self, batch: Arc<Batch>, room: Room) {
        let (watch_id, fragment) = (self.shared.watch_id, self.shared.terms.fragment);
        self.outbox.push(StreamItem::Events {
            watch_id,
            batch,
            fragment,
            room,
        });
    }
}

/// Returns when the watch is cancelled or its stream has ended.
async fn cancelled(shared: &LinkState) {
    loop {
        let notified = shared.stream.cancellation.notified();
        tokio::pin!(notified);
        // Listening first, looking second: a cancellation in between is not lost.
        notified.as_mut().enable();
        if shared.cancelled.load(Ordering::Acquire) || shared.stream.is_closed() {
            return;
        }
        notified.await;
    }
}

impl Actor for Watcher {
    type Context = SlimContext<Self>;

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        let stream = &self.shared.stream;
        if std::thread::panicking() {
            // Those that live where it died end with it, and have nothing to add.
            if stream.is_closed() || fault::active(Fault::DeadWatcherSilent) {
                return;
            }
            // Cancelling the watch would close the user's channel in common clients; this makes them resume (P6).
            stream.end(StreamEnd::Unavailable("a watcher failed"));
            stream.worker.tell_group(Forget::Stream(Arc::clone(stream)));
            return;
        }
        let mut watches = stream.watches();
        if watches
            .get(self.shared.watch_id)
            .is_some_and(|live| std::ptr::eq(live.shared.as_ptr(), &raw const *self.shared))
        {
            watches.remove(self.shared.watch_id);
        }
        drop(watches);
        stream
            .worker
            .tell_group(Forget::Watcher(self.shared.watcher));
    }
}

impl Handler<ToWatcher> for Watcher {
    type Result = ();

    fn handle(&mut self, message: ToWatcher, ctx: &mut Self::Context) {
        let watch_id = self.shared.watch_id;
        match message {
            // The outbox was told in the order of the requests, which watchers do not keep.
            ToWatcher::Created { .. } => {}
            ToWatcher::Events(delivery) => self.events(delivery, ctx),
            // Its guard is dropped with the message, at the end: the message has arrived when it is in the outbox.
            ToWatcher::Progress {
                revision,
                in_flight: _guard,
            } => {
                self.outbox
                    .push(StreamItem::Progress { watch_id, revision });
            }
            ToWatcher::Compacted {
                compact_revision,
                in_flight: _guard,
            } => {
                // After a cancel the client waits for `canceled`, and that message is on its way.
                if !self.is_cancelled() {
                    self.outbox.push(StreamItem::Compacted {
                        watch_id,
                        compact_revision,
                    });
                    ctx.stop();
                }
            }
            ToWatcher::Cancelled => {
                let revision = self.shared.stream.worker.revision();
                self.outbox
                    .push(StreamItem::Canceled { watch_id, revision });
                if !fault::active(Fault::CancelledWatcherStays) {
                    ctx.stop();
                }
            }
        }
    }
}
