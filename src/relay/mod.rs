//! The other backend: a real etcd cluster. Its events come once for each cover, as commits in rings of the same kind as the
//! engine's, and the same actors deliver them.
//!
//! It keeps nothing that the cluster does not have, decides nothing that the cluster decides, and knows no client.

mod backoff;
mod call;
mod cover;
mod covers;
pub(crate) mod endpoints;
mod feed;
mod heard;
mod late;
mod rules;
mod stream;
mod upstream;

pub(crate) use covers::Covers;
pub use covers::RelayLimits;
pub use stream::RelayStream;

#[cfg(test)]
mod tests;

use actix::prelude::*;
use endpoints::Endpoints;
use upstream::Upstream;

/// Starts what watches the cluster, on an arbiter of its own that stays, for watchers on these threads.
pub(crate) fn start(
    endpoints: Endpoints,
    limits: RelayLimits,
    arbiter: &ArbiterHandle,
    workers: Vec<ArbiterHandle>,
) -> Covers {
    let covers = Covers::new(endpoints, limits, arbiter.clone());
    let of_actor = covers.clone();
    let upstream = Upstream::start_in_arbiter(arbiter, |_| Upstream::new(of_actor, workers));
    covers.opened_by(upstream.recipient());
    covers
}
