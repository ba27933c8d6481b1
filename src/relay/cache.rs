//! What a relay knows of a prefix: its keys at one revision, kept by what its cover tells, to answer reads from.
//!
//! It answers only what it knows for certain, at a revision that the request allows, and leaves everything else to the
//! cluster: who asks gets the same answer either way. Nothing is written here but what the cluster has said.

use super::backoff::Backoff;
use super::cover::Seat;
use super::covers::Covers;
use super::heard::key_value;
use crate::api::pb::etcdserverpb::kv_client::KvClient;
use crate::api::pb::etcdserverpb::range_request::SortOrder;
use crate::api::pb::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::api::pb::mvccpb;
use crate::backend::Measure;
use crate::fault::{self, Fault};
use crate::model::{Commit, EventKind, KeyRange, KeyValue, LeaseId, Revision};
use crate::watch::RingRead;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Keys that are read at a time while a cache is filled.
const PAGE_KEYS: i64 = 1000;
/// How long the answer to one page may take.
const PAGE_WITHIN: Duration = Duration::from_secs(10);
/// How long a linearizable read may wait for what the cluster is known to have; then the cluster is asked itself.
const READ_PATIENCE: Duration = Duration::from_secs(1);

/// The keys of a prefix.
#[derive(Debug)]
pub(super) struct Cache {
    range: KeyRange,
    state: RwLock<Option<State>>,
    /// How far the state has come; 0 while there is none.
    revision: watch::Sender<Revision>,
}

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<Bytes, KeyValue>,
    revision: Revision,
}

/// All caches of a relay. A clone is the same ones.
#[derive(Clone, Debug)]
pub struct Caches {
    all: Arc<[Arc<Cache>]>,
    covers: Covers,
}

impl Caches {
    /// Caches of these prefixes, which fill from now on. To be called on the thread that the covers are fed on.
    pub fn start(covers: &Covers, prefixes: &[Bytes]) -> Self {
        let cache = |prefix: &Bytes| {
            let cache = Arc::new(Cache {
                range: KeyRange::prefix(prefix.clone()),
                state: RwLock::new(None),
                revision: watch::Sender::new(Revision::default()),
            });
            actix_rt::spawn(keep(Arc::clone(&cache), covers.clone()));
            cache
        };
        Self {
            all: prefixes.iter().map(cache).collect(),
            covers: covers.clone(),
        }
    }

    /// True when there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What there is to tell of them in numbers.
    pub(super) fn measures(&self) -> Vec<Measure> {
        let samples = self.all.iter().map(|cache| {
            let prefix = String::from_utf8_lossy(&cache.range.start).into_owned();
            let revision = cache.revision.borrow().0;
            (
                Some(("start", prefix)),
                u64::try_from(revision).unwrap_or(0),
            )
        });
        vec![Measure {
            name: "vigil_relay_cache_revision",
            is_counter: false,
            help: "How far a cache has come, by the first key of its prefix; 0 while it is being filled.",
            samples: samples.collect(),
        }]
    }

    /// Answers a read; nothing when the cluster has to.
    pub(super) async fn answer(&self, request: &RangeRequest) -> Option<RangeResponse> {
        let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
        if !is_simple(request) || range.is_empty() || request.key.is_empty() {
            return None;
        }
        let holds = |cache: &&Arc<Cache>| cache.range.encloses(&range);
        let cache = self.all.iter().find(holds)?;
        if !request.serializable {
            let known = *cache.revision.borrow();
            // Whoever was answered before this was asked is seen by a majority, and so by this.
            let now = self.covers.revision_now().await.ok()?;
            if now < known {
                // The cluster was put back to an earlier state: what is known here has not happened.
                return None;
            }
            if !fault::active(Fault::CacheDoesNotWait) {
                cache.reach(now, &self.covers).await?;
            }
        }
        let identity = self.covers.endpoints().identity();
        let (revision, answer) = cache.read(&range, request)?;
        let header = ResponseHeader {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            revision: revision.0,
            raft_term: identity.raft_term,
        };
        Some(RangeResponse {
            header: Some(header),
            ..answer
        })
    }
}

/// True for a read of what there is now, in the order of the keys.
fn is_simple(request: &RangeRequest) -> bool {
    let is_by_key = request.sort_target == 0;
    let orders = [SortOrder::None as i32, SortOrder::Ascend as i32];
    let is_of_all = request.min_mod_revision == 0
        && request.max_mod_revision == 0
        && request.min_create_revision == 0
        && request.max_create_revision == 0;
    let is_now = request.revision == 0 && request.limit >= 0;
    is_now && is_of_all && is_by_key && orders.contains(&request.sort_order)
}

