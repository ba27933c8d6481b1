//! What the engine's handle does with leases: grants, ends and keeps them alive, and says how long they live.
//!
//! It decides nothing: which leases there are Store says, and when they end Lease does.

use super::{Engine, EngineError};
use crate::actors::lease::Lease;
use crate::actors::protocol::{
    KeepAlive, LeaseGone, LeaseTime, LeaseTimeLeft, LeasesByDeadline, Renewed,
};
use crate::actors::supervision::LeaseSide;
use crate::model::{LeaseGrant, LeaseId, Refusal, Revision, Write};
use actix::Addr;
use bytes::Bytes;
use std::hash::{BuildHasher, RandomState};

/// How often an id is chosen anew when it is in use: with a million leases even the second time is an accident.
const ID_TRIES: usize = 16;

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantedLease {
    /// The store's revision.
    pub revision: Revision,
    /// Its id.
    pub id: LeaseId,
    /// How long it lives without being kept alive, in seconds.
    pub ttl_seconds: i64,
}

impl Engine {
    /// Grants a lease that lives `ttl_seconds` without being kept alive, or `lease_ttl_seconds_min` when that is longer;
    /// returns when it is durable. With [`LeaseId::NONE`] the engine chooses its id.
    ///
    /// # Errors
    ///
    /// When a lease has the id already, or may not live so long.
    pub async fn grant_lease(
        &self,
        id: LeaseId,
        ttl_seconds: i64,
    ) -> Result<GrantedLease, EngineError> {
        let ttl_seconds = ttl_seconds.max(self.inner.shared.limits.lease_ttl_seconds_min);
        let mut tries = ID_TRIES;
        loop {
            let chosen = if id == LeaseId::NONE { random_id() } else { id };
            let grant = LeaseGrant {
                id: chosen,
                ttl_seconds,
            };
            tries -= 1;
            match self.write(Write::LeaseGrant(grant)).await {
                Ok(answer) => {
                    return Ok(GrantedLease {
                        revision: answer.revision,
                        id: chosen,
                        ttl_seconds,
                    });
                }
                Err(EngineError::Refused(Refusal::LeaseExists))
                    if id == LeaseId::NONE && tries > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends a lease and deletes all its keys, sorted, in one revision; returns the store's revision when that is durable.
    pub async fn revoke_lease(&self, id: LeaseId) -> Result<Revision, EngineError> {
        Ok(self.write(Write::LeaseRevoke(id)).await?.revision)
    }

    /// Gives leases their whole time again; answers for each how many seconds that is, and 0 for one that does not exist.
    /// One whose time is over is waited for: its keys are gone when this returns.
    pub async fn keep_leases_alive(&self, ids: Vec<LeaseId>) -> Result<Vec<i64>, EngineError> {
        let lease = self.lease()?;
        let order = KeepAlive { ids: ids.clone() };
        let renewed = lease.send(order).await.map_err(|_| self.gone())?;
        let mut ttls = Vec::with_capacity(renewed.len());
        for (id, renewed) in ids.into_iter().zip(renewed) {
            ttls.push(match renewed {
                Renewed::For(ttl_seconds) => ttl_seconds,
                Renewed::Unknown => 0,
                Renewed::Expired => {
                    let gone = lease.send(LeaseGone { id }).await;
                    gone.map_err(|_| self.gone())?;
                    0
                }
            });
        }
        Ok(ttls)
    }

    /// How long a lease lives; nothing when there is none, or its time is over.
    pub async fn lease_time(&self, id: LeaseId) -> Result<Option<LeaseTime>, EngineError> {
        let asked = self.lease()?.send(LeaseTimeLeft { id }).await;
        asked.map_err(|_| self.gone())
    }

    /// All leases, those that end first in front.
    pub async fn leases(&self) -> Result<Vec<LeaseId>, EngineError> {
        let asked = self.lease()?.send(LeasesByDeadline).await;
        asked.map_err(|_| self.gone())
    }

    /// The keys that are attached to a lease, sorted.
    pub fn keys_of_lease(&self, id: LeaseId) -> Vec<Bytes> {
        self.inner.view.keys_of_lease(id)
    }

    /// Lease's address, for tests of the actors.
    #[cfg(test)]
    pub(crate) fn lease_for_test(&self) -> Addr<Lease> {
        self.lease().expect("an engine that runs")
    }

    fn lease(&self) -> Result<Addr<Lease>, EngineError> {
        let side = self.inner.shared.lease_side.get();
        side.and_then(LeaseSide::address).ok_or_else(|| self.gone())
    }
}

/// A positive number that hardly any other lease has; not for secrets.
fn random_id() -> LeaseId {
    let number = RandomState::new().hash_one(0) >> 1;
    LeaseId(i64::try_from(number.max(1)).unwrap_or(i64::MAX))
}
