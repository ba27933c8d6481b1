//! What stands behind the edge: one trait, and the engine as its local implementation.
//!
//! Nothing here knows a protocol; nothing in `api` knows which backend it has.

use crate::model::{
    EventFilters, KeyRange, RangeAnswer, RangeQuery, Refusal, Revision, WatchId, Write, WriteAnswer,
};
use std::future::Future;
use std::sync::Arc;

pub use crate::actors::{
    Next, Outbox, OutboxLimits, OutboxReader, Room, StreamEnd, StreamItem, WatchRejection,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// The store's revision.
    pub revision: Revision,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes of it that hold live records, as far as known.
    pub live_bytes: u64,
}

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The request itself is at fault, and nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too much is in flight; trying again helps.
    #[error("too many requests in flight")]
    TooManyRequests,
    /// The store has stopped or is stopping.
    #[error("stopped")]
    Stopped,
    /// The store has failed and takes no more writes.
    #[error("{0}")]
    Failed(String),
}

/// A request for a new watch, as it came from the client.
#[derive(Clone, Debug)]
pub struct WatchCreate {
    /// The id that the client chose, or [`WatchId::AUTO`].
    pub watch_id: WatchId,
    /// The keys.
    pub range: KeyRange,
    /// The first revision wanted; 0 is "from now on".
    pub start_revision: i64,
    /// Which events are left out.
    pub filters: EventFilters,
    /// Events carry the previous value.
    pub prev_kv: bool,
    /// Large responses may be cut into fragments.
    pub fragment: bool,
    /// Tell of progress while nothing happens.
    pub progress_notify: bool,
}

/// The commanding end of one watch stream. All outcomes arrive through the stream's outbox; dropping this end changes
/// nothing (a client may close its sending side and go on reading), dropping the [`OutboxReader`] ends the stream.
pub trait WatchControl: Send + 'static {
    /// Creates a watch; returns when the outcome is in the outbox.
    fn create(&mut self, create: WatchCreate) -> impl Future<Output = ()> + Send;
    /// Cancels a watch; returns when the outcome is in the outbox. An unknown id is passed over in silence.
    fn cancel(&mut self, watch_id: WatchId) -> impl Future<Output = ()> + Send;
    /// Asks for the progress of the whole stream.
    fn request_progress(&mut self) -> impl Future<Output = ()> + Send;
    /// The stream's outbox.
    fn outbox(&self) -> &Arc<Outbox>;
}

/// What the edge serves: the engine on this machine, or a cluster behind a relay. Each worker thread has its own.
pub trait Backend: Clone + Send + Sync + 'static {
    /// The commanding end of this backend's watch streams.
    type Control: WatchControl;

    /// Who answers.
    fn identity(&self) -> Identity;
    /// The store's revision now.
    fn revision(&self) -> Revision;
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
    /// Opens a watch stream on the calling worker thread.
    fn open_stream(&self) -> Result<(Self::Control, OutboxReader), BackendError>;
}
