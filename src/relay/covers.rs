//! All covers of a relay, and the way to a seat in one.
//!
//! There are never more of them than the limit says, whatever clients watch.

use super::backoff::Backoff;
use super::confirm::Confirm;
use super::cover::{Cover, Seat};
use super::endpoints::Endpoints;
use super::late::Late;
use super::rules::{Place, place};
use super::stream::StreamSeats;
use super::upstream::{Open, Upstream};
use crate::actors::{EngineLimits, Inspection};
use crate::api::pb::etcdserverpb::RangeRequest;
use crate::api::pb::etcdserverpb::kv_client::KvClient;
use crate::api::rpc_error;
use crate::backend::Measure;
use crate::model::{KeyRange, Revision};
use actix::prelude::*;
use bytes::Bytes;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

/// The bounds of a relay's watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// The bounds of each watch side. The ring is that of one cover.
    pub engine: EngineLimits,
    /// Watches on the cluster that new events come by.
    pub covers_max: usize,
    /// How often covers are fitted to what is still watched.
    pub tidy_interval: Duration,
    /// How long a new watch may wait for the cluster before its stream is told to come back.
    pub patience: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            engine: EngineLimits::default(),
            covers_max: 8,
            tidy_interval: Duration::from_secs(10),
            patience: Duration::from_secs(5),
        }
    }
}

/// All covers. A clone is the same.
#[derive(Clone, Debug)]
pub struct Covers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    covers: Mutex<Vec<Arc<Cover>>>,
    /// Streams, some of which may have gone since they were last looked at.
    streams: Mutex<Vec<Weak<StreamSeats>>>,
    limits: RelayLimits,
    endpoints: Endpoints,
    confirm: Confirm,
    /// Live watches of all covers.
    watches: Arc<AtomicUsize>,
    /// Watches that feeds have begun on the cluster.
    begun: AtomicU64,
    /// Where the feeds run.
    arbiter: ArbiterHandle,
    /// Who opens covers; another one when the one before has died.
    upstream: Mutex<Option<Addr<Upstream>>>,
}

impl Covers {
    /// Starts what watches the cluster, on an arbiter of its own that stays, for watchers on the threads of `workers`.
    pub fn start(
        endpoints: Endpoints,
        limits: &RelayLimits,
        arbiter: &ArbiterHandle,
        workers: Vec<ArbiterHandle>,
    ) -> Self {
        let covers = Self::new(endpoints, limits, arbiter.clone());
        Upstream::start_for(covers.clone(), workers);
        covers
    }

    fn new(endpoints: Endpoints, limits: &RelayLimits, arbiter: ArbiterHandle) -> Self {
        Self(Arc::new(Inner {
            covers: Mutex::new(Vec::new()),
            streams: Mutex::new(Vec::new()),
            limits: *limits,
            confirm: Confirm::new(endpoints.clone(), limits.patience, arbiter.clone()),
            endpoints,
            watches: Arc::default(),
            begun: AtomicU64::new(0),
            arbiter,
            upstream: Mutex::new(None),
        }))
    }

    /// From now on `upstream` opens covers.
    pub(super) fn opened_by(&self, upstream: Addr<Upstream>) {
        *self.upstream() = Some(upstream);
    }

