//! The Lock calls: a lock is held by whoever stands at the head of its line.
//!
//! Nothing here knows how one waits.

use super::waiting_line::{Place, answered};
use crate::api::convert;
use crate::api::pb::v3lockpb::lock_server::Lock;
use crate::api::pb::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use crate::api::status;
use crate::backend::StoreBackend;
use crate::model::{DeleteRange, KeyRange, LeaseId, RangeQuery, Write};
use bytes::Bytes;
use tonic::{Request, Response, Status};

/// The Lock service in front of a backend.
#[derive(Debug)]
pub(super) struct LockService<B> {
    backend: B,
}

impl<B: StoreBackend> LockService<B> {
    /// A service whose locks are keys of `backend`.
    pub(super) fn new(backend: B) -> Self {
        Self { backend }
    }
}

#[tonic::async_trait]
impl<B: StoreBackend> Lock for LockService<B> {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let LockRequest { name, lease } = request.into_inner();
        let backend = &self.backend;
        let place = Place::join(backend, &name, LeaseId(lease), Bytes::new()).await?;
        place.wait().await?;
        // The lease may have ended meanwhile, and the key with it.
        let own = RangeQuery::latest(KeyRange::single(place.key.clone()));
        let (revision, answer) = answered(backend.range(own).await)?;
        if answer.kvs.is_empty() {
            return Err(status::session_expired());
        }
        let (key, _) = place.keep();
        Ok(Response::new(LockResponse {
            header: Some(convert::header(backend.identity(), revision)),
            key,
        }))
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let delete = Write::Delete(DeleteRange {
            range: KeyRange::single(request.into_inner().key),
            prev_kv: false,
        });
        let answer = answered(self.backend.write(delete).await)?;
        let header = convert::header(self.backend.identity(), answer.revision);
        Ok(Response::new(UnlockResponse {
            header: Some(header),
        }))
    }
}
