//! The Maintenance calls: how the server is.
//!
//! What it cannot do honestly it answers with Unimplemented rather than with a pretence.

use crate::api::convert;
use crate::api::pb::etcdserverpb as pb;
use crate::api::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::api::pb::etcdserverpb::downgrade_request::DowngradeAction;
use crate::api::pb::etcdserverpb::maintenance_server::Maintenance;
use crate::api::status;
use crate::api::stop::StopSignal;
use crate::backend::{StoreBackend, StoreHash, StoreStatus};
use crate::model::{Alarm, AlarmKind, Revision};
use futures_util::StreamExt;
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
    stop: StopSignal,
}

impl<B: StoreBackend> MaintenanceService<B> {
    /// A service that tells of `backend`, until the server stops.
    pub(super) fn new(backend: B, stop: StopSignal) -> Self {
        Self { backend, stop }
    }

    /// The hash at a revision; 0 is the last one.
    async fn hash(&self, revision: i64) -> Result<StoreHash, Status> {
        let at = Some(Revision(revision)).filter(|at| at.0 > 0);
        let hash = self.backend.hash(at).await;
        hash.map_err(|error| status::backend(&error))
    }
}

fn as_bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Which alarm is meant; nothing for all of them, or for none.
fn kind_of(alarm: pb::AlarmType) -> Option<AlarmKind> {
    match alarm {
        pb::AlarmType::None => None,
        pb::AlarmType::Nospace => Some(AlarmKind::NoSpace),
        pb::AlarmType::Corrupt => Some(AlarmKind::Corrupt),
    }
}

/// True for two or three numbers with points between them.
fn is_version(version: &str) -> bool {
    let numbers: Vec<_> = version.split('.').collect();
    let is_number = |part: &&str| part.parse::<u32>().is_ok();
    matches!(numbers.len(), 2 | 3) && numbers.iter().all(is_number)
}

fn member(alarm: &Alarm) -> pb::AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    };
    pb::AlarmMember {
        member_id: alarm.member_id,
        alarm: kind.into(),
    }
}

/// What is wrong, in etcd's words where it has any.
fn errors(store: &StoreStatus) -> Vec<String> {
    let told = store.alarms.iter().map(status::alarm);
    told.chain(store.is_disk_full.then(status::disk_full))
        .collect()
}

#[tonic::async_trait]
impl<B: StoreBackend> Maintenance for MaintenanceService<B> {
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
            errors: errors(&store),
            db_size_in_use: as_bytes(store.live_bytes),
            is_learner: false,
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: store.quota_bytes.map_or(0, as_bytes),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        let request = request.into_inner();
        let wanted = pb::AlarmType::try_from(request.alarm).map(kind_of);
        let alarms = match (AlarmAction::try_from(request.action), wanted) {
            (Ok(AlarmAction::Get), Ok(kind)) => {
                let raised = self.backend.status().alarms;
                let is_wanted = |alarm: &&Alarm| kind.is_none_or(|kind| alarm.kind == kind);
                raised.iter().filter(is_wanted).map(member).collect()
            }
            (Ok(action), Ok(Some(kind))) => {
                let alarm = Alarm {
                    member_id: request.member_id,
                    kind,
                };
                let raise = action == AlarmAction::Activate;
                let set = self.backend.set_alarm(alarm, raise).await;
                let is_told = set.map_err(|error| status::backend(&error))?;
                is_told.then(|| member(&alarm)).into_iter().collect()
            }
            // No alarm, or none that anybody knows, is none to raise or to take back.
            _ => Vec::new(),
        };
        let header = convert::header(self.backend.identity(), self.backend.revision());
        Ok(Response::new(pb::AlarmResponse {
            header: Some(header),
            alarms,
        }))
    }

    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        let mut stop = self.stop.clone();
        let defragmented = tokio::select! {
            defragmented = self.backend.defragment() => defragmented,
            // What is copied is given up with the store, which is closed after the last call.
            () = stop.stopped() => return Err(status::stopped()),
        };
        defragmented.map_err(|error| status::backend(&error))?;
        // etcd leaves the header out.
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(
        &self,
        _request: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        let hash = self.hash(0).await?;
        Ok(Response::new(pb::HashResponse {
            header: Some(convert::header(self.backend.identity(), hash.revision)),
            hash: hash.hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let hash = self.hash(request.into_inner().revision).await?;
        Ok(Response::new(pb::HashKvResponse {
            header: Some(convert::header(self.backend.identity(), hash.revision)),
            hash: hash.hash,
            compact_revision: hash.compact_revision.0,
            hash_revision: hash.hash_revision.0,
        }))
    }

    async fn snapshot(
        &self,
        _request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let parts = self.backend.snapshot().map(|part| {
            let part = part.map_err(|error| status::backend(&error))?;
            Ok(pb::SnapshotResponse {
                // etcd leaves the header out.
                header: None,
                remaining_bytes: part.bytes_left,
                blob: part.bytes,
                version: STORAGE_VERSION.to_owned(),
            })
        });
        Ok(Response::new(parts.boxed()))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        if request.into_inner().target_id != self.backend.identity().member_id {
            return Err(status::bad_leader_transferee());
        }
        // The one member leads already. etcd leaves the header out.
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let request = request.into_inner();
        match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Cancel) => Err(status::no_downgrade()),
            Ok(_) if is_version(&request.version) => Err(status::downgrade_target()),
            Ok(_) => Err(status::downgrade_version()),
            Err(_) => Err(status::unimplemented("this downgrade action")),
        }
    }
}
