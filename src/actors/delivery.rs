//! The one place that sends to a watcher, and so the one place that finds out that it is slow.
//!
//! `try_send` is bounded *per kept sender*: with a mailbox of 4 whose actor does not run, one kept `Recipient` gets 4 of
//! 100 messages in, a clone made for each send gets all 100 in, and so does `do_send`. So an entry's one `Recipient` is
//! moved and never cloned, and nothing but the methods here may send through it.

use super::outbox::StreamItem;
use super::protocol::{Delivery, ToWatcher};
use super::stream::{InFlight, Link, WantedBy};
use super::watch_table::WatchTable;
use crate::fault::{self, Fault};
use crate::model::Revision;
use crate::watch::Batch;
use actix::prelude::SendError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a message takes beside its events, in bytes: an envelope and a queue node.
const MESSAGE_BYTES: usize = 100;

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the three words of the design")]
pub(crate) enum Sent {
    /// It is in the watcher's mailbox.
    Sent,
    /// There is no room; `VictimRetry` will be told when there is.
    Full,
    /// The watcher is gone.
    Gone,
}

impl Link {
    /// Gives the watcher a batch that so many watchers share, so that its bytes are counted once for all of them. On
    /// `Full` the wish to be told is already placed (V1), so the caller has to hand the
    /// entry to `VictimRetry`.
    pub(crate) fn deliver(&self, batch: &Arc<Batch>, sharers: usize) -> Sent {
        match self.try_deliver(batch, sharers) {
            Sent::Full => {
                self.shared.want(WantedBy::VictimRetry);
                // Once more: room that appeared before the wish was placed would never be told of.
                let again = self.try_deliver(batch, sharers);
                if again != Sent::Full {
                    self.shared.unwant();
                }
                again
            }
            sent => sent,
        }
    }

    fn try_deliver(&self, batch: &Arc<Batch>, sharers: usize) -> Sent {
        if self.is_gone() {
            return Sent::Gone;
        }
        let Some(in_flight) = self
            .shared
            .depart(batch.bytes() / sharers.max(1) + MESSAGE_BYTES)
        else {
            return Sent::Full;
        };
        let delivery = Delivery {
            batch: Arc::clone(batch),
            in_flight,
        };
        let sent = self.put(ToWatcher::Events(delivery));
        if sent == Sent::Sent {
            self.shared.sent_since_tick.store(true, Ordering::Release);
            self.shared.stream.note_told(batch.last());
        }
        sent
    }

    /// Says that the watcher is registered: straight to its outbox, because clients tell such answers apart by their order and
    /// watchers run in an order of their own; or to the mailbox of an application's own actor. One that is full takes it
    /// too: it is one message per watch, and without it the watcher would not know where it begins.
    pub(crate) fn tell_created(&self, revision: Revision) {
        let stream = &self.shared.stream;
        stream.note_told(revision);
        let revision = if fault::active(Fault::CreatedRevisionStale) {
            revision.previous()
        } else {
            revision
        };
        if let Some(outbox) = &stream.outbox {
            let watch_id = self.shared.watch_id;
            return outbox.push(StreamItem::Created { watch_id, revision });
        }
        let in_flight = self.shared.depart_without_bytes();
        self.recipient.do_send(ToWatcher::Created {
            revision,
            in_flight,
        });
    }

    /// Tells the watcher how far it has come.
    pub(crate) fn tell_progress(&self, revision: Revision) -> Sent {
        self.try_tell(|in_flight| ToWatcher::Progress {
            revision,
            in_flight,
        })
    }

    /// Tells the watcher that what it wants is compacted; same rules as [`Self::deliver`].
    pub(crate) fn deliver_compacted(&self, compact_revision: Revision) -> Sent {
        let tell = || {
            self.try_tell(|in_flight| ToWatcher::Compacted {
                compact_revision,
                in_flight,
            })
        };
        let sent = match tell() {
            Sent::Full => {
                self.shared.want(WantedBy::VictimRetry);
                let again = tell();
                if again != Sent::Full {
                    self.shared.unwant();
                }
                again
            }
            sent => sent,
        };
        if sent == Sent::Sent && self.shared.stream.outbox.is_none() {
            // That was the last message, also when the engine stops later. A stream's own watcher leaves by itself.
            *self.shared.stream.watches() = WatchTable::default();
        }
        sent
    }

    /// Puts one message without events in the watcher's mailbox, if it has room.
    fn try_tell(&self, message: impl FnOnce(InFlight) -> ToWatcher) -> Sent {
        if self.is_gone() {
            return Sent::Gone;
        }
        self.put(message(self.shared.depart_without_bytes()))
    }

    fn put(&self, message: ToWatcher) -> Sent {
        let tried = if fault::active(Fault::RecipientCloned) {
            self.recipient.clone().try_send(message)
        } else {
            self.recipient.try_send(message)
        };
        let (sent, refused) = match tried {
            Ok(()) => return Sent::Sent,
            Err(SendError::Full(refused)) => (Sent::Full, refused),
            Err(SendError::Closed(refused)) => (Sent::Gone, refused),
        };
        match refused {
            ToWatcher::Events(Delivery { in_flight, .. })
            | ToWatcher::Created { in_flight, .. }
            | ToWatcher::Progress { in_flight, .. }
            | ToWatcher::Compacted { in_flight, .. } => in_flight.never_left(),
            ToWatcher::Cancelled => {}
        }
        sent
    }
}
