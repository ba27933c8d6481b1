//! The cluster behind the relay, as one worker's backend.
//!
//! It passes on, and decides nothing.

use super::cache::Caches;
use super::covers::Covers;
use super::endpoints::Endpoints;
use super::pass_on::PassOn;
use super::stream::RelayStream;
use crate::api::{Served, Serving};
use crate::backend::{
    Backend, BackendError, Depth, Identity, Inspection, Measure, OutboxReader, StoreStatus,
};
use crate::model::Revision;

/// The cluster, as seen from one worker's connections.
#[derive(Clone, Debug)]
pub struct RelayBackend {
    endpoints: Endpoints,
    covers: Covers,
    caches: Caches,
    /// The worker on whose thread those connections live.
    worker: usize,
}

impl RelayBackend {
    /// The backend of the connections that live on one worker.
    pub fn new(endpoints: Endpoints, covers: Covers, caches: Caches, worker: usize) -> Self {
        Self {
            endpoints,
            covers,
            caches,
            worker,
        }
    }
}

impl Served for RelayBackend {
    type Calls = PassOn;

    fn calls(&self, serving: Serving) -> PassOn {
        PassOn::new(self.endpoints.clone(), self.caches.clone(), serving)
    }
}

impl Backend for RelayBackend {
    type Control = RelayStream;

    fn identity(&self) -> Identity {
        self.endpoints.identity()
    }

    fn revision(&self) -> Revision {
        self.endpoints.revision()
    }

    fn store(&self) -> Option<StoreStatus> {
        None
    }

    fn measures(&self) -> Vec<Measure> {
        let mut measures = self.endpoints.measures();
        measures.extend(self.covers.measures());
        if !self.caches.is_empty() {
            measures.extend(self.caches.measures());
        }
        measures
    }

    async fn check(&self, depth: Depth) -> Result<(), BackendError> {
        let checked = match depth {
            // A relay that is started again finds the same cluster, and its clients would have to come back for nothing.
            Depth::Process => Ok(()),
            Depth::Member => self.endpoints.is_well_alone(),
            Depth::Cluster => self.endpoints.read_linearizable().await,
        };
        checked.map_err(BackendError::Failed)
    }

    async fn inspect(&self) -> Vec<Inspection> {
        self.covers.inspect().await
    }

    fn has_leader(&self) -> bool {
        self.endpoints.has_leader()
    }

    fn leader_lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.endpoints.leader_lost()
    }

    fn open_stream(&self) -> Result<(RelayStream, OutboxReader), BackendError> {
        Ok(RelayStream::open(&self.covers, self.worker))
    }
}
