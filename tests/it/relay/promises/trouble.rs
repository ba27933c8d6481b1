//! The troubles. Each is made while requests are under way, and is over when clients have seen what was written during it.
//!
//! Whom it hits is asked of the relay and of the cluster, and never guessed.

use super::{Scene, is_back, kept, rounds};
use crate::support::pb::StatusRequest;
use crate::support::pb::maintenance_client::MaintenanceClient;
use crate::support::{Client, Http, eventually};

/// Requests of which some are under way when the trouble begins, and how many are left then.
const REQUESTS: usize = 80;
const LEFT: usize = 40;

impl Scene<'_> {
    /// Has requests under way.
    async fn under_way(&self) {
        self.load.allow(REQUESTS);
        self.load.are_left(LEFT).await;
    }

    async fn all_see(&self, what: &str) {
        self.load.all_see(what, LEFT).await;
    }

    /// The member that leads.
    async fn leader(&self) -> usize {
        eventually("somebody leads", async || {
            for (at, endpoint) in self.cluster.endpoints().iter().enumerate() {
                let client = Client::connect(endpoint).await;
                let client = client.map_err(|error| error.to_string())?;
                let mut status = MaintenanceClient::new(client.channel());
                let status = status.status(StatusRequest {}).await;
                let status = status.map_err(|status| status.to_string())?.into_inner();
                let member = status.header.as_ref().map(|header| header.member_id);
                if member == Some(status.leader) {
                    return Ok(at);
                }
            }
            Err("nobody".to_owned())
        })
        .await
    }
}

#[tokio::test]
async fn while_the_member_in_use_is_killed() {
    kept(async |scene| {
        for _ in 0..2 * rounds() {
            let killed = scene.in_use().await;
            let lease = scene.load.lease_that_ends().await;
            scene.under_way().await;
            scene.cluster.members[killed].kill();
            scene.all_see("what is written without a member").await;
            scene.load.has_ended(lease).await;
            scene.cluster.members[killed].restart();
            is_back(scene, killed).await;
        }
    })
    .await;
}

#[tokio::test]
async fn while_the_leader_is_killed() {
    kept(async |scene| {
        for _ in 0..rounds() {
            let killed = scene.leader().await;
            scene.under_way().await;
            scene.cluster.members[killed].kill();
            scene.all_see("what is written under another leader").await;
            scene.cluster.members[killed].restart();
            is_back(scene, killed).await;
        }
    })
    .await;
}

#[tokio::test]
async fn while_the_relay_is_killed() {
    kept(async |scene| {
        for round in 0..3 * rounds() {
            let killed = round % scene.relays.len();
            scene.under_way().await;
            scene.relays[killed].process().kill();
            scene.load.allow(LEFT);
            scene.load.are_left(LEFT / 2).await;
            scene.start_relay(killed).await;
            scene.all_see("what is written without a relay").await;
        }
    })
    .await;
}

#[tokio::test]
async fn while_the_cluster_compacts_and_the_relay_is_cut_off() {
    kept(async |scene| {
        for _ in 0..2 * rounds() {
            scene.under_way().await;
            for wire in &scene.wires {
                wire.cut();
            }
            scene.load.allow(LEFT);
            scene.load.are_left(0).await;
            scene.load.compact(scene.load.last() - 5).await;
            for wire in &scene.wires {
                wire.open();
            }
            scene
                .all_see("what is left of what was written meanwhile")
                .await;
        }
    })
    .await;
}

#[tokio::test]
async fn while_the_member_in_use_is_paused() {
    kept(async |scene| {
        for _ in 0..rounds() {
            let paused = scene.in_use().await;
            scene.under_way().await;
            scene.cluster.members[paused].process.pause();
            eventually("another member is used", async || {
                let used = scene.in_use().await;
                (used != paused).then_some(()).ok_or(used)
            })
            .await;
            scene.load.allow(LEFT / 2);
            scene.cluster.members[paused].process.go_on();
            scene.all_see("what is written while a member pauses").await;
        }
    })
    .await;
}

#[tokio::test]
async fn while_the_cluster_has_no_quorum() {
    kept(async |scene| {
        for _ in 0..rounds() {
            let alone = scene.in_use().await;
            let killed = [(alone + 1) % 3, (alone + 2) % 3];
            scene.under_way().await;
            for member in killed {
                scene.cluster.members[member].kill();
            }
            let http = Http::at(scene.relays[0].endpoint());
            eventually("the relay is not ready", async || {
                let ready = http.get("/readyz").await;
                (ready.status == 503).then_some(()).ok_or(ready.text)
            })
            .await;
            for member in killed {
                scene.cluster.members[member].restart();
            }
            is_back(scene, alone).await;
            scene.all_see("what is written with a quorum again").await;
        }
    })
    .await;
}

#[tokio::test]
async fn while_the_network_is_cut_and_stalls() {
    kept(async |scene| {
        for _ in 0..rounds() {
            let cut = scene.in_use().await;
            scene.under_way().await;
            scene.wires[cut].cut();
            scene
                .all_see("what is written while a member is cut off")
                .await;
            scene.wires[cut].open();
            let stalled = scene.in_use().await;
            scene.under_way().await;
            scene.wires[stalled].stall();
            scene.all_see("what is written while a member is far").await;
            scene.wires[stalled].open();
        }
    })
    .await;
}
