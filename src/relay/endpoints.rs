//! The upstreams: one is in use by everybody at a time, and another one takes its place when it does not answer.
//!
//! One for all, so that a read after a write goes to the same member. Nothing here knows what is asked of an upstream; who
//! is well is found out in `probing`.

mod health;
mod leader;
mod probing;
#[cfg(test)]
mod tests;

pub(super) use probing::root_cause;

use super::connect::{self, Shears};
use crate::api::pb::etcdserverpb::ResponseHeader;
use crate::backend::{Identity, Measure};
use crate::model::Revision;
use crate::tls::Target;
use health::Health;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;
use tonic::transport::Channel;

/// How long a call waits for an upstream while there is none.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Why the upstreams cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointsError {
    /// There are none.
    #[error("a relay needs an upstream")]
    None,
    /// One is no address.
    #[error("{name} cannot be called")]
    Address {
        /// Which.
        name: String,
        /// Why not.
        source: tonic::transport::Error,
    },
}

/// The upstream that is in use.
#[derive(Clone, Debug)]
pub struct Active {
    /// How many times another one has been taken into use.
    pub generation: u64,
    /// The way to it. Anybody may use it, on any thread.
    pub channel: Channel,
    /// `HOST:PORT`.
    pub name: Arc<str>,
}

/// The upstreams of a relay. A clone is the same ones.
#[derive(Clone, Debug)]
pub struct Endpoints(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    slots: Box<[Slot]>,
    state: Mutex<State>,
    /// Counts what has changed in the state, for whoever waits for that.
    changes: watch::Sender<u64>,
    /// No upstream has been well for so long that whoever asks for a leader is told.
    leader_lost: watch::Sender<bool>,
    seen: Seen,
}

/// One upstream.
#[derive(Debug)]
struct Slot {
    name: Arc<str>,
    channel: Channel,
    /// Cuts its connection.
    shears: Shears,
    /// The way for asking how it is. Calls that wait for their turn on the other one must not look like its silence.
    probe: Channel,
    /// Cuts that.
    probe_shears: Shears,
    /// Somebody wants to know how it is.
    asked: Notify,
}

#[derive(Debug)]
struct State {
    in_use: usize,
    generation: u64,
    health: Vec<Health>,
}

/// What was last seen in the header of an answer.
#[derive(Debug, Default)]
struct Seen {
    /// 0 until the first.
    cluster_id: AtomicU64,
    member_id: AtomicU64,
    raft_term: AtomicU64,
    revision: AtomicI64,
}

