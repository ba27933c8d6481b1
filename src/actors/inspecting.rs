//! The door for whoever wants to know what the actors of watch sides hold.

use super::protocol::{Inspect, Inspection};
use super::supervision::Worker;
use std::sync::Arc;

/// What the three actors of each of these workers hold.
pub(crate) async fn watch_sides(workers: &[Arc<Worker>]) -> Vec<Inspection> {
    let mut states = Vec::new();
    for side in workers.iter().filter_map(|worker| worker.watch_side()) {
        states.extend(side.group.send(Inspect).await);
        states.extend(side.sync.send(Inspect).await);
        states.extend(side.victim_retry.send(Inspect).await);
    }
    states
}
