//! The Maintenance calls: how the server is.
//!
//! What it cannot do honestly it answers with Unimplemented rather than with a pretence.

use crate::api::convert;
use crate::api::pb::etcdserverpb as pb;
use crate::api::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::api::pb::etcdserverpb::maintenance_server::Maintenance;
use crate::api::status;
use crate::backend::Backend;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

/// The version of etcd whose API this is; clients switch features on by it.
const API_VERSION: &str = "3.6.14";
/// The storage version that goes with it.
const STORAGE_VERSION: &str = "3.6.0";

/// The Maintenance service in front of a backend.
#[derive(Debug)]
pub(super) struct MaintenanceService<B> {
    backend: B,
}

impl<B: Backend> MaintenanceService<B> {
    /// A service that tells of `backend`.
    pub(super) fn new(backend: B) -> Self {
        Self { backend }
    }
}

fn as_bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[tonic::async_trait]
impl<B: Backend> Maintenance for MaintenanceService<B> {
    type SnapshotStream = BoxStream<pb::SnapshotResponse>;

    async fn status(
        &self,
        _request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let identity = self.backend.identity();
        let store = self.backend.status();
        // There is no log beside the store, so the revision stands for the log's position.
        let position = u64::try_from(store.revision.0).unwrap_or(0);
        Ok(Response::new(pb::StatusResponse {
            header: Some(convert::header(identity, store.revision)),
            version: API_VERSION.to_owned(),
            db_size: as_bytes(store.disk_bytes),
            leader: identity.member_id,
            raft_index: position,
            raft_term: identity.raft_term,
            raft_applied_index: position,
            errors: Vec::new(),
            db_size_in_use: as_bytes(store.live_bytes),
            is_learner: false,
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: 0,
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        // Health checks ask for the list. Nothing raises an alarm here, so it is empty.
        if request.into_inner().action != AlarmAction::Get as i32 {
            return Err(status::unimplemented("Alarm other than GET"));
        }
        let header = convert::header(self.backend.identity(), self.backend.revision());
        Ok(Response::new(pb::AlarmResponse {
            header: Some(header),
            alarms: Vec::new(),
        }))
    }

    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        Err(status::unimplemented("Defragment"))
    }

    async fn hash(
        &self,
        _request: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        Err(status::unimplemented("Hash"))
    }

    async fn hash_kv(
        &self,
        _request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        Err(status::unimplemented("HashKV"))
    }

    async fn snapshot(
        &self,
        _request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(status::unimplemented("Snapshot"))
    }

    async fn move_leader(
        &self,
        _request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        Err(status::unimplemented("MoveLeader"))
    }

    async fn downgrade(
        &self,
        _request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(status::unimplemented("Downgrade"))
    }
}
