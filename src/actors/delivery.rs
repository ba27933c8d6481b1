//! The one place that sends to a watcher, and so the one place that finds out that it is slow.
//!
//! `try_send` is bounded *per kept sender*: with a mailbox of 4 whose actor does not run, one kept `Recipient` gets 4 of
//! 100 messages in, a clone made for each send gets all 100 in, and so does `do_send`. So an entry's one `Recipient` is
//! moved and never cloned, and nothing but the methods here may send through it.

use super::protocol::{Delivery, ToWatcher};
use super::stream::{Link, WantedBy};
use crate::model::Revision;
use crate::watch::Batch;
use actix::prelude::SendError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a message takes beside its events, in bytes: an envelope and a queue node.
const MESSAGE_BYTES: usize = 100;

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        let refused = match self.recipient.try_send(ToWatcher::Events(delivery)) {
            Ok(()) => {
                self.shared.sent_since_tick.store(true, Ordering::Release);
                return Sent::Sent;
            }
            Err(refused) => refused,
        };
        let (sent, message) = match refused {
            SendError::Full(message) => (Sent::Full, message),
            SendError::Closed(message) => (Sent::Gone, message),
        };
        if let ToWatcher::Events(delivery) = message {
            delivery.in_flight.never_left();
        }
        sent
    }

    /// Tells the watcher that what it wants is compacted; same rules as [`Self::deliver`].
    pub(crate) fn deliver_compacted(&self, compact_revision: Revision) -> Sent {
        let tell = || self.try_tell(ToWatcher::Compacted { compact_revision });
        match tell() {
            Sent::Full => {
                self.shared.want(WantedBy::VictimRetry);
                let again = tell();
                if again != Sent::Full {
                    self.shared.unwant();
                }
                again
            }
            sent => sent,
        }
    }

    /// Puts one message in the watcher's mailbox, if it has room.
    pub(crate) fn try_tell(&self, message: ToWatcher) -> Sent {
        match self.recipient.try_send(message) {
            Ok(()) => Sent::Sent,
            Err(SendError::Full(_refused)) => Sent::Full,
            Err(SendError::Closed(_refused)) => Sent::Gone,
        }
    }
}