    fn upstream(&self) -> MutexGuard<'_, Option<Addr<Upstream>>> {
        // An address is never half written.
        let upstream = self.0.upstream.lock();
        upstream.unwrap_or_else(PoisonError::into_inner)
    }

    /// Where feeds run.
    pub(super) fn arbiter(&self) -> &ArbiterHandle {
        &self.0.arbiter
    }

    pub(super) fn limits(&self) -> &RelayLimits {
        &self.0.limits
    }

    pub(super) fn endpoints(&self) -> &Endpoints {
        &self.0.endpoints
    }

    pub(super) fn watches(&self) -> &Arc<AtomicUsize> {
        &self.0.watches
    }

    /// Finds a seat for a watch.
    pub(super) fn seat(&self, range: &KeyRange, with_prev: bool) -> Seat {
        let mut covers = self.covers();
        // What is refused there need not be refused to whoever comes: another cover may be narrower.
        covers.retain(|cover| cover.refused().is_none());
        let ranges: Vec<_> = covers.iter().map(|cover| cover.plan().range).collect();
        let (number, widened) = match place(&ranges, range, self.0.limits.covers_max) {
            Place::In(number) => (Some(number), None),
            Place::Widened(number, widened) => (Some(number), Some(widened)),
            Place::New => (None, None),
        };
        if let Some(cover) = number.and_then(|number| covers.get(number)) {
            return cover.sit(range, widened, with_prev);
        }
        let batch = self.0.limits.engine.batch;
        let late = Late::new(self.0.endpoints.clone(), self.0.arbiter.clone(), batch);
        let cover = Arc::new(Cover::new(range.clone(), late));
        cover.late.belongs_to(&cover);
        let seat = cover.sit(range, None, with_prev);
        covers.push(Arc::clone(&cover));
        drop(covers);
        // While there is none nobody has to be told: the next one looks which covers there are.
        let upstream = self.upstream().clone();
        if let Some(upstream) = upstream {
            upstream.do_send(Open(cover));
        }
        seat
    }

    /// Somebody waits until everything up to here was published of a range.
    pub(super) fn hurry(&self, range: &KeyRange, goal: Revision) {
        let covers = self.covers().clone();
        for cover in covers {
            if cover.plan().range.encloses(range) {
                cover.hurry(goal);
            }
        }
    }

    /// A stream whose watches may end by themselves.
    pub(super) fn adopt(&self, stream: &Arc<StreamSeats>) {
        self.streams().push(Arc::downgrade(stream));
    }

    /// Fits covers to what is still watched, and lets go of those that nobody watches.
    pub(super) fn tidy(&self) {
        let mut streams = std::mem::take(&mut *self.streams());
        streams.retain(|stream| {
            stream.upgrade().is_some_and(|it| {
                it.tidy();
                true
            })
        });
        self.streams().append(&mut streams);
        self.covers().retain(|cover| {
            cover.late.tidy();
            !cover.tidy()
        });
    }

    /// The cluster's revision, once a majority has confirmed it.
    pub(super) async fn revision_now(&self) -> Result<Revision, Unanswered> {
        self.0.confirm.revision_now().await
    }

    /// The same from whichever member answers first: who asks may come just when one has died, and another one is found as
    /// long as there is patience.
    pub(super) async fn revision_in_the_end(&self) -> Result<Revision, Unanswered> {
        let mut backoff = Backoff::default();
        let deadline = Instant::now() + self.0.limits.patience;
        loop {
            let asked = self.revision_now().await;
            let pause = backoff.next();
            let is_away = matches!(asked, Err(Unanswered::Away(_)));
            if !is_away || Instant::now() + pause >= deadline {
                return asked;
            }
            sleep(pause).await;
        }
    }

    /// Every cover there is.
    pub(super) fn all(&self) -> Vec<Arc<Cover>> {
        self.covers().clone()
    }

    /// Takes a cover out that cannot go on.
    pub(super) fn let_go(&self, cover: &Arc<Cover>) {
        self.covers().retain(|it| !Arc::ptr_eq(it, cover));
    }

    /// The last revision that was heard of.
    pub(crate) fn revision(&self) -> Revision {
        self.0.endpoints.revision()
    }

    /// Fits covers at once, for tests.
    #[cfg(test)]
    pub(crate) fn tidy_for_test(&self) {
        self.tidy();
    }

    /// Whoever opens covers dies of a panic, for tests.
    #[cfg(test)]
    pub(crate) fn kill_upstream_for_test(&self) {
        if let Some(upstream) = self.upstream().clone() {
            upstream.do_send(super::upstream::Poison);
        }
    }

    /// What is watched on the cluster, for tests.
    #[cfg(test)]
    pub(crate) fn ranges(&self) -> Vec<KeyRange> {
        let covers = self.covers();
        covers.iter().map(|cover| cover.plan().range).collect()
    }

    /// How many covers there are, for tests.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.covers().len()
    }

    /// A feed has begun a watch on the cluster.
    pub(super) fn note_begun(&self) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// What there is to tell of them in numbers.
    pub(super) fn measures(&self) -> Vec<Measure> {
        let covers = self.covers().clone();
        let seen = self.revision().0;
        let heads = covers.iter().filter_map(|cover| cover.broadcast());
        let behind = heads.map(|it| seen.saturating_sub(it.head().0));
        let behind = behind.max().unwrap_or(0);
        let one = |number: u64| vec![(None, number)];
        vec![
            Measure {
                name: "vigil_relay_covers",
                is_counter: false,
                help: "Ranges that are watched on the cluster.",
                samples: one(covers.len() as u64),
            },
            Measure {
                name: "vigil_relay_watches_begun_total",
                is_counter: true,
                help: "Watches that were begun on the cluster for covers.",
                samples: one(self.0.begun.load(Ordering::Relaxed)),
            },
            Measure {
                name: "vigil_relay_covers_behind_revisions",
                is_counter: false,
                help: "How far the last of the covers is behind the highest revision that was seen.",
                samples: one(u64::try_from(behind).unwrap_or(0)),
            },
        ]
    }

    /// What all watch sides hold.
    pub(crate) async fn inspect(&self) -> Vec<Inspection> {
        let covers = self.covers().clone();
        let mut states = Vec::new();
        for cover in covers {
            states.extend(cover.inspect().await);
        }
        states
    }

    fn streams(&self) -> MutexGuard<'_, Vec<Weak<StreamSeats>>> {
        self.0
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn covers(&self) -> MutexGuard<'_, Vec<Arc<Cover>>> {
        // A list is never half written.
        self.0.covers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the cluster does not tell what it was asked: its revision, or what happens in a range.
