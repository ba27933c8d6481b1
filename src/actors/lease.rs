//! When leases end: every lease's deadline, moved by keep-alives, and an order to Store once it has passed.
//!
//! It never waits for a disk (T4), and it decides about time alone: which leases there are, and which keys they hold, is
//! Store's to say. A lease never ends early: its time begins anew when this actor starts.

use super::permits::Permits;
use super::protocol::{
    Apply, KeepAlive, Later, LeaseChange, LeaseGone, LeaseTime, LeaseTimeLeft, LeasesByDeadline,
    LeasesChanged, Renewed, Retire, Role,
};
use super::supervision::{Shared, Tripwire};
use crate::fault::{self, Fault};
use crate::model::{LeaseId, Write};
use crate::storage::ReadView;
use actix::WeakRecipient;
use actix::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// How often deadlines are looked at; as in etcd.
const TICK: Duration = Duration::from_millis(500);
/// How many revocations are on their way to Store at a time; as in etcd. Writers of others go between them.
const REVOKES_IN_FLIGHT_MAX: usize = 16;
/// How long to wait before a revocation that was refused is ordered again; as in etcd.
const RETRY: Duration = Duration::from_secs(3);
/// How far away a deadline is that nobody lives to see: a sum beyond it would not be a time.
const FAR: Duration = Duration::from_hours(24 * 365 * 100);

/// The deadlines.
#[derive(Debug)]
pub(crate) struct Lease {
    store: WeakRecipient<Apply>,
    view: ReadView,
    permits: Permits,
    leases: BTreeMap<LeaseId, Live>,
    /// When which lease ends; those whose time is over are in `expired` instead.
    deadlines: BTreeSet<(Instant, LeaseId)>,
    /// Those that wait for a revocation, longest first.
    expired: VecDeque<LeaseId>,
    /// Those whose revocation is on its way.
    revoking: BTreeSet<LeaseId>,
    /// Those who wait for the end of an expired lease.
    waiting: BTreeMap<LeaseId, Vec<Later<()>>>,
    /// A tick is scheduled.
    ticking: bool,
    tripwire: Tripwire,
}

/// A lease that was granted.
#[derive(Clone, Copy, Debug)]
struct Live {
    ttl_seconds: i64,
    /// Nothing when it is over.
    deadline: Option<Instant>,
}

/// Look at the deadlines. Sent to itself while there are any.
#[derive(Message)]
#[rtype(result = "()")]
struct DeadlineTick;

/// Order this revocation again.
#[derive(Message)]
#[rtype(result = "()")]
struct RevokeAgain(LeaseId);

impl Lease {
    /// A Lease that has not started.
    pub(crate) fn new(
        shared: &Shared,
        (store, view): (WeakRecipient<Apply>, ReadView),
        permits: Permits,
    ) -> Self {
        let tripwire = Tripwire::new(Role::Lease, 0, 0, shared);
        Self {
            store,
            view,
            permits,
            leases: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            expired: VecDeque::new(),
            revoking: BTreeSet::new(),
            waiting: BTreeMap::new(),
            ticking: false,
            tripwire,
        }
    }

    fn grant(&mut self, id: LeaseId, ttl_seconds: i64, ctx: &mut Context<Self>) {
        self.forget(id);
        let deadline = deadline_of(ttl_seconds);
        self.deadlines.insert((deadline, id));
        let deadline = Some(deadline);
        self.leases.insert(
            id,
            Live {
                ttl_seconds,
                deadline,
            },
        );
        if !self.ticking {
            self.ticking = true;
            ctx.notify_later(DeadlineTick, TICK);
        }
    }

    /// The lease is no more.
    fn forget(&mut self, id: LeaseId) {
        self.revoking.remove(&id);
        if let Some(deadline) = self.leases.remove(&id).and_then(|live| live.deadline) {
            self.deadlines.remove(&(deadline, id));
        }
        for waiting in self.waiting.remove(&id).unwrap_or_default() {
            waiting.reply(());
        }
    }

    /// Gives a lease its whole time again, and says how much that is.
    fn renew(&mut self, id: LeaseId) -> Renewed {
        let Some(live) = self.leases.get_mut(&id) else {
            return Renewed::Unknown;
        };
        let now = Instant::now();
        let Some(before) = live.deadline.filter(|deadline| *deadline > now) else {
            return Renewed::Expired;
        };
        let deadline = deadline_of(live.ttl_seconds);
        live.deadline = Some(deadline);
        self.deadlines.remove(&(before, id));
        self.deadlines.insert((deadline, id));
        Renewed::For(live.ttl_seconds)
    }

