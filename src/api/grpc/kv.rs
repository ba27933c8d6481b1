//! The KV calls: convert, ask the backend, convert back.
//!
//! Nothing here decides what a read or a write means.

use super::range_stream;
use crate::api::convert::{self, RangeParts};
use crate::api::pb::etcdserverpb::kv_server::Kv;
use crate::api::pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use crate::api::status;
use crate::backend::{BackendError, StoreBackend};
use crate::model::{Refusal, Revision, Write};
use prost::Message;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

/// The KV service in front of a backend.
#[derive(Debug)]
pub(super) struct KvService<B> {
    backend: B,
    request_bytes_max: usize,
}

impl<B: StoreBackend> KvService<B> {
    /// A service that takes writes of at most `request_bytes_max`.
    pub(super) fn new(backend: B, request_bytes_max: usize) -> Self {
        Self {
            backend,
            request_bytes_max,
        }
    }

    /// Refuses a write that is larger than a request may be.
    fn check_size(&self, request: &impl Message) -> Result<(), Status> {
        let bytes = request.encoded_len();
        let max = self.request_bytes_max;
        if bytes > max {
            return Err(status::refusal(&Refusal::RequestTooLarge { bytes, max }));
        }
        Ok(())
    }
}

/// What the backend answered, or what is said of why it did not.
pub(super) fn answered<T>(answer: Result<T, BackendError>) -> Result<T, Status> {
    answer.map_err(|error| status::backend(&error))
}

fn accepted<T>(value: Result<T, Refusal>) -> Result<T, Status> {
    value.map_err(|reason| status::refusal(&reason))
}

#[tonic::async_trait]
impl<B: StoreBackend> Kv for KvService<B> {
    type RangeStreamStream = BoxStream<RangeStreamResponse>;

    /// The edge answers it without coming here; the trait asks for it.
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let query = accepted(convert::query(request.into_inner()))?;
        let (revision, answer) = answered(self.backend.range(query).await)?;
        let header = convert::header(self.backend.identity(), revision);
        let response = convert::range_response(Some(header), answer, RangeParts::All);
        Ok(Response::new(response))
    }

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let query = accepted(convert::query(request.into_inner()))?;
        let parts = range_stream::open(self.backend.clone(), query, self.request_bytes_max)?;
        Ok(Response::new(parts))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let request = request.into_inner();
        self.check_size(&request)?;
        let write = Write::Put(convert::put(&request));
        // The request's buffer is not needed while the disk is waited for.
        drop(request);
        let answer = answered(self.backend.write(write).await)?;
        let response = answered(convert::put_response(self.backend.identity(), answer))?;
        Ok(Response::new(response))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        self.check_size(&request)?;
        let write = Write::Delete(convert::delete(&request));
        drop(request);
        let answer = answered(self.backend.write(write).await)?;
        let response = answered(convert::delete_response(self.backend.identity(), answer))?;
        Ok(Response::new(response))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let request = request.into_inner();
        self.check_size(&request)?;
        let write = Write::Txn(accepted(convert::txn(request))?);
        let answer = answered(self.backend.write(write).await)?;
        let response = answered(convert::txn_response(self.backend.identity(), answer))?;
        Ok(Response::new(response))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let request = request.into_inner();
        let revision = Revision(request.revision);
        let current = answered(self.backend.compact(revision, request.physical).await)?;
        let header = convert::header(self.backend.identity(), current);
        Ok(Response::new(CompactionResponse {
            header: Some(header),
        }))
    }
}