impl Cache {
    /// What is in a range, and the revision of that; nothing while the cache is not filled.
    fn read(&self, range: &KeyRange, request: &RangeRequest) -> Option<(Revision, RangeResponse)> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let state = state.as_ref()?;
        let mut answer = RangeResponse::default();
        let limit = usize::try_from(request.limit).unwrap_or(0);
        for kv in state
            .keys
            .range::<[u8], _>(range.bounds())
            .map(|(_, kv)| kv)
        {
            answer.count += 1;
            if request.count_only {
                continue;
            }
            if limit > 0 && answer.kvs.len() >= limit {
                answer.more = true;
                continue;
            }
            if request.keys_only && kv.lease != LeaseId::default() {
                // Whether it is told without the value depends on how old the cluster's members are.
                return None;
            }
            answer.kvs.push(told(kv, request.keys_only));
        }
        let ahead = fault::active(Fault::CacheHeaderAhead);
        let revision = if ahead {
            state.revision.next()
        } else {
            state.revision
        };
        Some((revision, answer))
    }

    /// Waits until the cache has come so far; nothing when it takes too long.
    async fn reach(&self, goal: Revision, covers: &Covers) -> Option<()> {
        let mut revision = self.revision.subscribe();
        if *revision.borrow_and_update() < goal {
            covers.hurry(&self.range, goal);
        }
        let reached = revision.wait_for(|revision| *revision >= goal);
        timeout(READ_PATIENCE, reached).await.ok()?.ok()?;
        Some(())
    }

    fn fill(&self, keys: BTreeMap<Bytes, KeyValue>, revision: Revision) {
        *self.write() = Some(State { keys, revision });
        self.revision.send_replace(revision);
    }

    fn empty(&self) {
        *self.write() = None;
        self.revision.send_replace(Revision::default());
    }

    /// Takes in what has happened up to a revision.
    fn advance(&self, commits: &[Arc<Commit>], to: Revision) {
        let mut state = self.write();
        let Some(state) = state.as_mut() else {
            return;
        };
        let events = commits.iter().flat_map(|commit| &commit.events);
        for event in events.filter(|event| self.range.contains(&event.kv.key)) {
            match event.kind {
                EventKind::Put => state.keys.insert(event.kv.key.clone(), event.kv.clone()),
                EventKind::Delete if fault::active(Fault::CacheKeepsDeleted) => None,
                EventKind::Delete => state.keys.remove(&event.kv.key),
            };
        }
        state.revision = to;
        self.revision.send_replace(to);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<State>> {
        // What a panic has left behind is never taken for the state of a revision: that is set last.
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told(kv: &KeyValue, keys_only: bool) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key.clone(),
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version,
        value: if keys_only {
            Bytes::new()
        } else {
            kv.value.clone()
        },
        lease: kv.lease.0,
    }
}

/// Keeps a cache for ever: fills it, follows what happens, and begins anew when it has lost the thread.
async fn keep(cache: Arc<Cache>, covers: Covers) {
    let mut backoff = Backoff::default();
    loop {
        let seat = covers.seat(&cache.range, false);
        let why = follow(&cache, &covers, &seat, &mut backoff).await;
        log::warn!("a cache is filled anew: {why}");
        if !fault::active(Fault::CacheOutlivesCover) {
            cache.empty();
        }
        sleep(backoff.next()).await;
    }
}

/// Follows what happens until that cannot go on; answers why.
async fn follow(cache: &Cache, covers: &Covers, seat: &Seat, backoff: &mut Backoff) -> String {
    let cover = &seat.cover;
    let version = cover.plan().version;
    let goal = match covers.revision_in_the_end().await {
        Ok(revision) => revision,
        Err(why) => return why.to_string(),
    };
    if let Err(why) = cover.reach(version, goal, covers.limits().patience).await {
        return why.to_string();
    }
    let Some(broadcast) = cover.broadcast() else {
        return "nothing is watched".to_owned();
    };
    // From where all of the prefix is watched, which is never before this.
    let mut at = broadcast.head();
    let from = if fault::active(Fault::CacheFilledOneEarly) {
        at.previous()
    } else {
        at
    };
    match load(cache, covers, from).await {
        Ok(keys) => cache.fill(keys, at),
        Err(why) => return why,
    }
    let mut standing = cover.standing();
    loop {
        standing.borrow_and_update();
        match broadcast.read_on(at) {
            RingRead::Commits(commits) => {
                at = commits.last().map_or(at, |commit| commit.revision);
                cache.advance(&commits, at);
            }
            RingRead::Quiet(to) => {
                at = to;
                cache.advance(&[], at);
            }
            RingRead::Level => {
                backoff.reset();
                if cover.plan().closed || standing.changed().await.is_err() {
                    return "its cover is no more".to_owned();
                }
            }
            RingRead::Overrun => return "it was overrun".to_owned(),
        }
    }
}

/// All keys of the prefix at one revision.
async fn load(
    cache: &Cache,
    covers: &Covers,
    at: Revision,
) -> Result<BTreeMap<Bytes, KeyValue>, String> {
    let mut keys = BTreeMap::new();
    let (mut key, range_end) = super::call::wire(&cache.range);
    loop {
        let active = covers.endpoints().usable().await?;
        let request = RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            revision: at.0,
            limit: PAGE_KEYS,
            serializable: true,
            ..RangeRequest::default()
        };
        let mut client = KvClient::new(active.channel).max_decoding_message_size(usize::MAX);
        let page = timeout(PAGE_WITHIN, client.range(request)).await;
        let page = page.map_err(|_| format!("{} does not answer", active.name))?;
        let page = page.map_err(|status| format!("{}: {}", active.name, status.message()))?;
        let page = page.into_inner();
        if let Some(last) = page.kvs.last() {
            key = [last.key.as_ref(), &[0]].concat().into();
        }
        for kv in &page.kvs {
            let kv = key_value(kv);
            keys.insert(kv.key.clone(), kv);
        }
        if !page.more {
            return Ok(keys);
        }
    }
}