    /// Takes those out whose time is over.
    fn expire(&mut self) {
        let now = if fault::active(Fault::LeaseExpiresEarly) {
            Instant::now() + Duration::from_secs(1)
        } else {
            Instant::now()
        };
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if let Some(live) = self.leases.get_mut(&id) {
                live.deadline = None;
                self.expired.push_back(id);
            }
        }
    }

    /// Orders the ends of as many as may be on their way. Store tells of each end, as of any other.
    fn revoke(&mut self, ctx: &mut Context<Self>) {
        while self.revoking.len() < REVOKES_IN_FLIGHT_MAX {
            let Some(id) = self.expired.pop_front() else {
                return;
            };
            if !self.leases.contains_key(&id) {
                // Somebody else was faster.
                continue;
            }
            self.revoking.insert(id);
            let (store, permits) = (self.store.clone(), self.permits.clone());
            let order = async move {
                let write = Write::LeaseRevoke(id);
                let permit = permits.take(write.bytes()).await;
                // Without room or a store the engine has stopped.
                if let (Some(permit), Some(store)) = (permit, store.upgrade()) {
                    store.do_send(Apply {
                        write,
                        permit,
                        worker: None,
                    });
                }
            };
            ctx.spawn(order.into_actor(self));
        }
    }
}

fn deadline_of(ttl_seconds: i64) -> Instant {
    let ttl = Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or(0));
    Instant::now() + ttl.min(FAR)
}

impl Actor for Lease {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Whatever was granted before has its whole time again, as after etcd's restart.
        for (id, ttl_seconds) in self.view.leases() {
            self.grant(id, ttl_seconds, ctx);
        }
    }
}

impl Handler<LeasesChanged> for Lease {
    type Result = ();

    fn handle(&mut self, message: LeasesChanged, ctx: &mut Self::Context) {
        for change in message.changes {
            match change {
                LeaseChange::Granted { id, ttl_seconds } => self.grant(id, ttl_seconds, ctx),
                LeaseChange::Revoked(id) => self.forget(id),
                LeaseChange::Kept(id) => {
                    if self.revoking.remove(&id) {
                        ctx.notify_later(RevokeAgain(id), RETRY);
                    }
                }
            }
        }
        self.revoke(ctx);
    }
}

impl Handler<KeepAlive> for Lease {
    type Result = MessageResult<KeepAlive>;

    fn handle(&mut self, message: KeepAlive, _ctx: &mut Self::Context) -> Self::Result {
        MessageResult(message.ids.into_iter().map(|id| self.renew(id)).collect())
    }
}

impl Handler<LeaseGone> for Lease {
    type Result = Later<()>;

    fn handle(&mut self, message: LeaseGone, _ctx: &mut Self::Context) -> Self::Result {
        let (returned, kept) = Later::new();
        if self.leases.contains_key(&message.id) {
            self.waiting.entry(message.id).or_default().push(kept);
        } else {
            kept.reply(());
        }
        returned
    }
}

impl Handler<LeaseTimeLeft> for Lease {
    type Result = Option<LeaseTime>;

    fn handle(&mut self, message: LeaseTimeLeft, _ctx: &mut Self::Context) -> Self::Result {
        let live = self.leases.get(&message.id)?;
        let left = live.deadline?.checked_duration_since(Instant::now())?;
        Some(LeaseTime {
            left_seconds: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            ttl_seconds: live.ttl_seconds,
        })
    }
}

impl Handler<LeasesByDeadline> for Lease {
    type Result = MessageResult<LeasesByDeadline>;

    fn handle(&mut self, _message: LeasesByDeadline, _ctx: &mut Self::Context) -> Self::Result {
        let over = self
            .leases
            .iter()
            .filter(|(_, live)| live.deadline.is_none())
            .map(|(id, _)| *id);
        let live = self.deadlines.iter().map(|(_, id)| *id);
        MessageResult(over.chain(live).collect())
    }
}

impl Handler<DeadlineTick> for Lease {
    type Result = ();

    fn handle(&mut self, _tick: DeadlineTick, ctx: &mut Self::Context) {
        self.expire();
        self.revoke(ctx);
        self.ticking = !self.deadlines.is_empty();
        if self.ticking {
            ctx.notify_later(DeadlineTick, TICK);
        }
    }
}

impl Handler<RevokeAgain> for Lease {
    type Result = ();

    fn handle(&mut self, again: RevokeAgain, ctx: &mut Self::Context) {
        self.expired.push_back(again.0);
        self.revoke(ctx);
    }
}

impl Handler<Retire> for Lease {
    type Result = ();

    fn handle(&mut self, _retire: Retire, ctx: &mut Self::Context) {
        self.tripwire.disarm();
        ctx.stop();
    }
}
