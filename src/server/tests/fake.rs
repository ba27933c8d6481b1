//! A backend that does as little as the edge needs: a map without history, and streams that the test itself feeds.
//!
//! It never waits, and refuses what it is told to refuse.

use crate::backend::{
    Backend, BackendError, Depth, GrantedLease, Identity, Inspection, LeaseTime, Outbox,
    OutboxLimits, OutboxReader, SnapshotPart, StoreBackend, StoreHash, StoreStatus, StreamItem,
    WatchControl, WatchCreate, WatchRejection,
};
use crate::model::{
    Alarm, DeleteRange, KeyRange, KeyValue, LeaseId, Op, OpAnswer, OpBody, Put, RangeAnswer,
    RangeQuery, Refusal, Revision, TxnAnswer, WatchId, Write, WriteAnswer,
};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;
use tokio::sync::Notify;

/// Who the fake says it is.
pub(super) const IDENTITY: Identity = Identity {
    cluster_id: 11,
    member_id: 22,
    raft_term: 33,
};

#[derive(Debug, Default)]
pub(super) struct State {
    kvs: BTreeMap<Bytes, KeyValue>,
    pub(super) revision: i64,
    /// Refuse answers of more keys.
    pub(super) keys_per_answer_max: Option<usize>,
    /// Every query, in order.
    pub(super) queries: Vec<RangeQuery>,
    /// On which threads queries were answered.
    pub(super) threads: Vec<ThreadId>,
    /// Every watch asked for, in order.
    pub(super) creates: Vec<WatchCreate>,
    pub(super) cancels: Vec<WatchId>,
    /// The outbox of each stream, in order.
    pub(super) outboxes: Vec<Arc<Outbox>>,
    /// Writes wait for this, when set.
    pub(super) gate: Option<Arc<Notify>>,
    /// Writes that have begun.
    pub(super) writes: usize,
    /// What writes and compactions are answered with instead, once each.
    pub(super) errors: Vec<BackendError>,
    /// What every query is answered with instead.
    pub(super) refuses_queries: Option<Refusal>,
    /// Watches of this key are refused, in these words.
    pub(super) refuses_watches: Option<(&'static str, &'static str)>,
    /// Nobody who asks for a leader is let in.
    pub(super) leaderless: bool,
    /// The leader is lost, for those who are in.
    pub(super) leader_lost: Arc<Notify>,
}

#[derive(Clone, Debug)]
pub(super) struct Fake {
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub(super) fn new() -> Self {
        let state = State {
            revision: 1,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The outbox of the stream opened last.
    pub(super) fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(self.state().outboxes.last().unwrap())
    }
}

impl State {
    fn range(&self, query: &RangeQuery) -> RangeAnswer {
        let all: Vec<_> = self
            .kvs
            .values()
            .filter(|kv| query.range.contains(&kv.key))
            .cloned()
            .collect();
        let limit = usize::try_from(query.limit).unwrap_or(0);
        let shown = match limit {
            _ if query.count_only => 0,
            0 => all.len(),
            limit => limit.min(all.len()),
        };
        RangeAnswer {
            more: !query.count_only && shown < all.len(),
            count: i64::try_from(all.len()).unwrap(),
            kvs: all[..shown].iter().cloned().map(Arc::new).collect(),
        }
    }

    fn put(&mut self, put: &Put, at: Revision) -> OpBody {
        let prev = self.kvs.get(&put.key).cloned();
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: prev.as_ref().map_or(at, |kv| kv.create_revision),
            mod_revision: at,
            version: prev.as_ref().map_or(1, |kv| kv.version + 1),
            value: put.value.clone(),
            lease: put.lease,
        };
        self.kvs.insert(put.key.clone(), kv);
        OpBody::Put {
            prev: prev.filter(|_| put.prev_kv),
        }
    }

    fn delete(&mut self, delete: &DeleteRange) -> OpBody {
        let prevs: Vec<_> = self.range(&RangeQuery::latest(delete.range.clone())).kvs;
        for kv in &prevs {
            self.kvs.remove(&kv.key);
        }
        OpBody::Delete {
            deleted: i64::try_from(prevs.len()).unwrap(),
            prevs: if delete.prev_kv {
                prevs.into_iter().map(Arc::unwrap_or_clone).collect()
            } else {
                Vec::new()
            },
        }
    }

    fn op(&mut self, op: &Op, at: Revision) -> OpAnswer {
        let body = match op {
            Op::Range(query) => OpBody::Range(self.range(query)),
            Op::Put(put) => self.put(put, at),
            Op::Delete(delete) => self.delete(delete),
            Op::Txn(_) => panic!("not needed here"),
        };
        OpAnswer { revision: at, body }
    }
}

impl Backend for Fake {
    type Control = Control;

    fn identity(&self) -> Identity {
        IDENTITY
    }

    fn revision(&self) -> Revision {
        Revision(self.state().revision)
    }

    fn store(&self) -> Option<StoreStatus> {
        Some(self.status())
    }

    async fn check(&self, _depth: Depth) -> Result<(), BackendError> {
        Ok(())
    }

    async fn inspect(&self) -> Vec<Inspection> {
        Vec::new()
    }

    fn has_leader(&self) -> bool {
        !self.state().leaderless
    }