impl Endpoints {
    /// The upstreams at these addresses, the first of them in use, and all of them asked from now on how they are. Their connections, and the tasks that see to them, live
    /// on the runtime that this is called in, and end with it.
    pub fn start(
        targets: &[Target],
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Self, EndpointsError> {
        let endpoints = Self::new(targets, tls)?;
        probing::start(&endpoints);
        tokio::spawn(leader::follow(endpoints.clone()));
        Ok(endpoints)
    }

    /// The same, and nobody asks.
    fn new(targets: &[Target], tls: Option<&Arc<ClientConfig>>) -> Result<Self, EndpointsError> {
        if targets.is_empty() {
            return Err(EndpointsError::None);
        }
        let slots = targets.iter().map(|target| {
            let name = target.authority.as_str();
            let make = || {
                let made = connect::channel(target, tls.map(Arc::clone));
                made.map_err(|source| EndpointsError::Address {
                    name: name.to_owned(),
                    source,
                })
            };
            let ((channel, shears), (probe, probe_shears)) = (make()?, make()?);
            Ok(Slot {
                name: name.into(),
                channel,
                shears,
                probe,
                probe_shears,
                asked: Notify::new(),
            })
        });
        let slots = slots.collect::<Result<Box<[Slot]>, EndpointsError>>()?;
        let state = State {
            in_use: 0,
            generation: 0,
            health: vec![Health::Unknown; slots.len()],
        };
        Ok(Self(Arc::new(Shared {
            slots,
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
            leader_lost: watch::Sender::new(false),
            seen: Seen::default(),
        })))
    }

    /// The upstream that is in use. It may have failed a moment ago, and then all have.
    pub fn current(&self) -> Active {
        let state = self.state();
        let (generation, in_use) = (state.generation, state.in_use);
        drop(state);
        #[expect(
            clippy::indexing_slicing,
            reason = "what is in use is one of the slots"
        )]
        let slot = &self.0.slots[in_use];
        Active {
            generation,
            channel: slot.channel.clone(),
            name: Arc::clone(&slot.name),
        }
    }

    /// The upstream of this generation does not answer: whoever asks next gets the next one. Does nothing when that has
    /// happened already.
    pub fn give_up(&self, generation: u64) {
        let mut state = self.state();
        if state.generation != generation {
            return;
        }
        let given_up = state.in_use;
        let why = "a call was not answered".to_owned();
        state.set(given_up, Health::Unreachable(why));
        self.use_another(&mut state);
        drop(state);
        self.changed();
        self.ask(given_up);
    }

    /// Something on this generation's connection went wrong that need not be its end: it is looked at now.
    pub(super) fn doubt(&self, generation: u64) {
        let state = self.state();
        let in_use = (state.generation == generation).then_some(state.in_use);
        drop(state);
        if let Some(in_use) = in_use {
            self.ask(in_use);
        }
    }

    /// The upstream to send a call to; waits a little when none can be reached. The error says why not.
    pub(super) async fn usable(&self) -> Result<Active, String> {
        let mut changes = self.0.changes.subscribe();
        let waiting = async {
            while !self.is_reachable() {
                // The sender lives as long as we do.
                let _ = changes.changed().await;
            }
        };
        match timeout(WAIT_MAX, waiting).await {
            Ok(()) => Ok(self.current()),
            Err(_) => Err(self.told()),
        }
    }

    /// True when the upstream in use may answer.
    fn is_reachable(&self) -> bool {
        let state = self.state();
        !matches!(
            state.health_in_use(),
            Health::Unreachable(_) | Health::Foreign(_)
        )
    }

    /// Is the upstream in use well, and part of a cluster that has a leader? The error says what is wrong with each.
    pub fn is_well(&self) -> Result<(), String> {
        let is_well = *self.state().health_in_use() == Health::Well;
        if is_well { Ok(()) } else { Err(self.told()) }
    }

    /// Does the upstream in use answer for itself? The error says what is wrong with each.
    pub(super) fn is_well_alone(&self) -> Result<(), String> {
        let is_slow = matches!(self.state().health_in_use(), Health::Slow(_));
        if is_slow { Ok(()) } else { self.is_well() }
    }

    /// True when those that answer are all of another cluster than the one that was seen first.
    pub(super) fn is_another_cluster(&self) -> bool {
        let state = self.state();
        let is_foreign = |health: &Health| matches!(health, Health::Foreign(_));
        let is_away = |health: &Health| matches!(health, Health::Unreachable(_));
        let mut all = state.health.iter();
        state.health.iter().any(is_foreign) && all.all(|it| is_foreign(it) || is_away(it))
    }

    /// The cluster was put back to an earlier state: what was seen of it is no measure any more.
    pub(super) fn was_put_back(&self) {
        self.0.seen.revision.store(0, Ordering::Relaxed);
    }

    /// Every upstream and how it is.
    fn told(&self) -> String {
        let state = self.state();
        let slots = self.0.slots.iter().zip(&state.health);
        let told: Vec<_> = slots
            .map(|(slot, health)| format!("{}: {health}", slot.name))
            .collect();
        format!("no upstream is well: {}", told.join("; "))
    }

    /// What there is to tell of the upstreams in numbers.
    pub(super) fn measures(&self) -> Vec<Measure> {
        let state = self.state();
        let each = |number: &dyn Fn(usize) -> bool| {
            let slots = self.0.slots.iter().enumerate();
            slots
                .map(|(at, slot)| {
                    let label = Some(("upstream", slot.name.to_string()));
                    (label, u64::from(number(at)))
                })
                .collect()
        };
        vec![
            Measure {
                name: "vigil_relay_upstream_well",
                is_counter: false,
                help: "Whether an upstream answers, and its cluster.",
                samples: each(&|at| *state.of(at) == Health::Well),
            },
            Measure {
                name: "vigil_relay_upstream_in_use",
                is_counter: false,
                help: "Whether an upstream is the one that is used.",
                samples: each(&|at| at == state.in_use),
            },
            Measure {
                name: "vigil_relay_upstream_changes_total",
                is_counter: true,
                help: "How often an upstream was given up.",
                samples: vec![(None, state.generation)],
            },
        ]
    }

    /// Notes what an answer's header says. Revisions and terms never go back.
    pub fn note(&self, header: &ResponseHeader) {
        let seen = &self.0.seen;
        if header.cluster_id != 0 {
            // It is set once: an upstream of another cluster is not used.
            let order = Ordering::Relaxed;
            let _ = seen
                .cluster_id
                .compare_exchange(0, header.cluster_id, order, order);
        }
        seen.member_id.store(header.member_id, Ordering::Relaxed);
        seen.raft_term
            .fetch_max(header.raft_term, Ordering::Relaxed);
        seen.revision.fetch_max(header.revision, Ordering::Relaxed);
    }

    /// Who answers, as far as it was seen.
    pub fn identity(&self) -> Identity {
        let seen = &self.0.seen;
        Identity {
            cluster_id: seen.cluster_id.load(Ordering::Relaxed),
            member_id: seen.member_id.load(Ordering::Relaxed),
            raft_term: seen.raft_term.load(Ordering::Relaxed),
        }
    }

    /// The highest revision that was seen.
    pub fn revision(&self) -> Revision {
        Revision(self.0.seen.revision.load(Ordering::Relaxed))
    }

    /// What was found out of an upstream.
    fn found(&self, slot: usize, health: Health) {
        let mut state = self.state();
        let is_in_use = slot == state.in_use;
        state.set(slot, health);
        let is_well = state.of(slot) == &Health::Well;
        if is_in_use && !is_well {
            let best = self.best(&state);
            if state.of(best).rank() < state.of(slot).rank() {
                self.use_another(&mut state);
            }
        } else if is_well && state.health_in_use().rank() > Health::Unknown.rank() {
            self.use_another(&mut state);
        }
        drop(state);
        self.changed();
    }

    /// Takes the best of the others into use; the next in turn if none of them is better than another.
    fn use_another(&self, state: &mut State) {
        let (from, to) = (state.in_use, self.best(state));
        state.in_use = to;
        state.generation += 1;
        if from == to {
            return;
        }
        if let (Some(from), Some(to)) = (self.0.slots.get(from), self.0.slots.get(to)) {
            let health = state.health_in_use();
            log::info!(from:% = from.name, to:% = to.name; "another upstream is used: {health}");
        }
        // So that it is soon known who it is.
        self.ask(to);
    }

    /// The best upstream; of equals, the one whose turn is next, and last the one in use.
    fn best(&self, state: &State) -> usize {
        let count = self.0.slots.len();
        let in_turn = (1..=count).map(|step| (state.in_use + step) % count);
        in_turn
            .min_by_key(|slot| state.of(*slot).rank())
            .unwrap_or(state.in_use)
    }

    fn ask(&self, slot: usize) {
        if let Some(slot) = self.0.slots.get(slot) {
            slot.asked.notify_one();
        }
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&self, slot: usize) -> &Health {
        self.health.get(slot).unwrap_or(&Health::Unknown)
    }

    fn health_in_use(&self) -> &Health {
        self.of(self.in_use)
    }

    fn set(&mut self, slot: usize, health: Health) {
        if let Some(kept) = self.health.get_mut(slot) {
            *kept = health;
        }
    }
}
