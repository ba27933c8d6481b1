//! What stands behind the edge: what every backend has, what one with a store of its own has, and the engine as that.
//!
//! Nothing here knows a protocol; nothing in `api` knows which backend it has.

use crate::model::{
    Alarm, LeaseId, RangeAnswer, RangeQuery, Revision, WatchId, Write, WriteAnswer,
};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::future::{Future, pending};
use std::sync::Arc;

mod local;

pub use local::LocalBackend;

pub use crate::actors::EngineError as BackendError;
pub use crate::actors::{
    Batch, GrantedLease, Inspection, LeaseTime, Next, Outbox, OutboxLimits, OutboxReader, Room,
    SnapshotPart, StoreHash, StreamEnd, StreamItem, WatchCreate, WatchRejection,
};

/// Who answers: the numbers that every response header carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, random and fixed when the store is created.
    pub cluster_id: u64,
    /// This member, random and fixed when the store is created.
    pub member_id: u64,
    /// The raft term; a store of one member never elects, so it never changes.
    pub raft_term: u64,
}

/// What `Maintenance.Status` tells of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// The store's revision.
    pub revision: Revision,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes of it that hold live records, as far as known.
    pub live_bytes: u64,
    /// The oldest revision that may still be read.
    pub compact_revision: Revision,
    /// How many of them there may be; nothing when there is no quota.
    pub quota_bytes: Option<u64>,
    /// The alarms that are raised.
    pub alarms: Arc<[Alarm]>,
    /// Puts are refused because the disk is nearly full.
    pub is_disk_full: bool,
    /// A defragmentation runs.
    pub is_defragmenting: bool,
}

/// The commanding end of one watch stream. All outcomes arrive through the stream's outbox; dropping this end changes
/// nothing (a client may close its sending side and go on reading), dropping the [`OutboxReader`] ends the stream.
pub trait WatchControl: Send + 'static {
    /// Creates watches; returns when their outcomes are in the outbox, in the same order.
    fn create(&mut self, creates: Vec<WatchCreate>) -> impl Future<Output = ()> + Send;
    /// Cancels a watch; returns when the outcome is in the outbox. An unknown id is passed over in silence.
    fn cancel(&mut self, watch_id: WatchId) -> impl Future<Output = ()> + Send;
    /// Asks for the progress of the whole stream.
    fn request_progress(&mut self) -> impl Future<Output = ()> + Send;
    /// The stream's outbox.
    fn outbox(&self) -> &Arc<Outbox>;
}

/// How far a check of the backend's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Would it help to start this process again?
    Process,
    /// Does whoever answers here answer a read?
    Member,
    /// Does the whole cluster agree on one?
    Cluster,
}

/// A number that a backend has of itself, by the name and in the words of the metrics that show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Its name.
    pub name: &'static str,
    /// True for what only grows.
    pub is_counter: bool,
    /// What it says.
    pub help: &'static str,
    /// Its values, each with what it is the value of, if there is more than one.
    pub samples: Vec<(Option<(&'static str, String)>, u64)>,
}

/// What the edge serves: the engine on this machine, or a cluster behind a relay. Each worker thread has its own.
pub trait Backend: Clone + Send + Sync + 'static {
    /// The commanding end of this backend's watch streams.
    type Control: WatchControl;

    /// Who answers.
    fn identity(&self) -> Identity;
    /// The store's revision now, as far as it is known here.
    fn revision(&self) -> Revision;
    /// What there is to tell of the store, if it is here.
    fn store(&self) -> Option<StoreStatus>;
    /// What else there is to tell in numbers.
    fn measures(&self) -> Vec<Measure> {
        Vec::new()
    }
    /// Is the backend well? The error says why not.
    fn check(&self, depth: Depth) -> impl Future<Output = Result<(), BackendError>> + Send;
    /// What everything behind the edge holds, for metrics.
    fn inspect(&self) -> impl Future<Output = Vec<Inspection>> + Send;
    /// False when whoever answers here is known to be without a leader. An engine is its own.
    fn has_leader(&self) -> bool {
        true
    }
    /// Comes when a leader has been missing for so long that streams end whose clients asked for one; never to an engine.
    fn leader_lost(&self) -> impl Future<Output = ()> + Send + 'static {
        pending()
    }
    /// Opens a watch stream on the calling worker thread.
    fn open_stream(&self) -> Result<(Self::Control, OutboxReader), BackendError>;
}

/// A backend that has the store itself, and answers every other call in model values.
pub trait StoreBackend: Backend {
    /// What there is to tell of the store.
    fn status(&self) -> StoreStatus;
    /// Reads a range; the revision is the one that the answer's header carries.
    fn range(
        &self,
        query: RangeQuery,
    ) -> impl Future<Output = Result<(Revision, RangeAnswer), BackendError>> + Send;
    /// Changes the store; returns when the change is durable.
    fn write(&self, write: Write)
    -> impl Future<Output = Result<WriteAnswer, BackendError>> + Send;
    /// Forgets history below a revision; with `physical` returns when the disk has forgotten it too.
    fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> impl Future<Output = Result<Revision, BackendError>> + Send;
    /// Grants a lease; with [`LeaseId::NONE`] the backend chooses its id. Returns when that is durable.
    fn grant_lease(
        &self,
        id: LeaseId,
        ttl_seconds: i64,
    ) -> impl Future<Output = Result<GrantedLease, BackendError>> + Send;
    /// Ends a lease and deletes its keys in one revision, which it returns when that is durable.
    fn revoke_lease(
        &self,
        id: LeaseId,
    ) -> impl Future<Output = Result<Revision, BackendError>> + Send;
    /// Gives leases their whole time again; answers how many seconds that is for each, and 0 for one that is gone.
    fn keep_leases_alive(
        &self,
        ids: Vec<LeaseId>,
    ) -> impl Future<Output = Result<Vec<i64>, BackendError>> + Send;
    /// How long a lease lives; nothing when there is none, or its time is over.
    fn lease_time(
        &self,
        id: LeaseId,
    ) -> impl Future<Output = Result<Option<LeaseTime>, BackendError>> + Send;
    /// The keys of a lease.
    fn keys_of_lease(
        &self,
        id: LeaseId,
    ) -> impl Future<Output = Result<Vec<Bytes>, BackendError>> + Send;
    /// All leases, those that end first in front.
    fn leases(&self) -> impl Future<Output = Result<Vec<LeaseId>, BackendError>> + Send;
    /// The hash of all records up to a revision, or up to the last one.
    fn hash(
        &self,
        at: Option<Revision>,
    ) -> impl Future<Output = Result<StoreHash, BackendError>> + Send;
    /// A snapshot of the store at one revision, part by part.
    fn snapshot(&self) -> BoxStream<'static, Result<SnapshotPart, BackendError>>;
    /// Gives back what the data does not use of the disk; returns when that is done.
    fn defragment(&self) -> impl Future<Output = Result<(), BackendError>> + Send;
    /// Raises an alarm or takes it back, durably; answers whether it is, or was, raised.
    fn set_alarm(
        &self,
        alarm: Alarm,
        raise: bool,
    ) -> impl Future<Output = Result<bool, BackendError>> + Send;
}
