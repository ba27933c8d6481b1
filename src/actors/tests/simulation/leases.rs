//! Leases in a simulation: granted, kept alive, revoked, and let go.
//!
//! The record says only that a lease may end some time after it was asked for, which the server decides; that none ends early
//! is looked at here, where there is a clock.

use super::reached::Reached;
use super::steps::Simulation;
use super::validator::record::Request;
use crate::model::LeaseId;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How many leases puts choose from.
const LEASES_MAX: usize = 6;

/// A lease that was asked for.
pub(super) struct HeldLease {
    id: LeaseId,
    ttl: Duration,
    /// When something was asked that gave it its whole time.
    renewed: Rc<Cell<Option<Instant>>>,
    /// Somebody has asked for its end.
    revoked: Rc<Cell<bool>>,
}

impl Simulation {
    /// Something happens to a lease.
    pub(super) fn lease(&mut self) {
        match self.chance.below(5) {
            0 | 1 => self.grant(),
            4 => self.revoke(),
            _ => self.keep_alive(),
        }
    }

    /// The lease that a put names, most often none.
    pub(super) fn lease_of_put(&mut self) -> i64 {
        if self.leases.is_empty() || !self.chance.once_in(3) {
            return 0;
        }
        let at = self.chance.below(self.leases.len());
        self.leases.get(at).map_or(0, |lease| lease.id.0)
    }

    fn grant(&mut self) {
        self.leases_granted += 1;
        let seconds = 2 + self.chance.few(5);
        let lease = HeldLease {
            id: LeaseId(self.leases_granted),
            ttl: Duration::from_secs(seconds.unsigned_abs()),
            renewed: Rc::default(),
            revoked: Rc::default(),
        };
        // Never answered: nobody is told when the server ends a lease.
        let lease_end = Request::LeaseEnd { lease: lease.id.0 };
        self.recorder.call(&lease_end);
        let (engine, id) = (self.machine.engine.clone(), lease.id);
        let (renewed, sent) = (Rc::clone(&lease.renewed), Instant::now());
        self.calls.push(actix::spawn(async move {
            if engine.grant_lease(id, seconds).await.is_ok() {
                renewed.set(Some(sent));
            }
        }));
        self.leases.push(lease);
        if self.leases.len() > LEASES_MAX {
            self.leases.remove(0);
        }
    }

    fn keep_alive(&mut self) {
        let Some(lease) = self.chance.pick(&mut self.leases) else {
            return;
        };
        let (engine, recorder) = (self.machine.engine.clone(), self.recorder.clone());
        let (id, ttl, sent) = (lease.id, lease.ttl, Instant::now());
        let (renewed, revoked) = (Rc::clone(&lease.renewed), Rc::clone(&lease.revoked));
        let ended_early = Rc::clone(&self.lease_ended_early);
        self.calls.push(actix::spawn(async move {
            let Ok(ttls) = engine.keep_leases_alive(vec![id]).await else {
                return;
            };
            if ttls != [0] {
                recorder.reached(Reached::LeaseKeptAlive, 1);
                renewed.set(renewed.get().max(Some(sent)));
            } else if let Some(renewed) = renewed.get().filter(|_| !revoked.get()) {
                recorder.reached(Reached::LeaseExpired, 1);
                if Instant::now() < renewed + ttl {
                    ended_early.set(Some(id));
                }
            }
        }));
    }

    fn revoke(&mut self) {
        let Some(lease) = self.chance.pick(&mut self.leases) else {
            return;
        };
        lease.revoked.set(true);
        let (engine, id) = (self.machine.engine.clone(), lease.id);
        self.calls.push(actix::spawn(async move {
            // It may be gone already.
            let _ = engine.revoke_lease(id).await;
        }));
    }

    /// Every lease has ended, as all do that nobody keeps alive.
    pub(super) async fn leases_are_over(&self) -> bool {
        let left = self.machine.engine.leases().await;
        left.is_ok_and(|left| left.is_empty())
    }

    /// No lease has ended before its time.
    pub(super) fn look_at_leases(&self) {
        let early = self.lease_ended_early.get();
        assert_eq!(early, None, "a lease ended before its time");
    }
}
