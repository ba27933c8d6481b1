//! Whether the cluster behind the upstreams has a leader, for clients that want to be told when it has none.
//!
//! Nobody is asked here: it follows what the tasks in `probing` find out.

use super::Endpoints;
use super::health::Health;
use crate::fault::{self, Fault};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long no upstream may be well before watches end whose clients ask for a leader: three election timeouts, as in etcd
/// with its defaults. An election is over sooner.
const LEADER_LOST_AFTER: Duration = Duration::from_secs(3);

/// Notes when the leader is lost, and when there is one again, for ever.
pub(super) async fn follow(endpoints: Endpoints) {
    let mut changes = endpoints.0.changes.subscribe();
    loop {
        until(&endpoints, &mut changes, false).await;
        let is_back = until(&endpoints, &mut changes, true);
        if timeout(LEADER_LOST_AFTER, is_back).await.is_err() {
            let is_told = !fault::active(Fault::LostLeaderSilent);
            endpoints.0.leader_lost.send_replace(is_told);
            until(&endpoints, &mut changes, true).await;
            endpoints.0.leader_lost.send_replace(false);
        }
    }
}

/// Waits until there is a leader, or until there is none.
async fn until(endpoints: &Endpoints, changes: &mut watch::Receiver<u64>, is_led: bool) {
    while endpoints.is_led() != is_led {
        // The sender lives as long as we do.
        let _ = changes.changed().await;
    }
}

impl Endpoints {
    /// False when no upstream sees a leader. One that was not asked yet may see one, and one whose cluster is slow does.
    fn is_led(&self) -> bool {
        let state = self.state();
        let in_use = state.health_in_use();
        matches!(in_use, Health::Well | Health::Unknown | Health::Slow(_))
    }

    /// False when the cluster has no leader, as far as it was asked.
    pub(in super::super) fn has_leader(&self) -> bool {
        // Who is let in must not find that the leader was lost before.
        self.is_led() && !*self.0.leader_lost.borrow()
    }

    /// Comes when the leader is lost.
    pub(in super::super) fn leader_lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let endpoints = self.clone();
        async move {
            let mut lost = endpoints.0.leader_lost.subscribe();
            // The sender lives as long as we do.
            let _ = lost.wait_for(|lost| *lost).await;
        }
    }
}