    fn leader_lost(&self) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.state().leader_lost).notified_owned()
    }

    fn open_stream(&self) -> Result<(Control, OutboxReader), BackendError> {
        let outbox = Arc::new(Outbox::new(OutboxLimits::default()));
        let mut state = self.state();
        state.outboxes.push(Arc::clone(&outbox));
        let control = Control {
            fake: self.clone(),
            outbox: Arc::clone(&outbox),
        };
        Ok((control, OutboxReader::detached(outbox)))
    }
}

impl StoreBackend for Fake {
    fn status(&self) -> StoreStatus {
        StoreStatus {
            revision: self.revision(),
            disk_bytes: 1000,
            live_bytes: 100,
            compact_revision: Revision(0),
            quota_bytes: Some(5000),
            alarms: Arc::default(),
            is_disk_full: false,
            is_defragmenting: false,
        }
    }

    async fn range(&self, query: RangeQuery) -> Result<(Revision, RangeAnswer), BackendError> {
        let mut state = self.state();
        state.threads.push(std::thread::current().id());
        state.queries.push(query.clone());
        if let Some(refusal) = &state.refuses_queries {
            return Err(refusal.clone().into());
        }
        let answer = state.range(&query);
        if let Some(max) = state.keys_per_answer_max
            && answer.kvs.len() > max
        {
            return Err(Refusal::AnswerTooLarge { max }.into());
        }
        Ok((Revision(state.revision), answer))
    }

    async fn write(&self, write: Write) -> Result<WriteAnswer, BackendError> {
        let gate = {
            let mut state = self.state();
            state.writes += 1;
            state.gate.clone()
        };
        if let Some(gate) = gate {
            gate.notified().await;
        }
        let mut state = self.state();
        if let Some(error) = state.errors.pop() {
            return Err(error);
        }
        state.revision += 1;
        let revision = Revision(state.revision);
        let body = match &write {
            Write::Put(put) => state.put(put, revision),
            Write::Delete(delete) => state.delete(delete),
            Write::Txn(txn) => OpBody::Txn(TxnAnswer {
                succeeded: true,
                responses: txn
                    .success
                    .iter()
                    .map(|op| state.op(op, revision))
                    .collect(),
            }),
            Write::LeaseGrant(_) | Write::LeaseRevoke(_) => OpBody::Lease,
        };
        Ok(WriteAnswer { revision, body })
    }

    async fn grant_lease(&self, _id: LeaseId, _ttl: i64) -> Result<GrantedLease, BackendError> {
        Err(BackendError::Stopped)
    }

    async fn revoke_lease(&self, _id: LeaseId) -> Result<Revision, BackendError> {
        Err(BackendError::Stopped)
    }

    async fn keep_leases_alive(&self, ids: Vec<LeaseId>) -> Result<Vec<i64>, BackendError> {
        Ok(ids.into_iter().map(|id| id.0 * 2).collect())
    }

    async fn lease_time(&self, _id: LeaseId) -> Result<Option<LeaseTime>, BackendError> {
        Ok(None)
    }

    async fn keys_of_lease(&self, _id: LeaseId) -> Result<Vec<Bytes>, BackendError> {
        Ok(Vec::new())
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, BackendError> {
        Ok(Vec::new())
    }

    async fn compact(&self, _at: Revision, _physical: bool) -> Result<Revision, BackendError> {
        let mut state = self.state();
        match state.errors.pop() {
            Some(error) => Err(error),
            None => Ok(Revision(state.revision)),
        }
    }

    async fn hash(&self, _at: Option<Revision>) -> Result<StoreHash, BackendError> {
        Err(BackendError::TooManyRequests)
    }

    fn snapshot(&self) -> BoxStream<'static, Result<SnapshotPart, BackendError>> {
        stream::empty().boxed()
    }

    async fn defragment(&self) -> Result<(), BackendError> {
        Err(BackendError::Stopped)
    }

    async fn set_alarm(&self, _alarm: Alarm, _raise: bool) -> Result<bool, BackendError> {
        Ok(false)
    }
}

/// The commanding end of a fake stream.
#[derive(Debug)]
pub(super) struct Control {
    fake: Fake,
    outbox: Arc<Outbox>,
}

impl WatchControl for Control {
    async fn create(&mut self, creates: Vec<WatchCreate>) {
        let mut state = self.fake.state();
        for create in creates {
            let revision = Revision(state.revision);
            let is_of = |key: &str| create.range.contains(key.as_bytes());
            let refused = state.refuses_watches.filter(|(key, _)| is_of(key));
            self.outbox.push(match refused {
                Some((_, words)) => StreamItem::Rejected {
                    revision,
                    reason: WatchRejection::Refused(words.into()),
                },
                None => StreamItem::Created {
                    watch_id: create.watch_id,
                    revision,
                },
            });
            state.creates.push(create);
        }
    }

    async fn cancel(&mut self, watch_id: WatchId) {
        let mut state = self.fake.state();
        state.cancels.push(watch_id);
        self.outbox.push(StreamItem::Canceled {
            watch_id,
            revision: Revision(state.revision),
        });
    }

    async fn request_progress(&mut self) {
        self.outbox.push(StreamItem::Progress {
            watch_id: WatchId::STREAM,
            revision: Revision(self.fake.state().revision),
        });
    }

    fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }
}

/// The range of one key, for queries that do not matter.
pub(super) fn one_key() -> KeyRange {
    KeyRange::single("k")
}
