//! The Lease calls: convert, ask the backend, convert back.
//!
//! Nothing here knows a time or a key. Keep-alives that a client has sent ahead are asked as one.

use super::kv::answered;
use crate::api::convert;
use crate::api::pb::etcdserverpb::lease_server::Lease;
use crate::api::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use crate::api::status;
use crate::api::stop::StopSignal;
use crate::backend::StoreBackend;
use crate::model::LeaseId;
use futures_util::future::ready;
use futures_util::stream::{self, StreamExt};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

/// How many keep-alives of one stream are asked at once.
const KEEP_ALIVES_PER_TURN_MAX: usize = 256;
/// The time to live of a lease that does not exist.
const NO_TTL: i64 = -1;

/// The Lease service in front of a backend.
#[derive(Debug)]
pub(super) struct LeaseService<B> {
    backend: B,
    stop: StopSignal,
}

impl<B: StoreBackend> LeaseService<B> {
    /// A service whose keep-alive streams end when `stop` is heard.
    pub(super) fn new(backend: B, stop: StopSignal) -> Self {
        Self { backend, stop }
    }
}

/// What one turn of a keep-alive stream is answered with; nothing is its end.
type Turn = Vec<Option<Result<LeaseKeepAliveResponse, Status>>>;

/// Answers what a client has sent since the last turn; an error of its stream comes behind what was sent before it.
async fn keep_alive<B: StoreBackend>(
    backend: B,
    asked: Vec<Result<LeaseKeepAliveRequest, Status>>,
) -> Turn {
    // Before they are renewed, so that its revision is not newer than what the answer says.
    let header = convert::header(backend.identity(), backend.revision());
    let (mut ids, mut end) = (Vec::with_capacity(asked.len()), Vec::new());
    for request in asked {
        match request {
            Ok(request) => ids.push(LeaseId(request.id)),
            Err(error) => {
                end = vec![Some(Err(error)), None];
                break;
            }
        }
    }
    let renewed = backend.keep_leases_alive(ids.clone()).await;
    let mut turn: Turn = match renewed {
        Ok(ttls) => {
            let response = |(id, ttl): (LeaseId, i64)| {
                Some(Ok(LeaseKeepAliveResponse {
                    header: Some(header),
                    id: id.0,
                    ttl,
                }))
            };
            ids.into_iter().zip(ttls).map(response).collect()
        }
        Err(error) => vec![Some(Err(status::backend(&error))), None],
    };
    turn.extend(end);
    turn
}

#[tonic::async_trait]
impl<B: StoreBackend> Lease for LeaseService<B> {
    type LeaseKeepAliveStream = BoxStream<LeaseKeepAliveResponse>;

    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let LeaseGrantRequest { id, ttl } = request.into_inner();
        let granted = answered(self.backend.grant_lease(LeaseId(id), ttl).await)?;
        Ok(Response::new(LeaseGrantResponse {
            header: Some(convert::header(self.backend.identity(), granted.revision)),
            id: granted.id.0,
            ttl: granted.ttl_seconds,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let id = LeaseId(request.into_inner().id);
        let revision = answered(self.backend.revoke_lease(id).await)?;
        Ok(Response::new(LeaseRevokeResponse {
            header: Some(convert::header(self.backend.identity(), revision)),
        }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (backend, mut stop) = (self.backend.clone(), self.stop.clone());
        let asked = request
            .into_inner()
            .ready_chunks(KEEP_ALIVES_PER_TURN_MAX)
            .then(move |asked| keep_alive(backend.clone(), asked));
        // A client that hears the end goes on elsewhere, or here when the server is back. When it is the client that ends,
        // its stream just ends.
        let stopped = stream::once(async move {
            stop.stopped().await;
            vec![Some(Err(status::stopped())), None]
        });
        let over = stream::once(async { vec![None] });
        let answers = asked.chain(over);
        let answers = stream::select(answers, stopped)
            .flat_map(stream::iter)
            .take_while(|answer| ready(answer.is_some()))
            .filter_map(ready);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let time = answered(self.backend.lease_time(LeaseId(id)).await)?;
        let keys = if keys && time.is_some() {
            answered(self.backend.keys_of_lease(LeaseId(id)).await)?
        } else {
            Vec::new()
        };
        let header = convert::header(self.backend.identity(), self.backend.revision());
        Ok(Response::new(LeaseTimeToLiveResponse {
            header: Some(header),
            id,
            ttl: time.map_or(NO_TTL, |time| time.left_seconds),
            granted_ttl: time.map_or(0, |time| time.ttl_seconds),
            keys,
        }))
    }

    async fn lease_leases(
        &self,
        _request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let leases = answered(self.backend.leases().await)?;
        let header = convert::header(self.backend.identity(), self.backend.revision());
        Ok(Response::new(LeaseLeasesResponse {
            header: Some(header),
            leases: leases
                .into_iter()
                .map(|id| LeaseStatus { id: id.0 })
                .collect(),
        }))
    }
}
