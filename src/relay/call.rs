//! One watch call to the cluster, with one watch in it.
//!
//! It passes on what is said, and looks into nothing.

use crate::api::pb::etcdserverpb::watch_client::WatchClient;
use crate::api::pb::etcdserverpb::watch_request::RequestUnion;
use crate::api::pb::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use crate::model::{KeyRange, RangeEnd, Revision};
use bytes::Bytes;
use futures_util::stream;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// The metadata by which a member without a leader is left.
pub(super) const HAS_LEADER: &str = "hasleader";
/// Requests on their way; more than these need not be said.
const REQUESTS_MAX: usize = 4;
/// How long the answer to the first request may take.
const OPENING_MAX: Duration = Duration::from_secs(5);

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

/// Begins a watch from `start` on.
pub(super) async fn open(
    channel: Channel,
    range: &KeyRange,
    start: Revision,
    with_prev: bool,
) -> Result<Call, Status> {
    let (key, range_end) = wire(range);
    let create = WatchCreateRequest {
        key,
        range_end,
        start_revision: start.0,
        progress_notify: true,
        prev_kv: with_prev,
        fragment: true,
        ..WatchCreateRequest::default()
    };
    let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
    let first = request(RequestUnion::CreateRequest(create));
    // There is room: it is new.
    let _ = requests.try_send(first);
    let sent = stream::unfold(receiver, async |mut receiver| {
        let request = receiver.recv().await?;
        Some((request, receiver))
    });
    let mut call = Request::new(sent);
    call.metadata_mut()
        .insert(HAS_LEADER, MetadataValue::from_static("true"));
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let opened = timeout(OPENING_MAX, client.watch(call)).await;
    let opened = opened.map_err(|_| Status::unavailable("no answer to a watch"))??;
    Ok(Call {
        requests,
        responses: opened.into_inner(),
    })
}

impl Call {
    /// What is said next; `None` at the end. May be dropped while it waits, and loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<WatchResponse>, Status> {
        self.responses.message().await
    }

    /// Asks how far it has come. While enough such questions are on their way, one more says nothing.
    pub(super) fn ask_progress(&self) {
        let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
        let _ = self.requests.try_send(request(ask));
    }
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}

/// A range as the protocol says it.
pub(super) fn wire(range: &KeyRange) -> (Bytes, Bytes) {
    let end = match &range.end {
        RangeEnd::Single => Bytes::new(),
        RangeEnd::Open => Bytes::from_static(b"\0"),
        RangeEnd::Until(end) => end.clone(),
    };
    (range.start.clone(), end)
}
