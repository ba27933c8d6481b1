//! Bugs that other stores have had and that need a chosen interleaving, each re-enacted on this engine: the same order of
//! operations, at the place where it would go wrong here.
//!
//! A test is named after the project and the number of its bug. `tests/it/bugs` has those that a client alone can bring
//! about, and `storage/tests/known_bugs.rs` those of the disk. The one about `range_end = "\0"` and permissions waits for
//! authentication, which `docs/decisions.md` says.

mod etcd;
mod progress;
mod seams;

use super::support::*;
use crate::actors::{EngineLimits, OutboxLimits};
use crate::watch::BatchLimits;
use std::collections::BTreeMap;

/// A ring that forgets at once, so that whoever is late reads from the disk, and deliveries of one revision.
fn late() -> EngineLimits {
    EngineLimits {
        ring_bytes_max: 1,
        batch: BatchLimits {
            delivery_bytes_max: 1,
            revisions_per_batch_max: 1,
        },
        ..EngineLimits::default()
    }
}

/// The same, with room for one response in a stream's outbox: a client that does not read stalls at once.
fn late_and_stalled() -> EngineLimits {
    EngineLimits {
        outbox: OutboxLimits {
            outbox_bytes_max: 1,
            ..OutboxLimits::default()
        },
        ..late()
    }
}

/// What each watch of a stream was told: its revisions, and the compact revisions it was cancelled with.
#[derive(Debug, Default)]
struct Told {
    revisions: Vec<i64>,
    compacted: Vec<i64>,
}

fn told(responses: &[Response]) -> BTreeMap<i64, Told> {
    let mut told: BTreeMap<i64, Told> = BTreeMap::new();
    for response in responses {
        match response {
            Response::Events(watch, _) => {
                let watch = told.entry(*watch).or_default();
                assert!(watch.compacted.is_empty(), "events after the cancel");
                watch.revisions.extend(response.revisions());
            }
            Response::Compacted(watch, revision) => {
                told.entry(*watch).or_default().compacted.push(*revision);
            }
            _ => {}
        }
    }
    told
}
