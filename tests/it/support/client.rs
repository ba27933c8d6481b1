//! A client of the KV and Watch calls over the generated stubs: one request, one answer, no retries, no repair.
//!
//! Calls named `try_*` and those that take a whole request hand the status back; the short ones expect success.

use super::pb::kv_client::KvClient;
use super::pb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use super::requests::get;
use super::stream::WatchStream;
use super::wait::within;
use bytes::Bytes;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Error};

/// A connection to a server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    /// Opens a connection.
    pub(crate) async fn connect(endpoint: &str) -> Result<Self, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{endpoint}"))?;
        let channel = endpoint.connect().await?;
        Ok(Self { channel })
    }

    /// Opens a connection on which a server may send no more than so many bytes ahead of what is read of a call.
    pub(crate) async fn connect_narrow(endpoint: &str, bytes: u32) -> Result<Self, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{endpoint}"))?;
        let endpoint = endpoint.initial_stream_window_size(bytes);
        let channel = endpoint.connect().await?;
        Ok(Self { channel })
    }

    /// The connection, for stubs that have no method here.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Opens a watch stream.
    pub(crate) fn watch(&self) -> WatchStream {
        WatchStream::open(self.channel())
    }

    /// Puts `key` and returns the revision.
    pub(crate) async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> i64 {
        let request = PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        };
        let answer = self.try_put(request).await.expect("a put is accepted");
        answer
            .header
            .expect("a put is answered with a header")
            .revision
    }

    /// Puts.
    pub(crate) async fn try_put(&self, request: PutRequest) -> Result<PutResponse, Status> {
        let answer = within("a put", self.kv().put(request)).await?;
        Ok(answer.into_inner())
    }

    /// Deletes a range, `range_end` as on the wire, and returns what was answered.
    pub(crate) async fn delete(
        &self,
        key: impl Into<Bytes>,
        range_end: impl Into<Bytes>,
    ) -> DeleteRangeResponse {
        let request = DeleteRangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: false,
        };
        self.try_delete(request)
            .await
            .expect("a delete is accepted")
    }

    /// Deletes.
    pub(crate) async fn try_delete(
        &self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Status> {
        let answer = within("a delete", self.kv().delete_range(request)).await?;
        Ok(answer.into_inner())
    }

    /// Reads.
    pub(crate) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        let answer = within("a range", self.kv().range(request)).await?;
        Ok(answer.into_inner())
    }

    /// Runs a transaction.
    pub(crate) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        let answer = within("a txn", self.kv().txn(request)).await?;
        Ok(answer.into_inner())
    }

    /// Drops history before `revision`.
    pub(crate) async fn compact(&self, revision: i64) -> Result<CompactionResponse, Status> {
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        let answer = within("a compaction", self.kv().compact(request)).await?;
        Ok(answer.into_inner())
    }

    /// The store's revision.
    pub(crate) async fn revision(&self) -> i64 {
        let answer = self
            .range(get("revision"))
            .await
            .expect("a range is answered");
        answer
            .header
            .expect("a range is answered with a header")
            .revision
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }
}
