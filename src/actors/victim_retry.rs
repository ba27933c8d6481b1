//! The victims of one worker: watchers whose mailbox was full, each with what it is owed.
//!
//! It tries again when a watcher says that it has room, and hands it back to the group when it has taken what it was
//! owed. It never tries in a loop: its tick is only a net, and it reads nothing.

use super::delivery::Sent;
use super::hooks::{self, HookPoint, Met};
use super::protocol::{Drained, Inspect, Inspection, Retire, Role, Roomy, Stalled};
use super::stream::{Link, StreamId};
use super::supervision::{Tripwire, Worker};
use crate::fault::{self, Fault};
use crate::watch::{Entry, Owed, Victims, WatcherId};
use actix::prelude::*;
use std::sync::Arc;

/// The victims of one worker.
#[derive(Debug)]
pub(crate) struct VictimRetry {
    /// Who waits for room, and for what.
    victims: Victims<Link>,
    /// How far the net has looked.
    looked: Option<WatcherId>,
    /// The worker that this belongs to.
    worker: Arc<Worker>,
    /// Reports a death that nobody asked for.
    tripwire: Tripwire,
}

/// Look whether a wake-up was missed. Sent to itself.
#[derive(Message)]
#[rtype(result = "()")]
struct RetryTick;

impl VictimRetry {
    /// No victims.
    pub(crate) fn new(worker: Arc<Worker>, epoch: u64) -> Self {
        let tripwire = Tripwire::new(Role::VictimRetry, worker.number, epoch, &worker.shared);
        let victims = Victims::new(worker.limits().pinned_bytes_max);
        Self {
            victims,
            looked: None,
            worker,
            tripwire,
        }
    }

    /// Tries to give a victim what it is owed; gives the entry back when it may return to the group.
    fn retry(&mut self, watcher: WatcherId) -> Option<Entry<Link>> {
        let victim = self.victims.get(watcher)?;
        let link = &victim.entry.link;
        let sent = match &victim.owed {
            Owed::Events(_) if fault::active(Fault::VictimBatchDropped) => Sent::Sent,
            Owed::Events(batch) if fault::active(Fault::VictimBatchTwice) => {
                let sent = link.deliver(batch, 1);
                if sent == Sent::Sent {
                    link.deliver(batch, 1);
                }
                sent
            }
            Owed::Events(batch) => link.deliver(batch, 1),
            Owed::Compacted(compact_revision) => link.deliver_compacted(*compact_revision),
            Owed::Nothing if link.is_gone() => Sent::Gone,
            Owed::Nothing => Sent::Sent,
        };
        if sent == Sent::Full {
            return None;
        }
        let victim = self.victims.take(watcher)?;
        // A compacted watch has ended with that message.
        let goes_on = sent == Sent::Sent && !matches!(victim.owed, Owed::Compacted(_));
        goes_on.then_some(victim.entry)
    }

    fn retry_all(&mut self, watchers: Vec<WatcherId>, ctx: &mut Context<Self>) {
        hooks::pass(HookPoint::VictimRetry, self, ctx, |retry, _| {
            let entries: Vec<_> = watchers
                .into_iter()
                .filter_map(|watcher| retry.retry(watcher))
                .collect();
            if !entries.is_empty() {
                retry.worker.tell_group(Drained { entries });
            }
        });
    }

    /// True when a try would only send a victim that pins nothing round by history, to be refused again (V2): what it
    /// waits for is on its way still, and tells when it arrives.
    fn will_be_told(&self, watcher: WatcherId) -> bool {
        self.victims.get(watcher).is_some_and(|victim| {
            let link = &victim.entry.link;
            !fault::active(Fault::VictimSentRound)
                && matches!(victim.owed, Owed::Nothing)
                && !link.is_gone()
                && link.shared.is_wanted()
                && link.shared.stream.in_flight() > 0
        })
    }

    /// The victims of a stream, first come first served.
    fn of_stream(&self, stream: StreamId) -> Vec<WatcherId> {
        let all = self.victims.ids_after(None, usize::MAX).into_iter();
        let of_stream = |id: &WatcherId| {
            self.victims
                .get(*id)
                .is_some_and(|victim| victim.entry.link.shared.stream.id == stream)
        };
        all.filter(of_stream).collect()
    }
}

impl Actor for VictimRetry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let interval = self.worker.limits().retry_net_interval;
        ctx.run_interval(interval, |_, ctx| ctx.notify(RetryTick));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        if !std::thread::panicking() {
            self.tripwire.disarm();
        }
    }
}

impl Handler<Stalled> for VictimRetry {
    type Result = ();

    fn handle(&mut self, stalled: Stalled, ctx: &mut Self::Context) {
        let mut roomy = Vec::new();
        for (entry, owed) in stalled.victims {
            if entry.link.is_gone() {
                continue;
            }
            // The watcher may have said that it has room before its entry came here.
            if !entry.link.shared.is_wanted() && !fault::active(Fault::EarlyRoomUnnoticed) {
                roomy.push(entry.id);
            }
            hooks::met(Met::Victim);
            if !self.victims.insert(entry, owed) {
                hooks::met(Met::VictimWithoutBatch);
            }
        }
        self.retry_all(roomy, ctx);
    }
}

impl Handler<Roomy> for VictimRetry {
    type Result = ();

    fn handle(&mut self, roomy: Roomy, ctx: &mut Self::Context) {
        match roomy {
            Roomy::Watcher(watcher) => self.retry_all(vec![watcher], ctx),
            Roomy::Stream(stream) => self.retry_all(self.of_stream(stream), ctx),
        }
    }
}

impl Handler<Inspect> for VictimRetry {
    type Result = Inspection;

    fn handle(&mut self, _inspect: Inspect, _ctx: &mut Self::Context) -> Inspection {
        Inspection::VictimRetry {
            victims: self.victims.len(),
            pinned_bytes: self.victims.bytes(),
        }
    }
}

impl Handler<RetryTick> for VictimRetry {
    type Result = ();

    fn handle(&mut self, _tick: RetryTick, ctx: &mut Self::Context) {
        let slice = self.worker.limits().entries_per_slice_max.max(1);
        let mut watchers = self.victims.ids_after(self.looked, slice);
        self.looked = if watchers.len() < slice {
            None
        } else {
            watchers.last().copied()
        };
        watchers.retain(|watcher| !self.will_be_told(*watcher));
        self.retry_all(watchers, ctx);
    }
}

impl Handler<Retire> for VictimRetry {
    type Result = ();

    fn handle(&mut self, _retire: Retire, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
