//! The engine on this machine, as one worker's backend.
//!
//! It passes on, and decides nothing.

use super::{
    Backend, BackendError, Depth, GrantedLease, Identity, Inspection, LeaseTime, StoreBackend,
    StoreStatus, WatchControl, WatchCreate,
};
use crate::actors::{Engine, Outbox, OutboxReader, SnapshotPart, StoreHash, WatchStream};
use crate::model::{
    Alarm, KeyRange, LeaseId, RangeAnswer, RangeQuery, Revision, WatchId, Write, WriteAnswer,
};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::sync::Arc;

/// The raft term that headers carry: a store of one member elected itself once, before it was born.
const RAFT_TERM: u64 = 2;
/// No key is smaller.
const FIRST_KEY: &[u8] = b"\0";

/// The engine, as seen from one worker's connections.
#[derive(Clone, Debug)]
pub struct LocalBackend {
    engine: Engine,
    worker: usize,
}

impl LocalBackend {
    /// The backend of the connections that live on this worker.
    pub fn new(engine: Engine, worker: usize) -> Self {
        Self { engine, worker }
    }
}

impl Backend for LocalBackend {
    type Control = WatchStream;

    fn identity(&self) -> Identity {
        let identity = self.engine.identity();
        Identity {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            raft_term: RAFT_TERM,
        }
    }

    fn revision(&self) -> Revision {
        self.engine.revision()
    }

    fn store(&self) -> Option<StoreStatus> {
        Some(self.status())
    }

    async fn check(&self, _depth: Depth) -> Result<(), BackendError> {
        // One member reads its own writes, so all reads are the same.
        let mut query = RangeQuery::latest(KeyRange::single(FIRST_KEY));
        query.keys_only = true;
        query.limit = 1;
        self.engine.range(query).await.map(drop)
    }

    async fn inspect(&self) -> Vec<Inspection> {
        self.engine.inspect().await
    }

    fn open_stream(&self) -> Result<(Self::Control, OutboxReader), BackendError> {
        self.engine.open_stream(self.worker)
    }
}

impl StoreBackend for LocalBackend {
    fn status(&self) -> StoreStatus {
        let view = self.engine.view();
        let sizes = view.sizes();
        StoreStatus {
            revision: self.revision(),
            disk_bytes: sizes.disk_bytes,
            live_bytes: sizes.live_bytes,
            compact_revision: view.compact_revision(),
            quota_bytes: Some(view.quota_bytes()).filter(|quota| *quota < u64::MAX),
            alarms: view.alarms(),
            is_disk_full: view.is_disk_full(),
            is_defragmenting: view.is_defragmenting(),
        }
    }

    async fn range(&self, query: RangeQuery) -> Result<(Revision, RangeAnswer), BackendError> {
        self.engine.range(query).await
    }

    async fn write(&self, write: Write) -> Result<WriteAnswer, BackendError> {
        self.engine.write_for(write, Some(self.worker)).await
    }

    async fn compact(&self, revision: Revision, physical: bool) -> Result<Revision, BackendError> {
        self.engine.compact(revision, physical).await
    }

    async fn grant_lease(
        &self,
        id: LeaseId,
        ttl_seconds: i64,
    ) -> Result<GrantedLease, BackendError> {
        self.engine.grant_lease(id, ttl_seconds).await
    }

    async fn revoke_lease(&self, id: LeaseId) -> Result<Revision, BackendError> {
        self.engine.revoke_lease(id).await
    }

    async fn keep_leases_alive(&self, ids: Vec<LeaseId>) -> Result<Vec<i64>, BackendError> {
        self.engine.keep_leases_alive(ids).await
    }

    async fn lease_time(&self, id: LeaseId) -> Result<Option<LeaseTime>, BackendError> {
        self.engine.lease_time(id).await
    }

    async fn keys_of_lease(&self, id: LeaseId) -> Result<Vec<Bytes>, BackendError> {
        Ok(self.engine.keys_of_lease(id))
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, BackendError> {
        self.engine.leases().await
    }

    async fn hash(&self, at: Option<Revision>) -> Result<StoreHash, BackendError> {
        self.engine.hash(at).await
    }

    fn snapshot(&self) -> BoxStream<'static, Result<SnapshotPart, BackendError>> {
        self.engine.snapshot()
    }

    async fn defragment(&self) -> Result<(), BackendError> {
        self.engine.defragment().await
    }

    async fn set_alarm(&self, alarm: Alarm, raise: bool) -> Result<bool, BackendError> {
        self.engine.set_alarm(alarm, raise).await
    }
}

impl WatchControl for WatchStream {
    async fn create(&mut self, creates: Vec<WatchCreate>) {
        Self::create(self, creates).await;
    }

    async fn cancel(&mut self, watch_id: WatchId) {
        Self::cancel(self, watch_id).await;
    }

    async fn request_progress(&mut self) {
        Self::request_progress(self).await;
    }

    fn outbox(&self) -> &Arc<Outbox> {
        Self::outbox(self)
    }
}