#[derive(Clone, Debug)]
pub(super) enum Unanswered {
    /// It does not tell it to us, in these words, and asking again changes nothing.
    Refused(Arc<str>),
    /// Nobody has answered.
    Away(String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(words) => f.write_str(words),
            Self::Away(why) => f.write_str(why),
        }
    }
}

/// The words for a watch, if this is what a cluster with authentication answers somebody who may not ask.
pub(super) fn refusal(status: &Status) -> Option<Arc<str>> {
    let of_us = [
        Code::InvalidArgument,
        Code::PermissionDenied,
        Code::Unauthenticated,
    ];
    let is_refusal = status.source().is_none() && of_us.contains(&status.code());
    is_refusal.then(|| rpc_error(status).into())
}

/// The cluster's revision, as of some moment after this was asked.
pub(super) async fn revision_now(
    endpoints: &Endpoints,
    patience: Duration,
) -> Result<Revision, Unanswered> {
    let active = endpoints.usable().await.map_err(Unanswered::Away)?;
    let request = RangeRequest {
        key: Bytes::from_static(b"\0"),
        count_only: true,
        ..RangeRequest::default()
    };
    let mut client = KvClient::new(active.channel);
    let header = match timeout(patience, client.range(request)).await {
        Ok(Ok(answer)) => answer.into_inner().header.unwrap_or_default(),
        Ok(Err(status)) => {
            if let Some(words) = refusal(&status) {
                return Err(Unanswered::Refused(words));
            }
            endpoints.doubt(active.generation);
            let why = format!("{}: {}", active.name, status.message());
            return Err(Unanswered::Away(why));
        }
        Err(_) => {
            endpoints.give_up(active.generation);
            let within = patience.as_millis();
            let why = format!("{}: no answer within {within} ms", active.name);
            return Err(Unanswered::Away(why));
        }
    };
    endpoints.note(&header);
    Ok(Revision(header.revision))
}
