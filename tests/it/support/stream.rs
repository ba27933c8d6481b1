//! One raw watch stream: requests go out as they are written, responses come back as they were sent.
//!
//! It reads nothing ahead: what the test does not ask for stays in the connection, so a test that stops asking is a
//! client that has stalled.

use super::pb::watch_client::WatchClient;
use super::pb::watch_request::RequestUnion;
use super::pb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use super::requests::on;
use super::wait::within;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Extensions, Request, Response, Status, Streaming};

/// Ids of fences begin here, far from those that a probe picks or the server counts.
const FENCE_IDS: i64 = 1_000_000;

/// How long a stream may be silent before it is asked for progress once more.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// How many responses come between two requests for progress while they keep coming.
const ASK_EVERY: usize = 8;

type Opening = JoinHandle<Result<Response<Streaming<WatchResponse>>, Status>>;

/// A watch stream.
#[derive(Debug)]
pub(crate) struct WatchStream {
    /// Gone after `half_close`.
    requests: Option<mpsc::UnboundedSender<WatchRequest>>,
    responses: Responses,
    fences: i64,
}

/// A server may send its headers only with its first response, so a stream is opened beside its first request.
#[derive(Debug)]
enum Responses {
    Opening(Opening),
    Open(Box<Streaming<WatchResponse>>),
    Failed(Status),
}

impl WatchStream {
    /// Opens a stream.
    pub(crate) fn open(channel: Channel) -> Self {
        Self::open_with(channel, MetadataMap::new())
    }

    /// Opens a stream with metadata.
    pub(crate) fn open_with(channel: Channel, metadata: MetadataMap) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let requests = UnboundedReceiverStream::new(receiver);
        let request = Request::from_parts(metadata, Extensions::default(), requests);
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let opening = tokio::spawn(async move { client.watch(request).await });
        Self {
            requests: Some(sender),
            responses: Responses::Opening(opening),
            fences: 0,
        }
    }

    /// Sends a request as it is.
    pub(crate) fn send(&self, request: WatchRequest) {
        let requests = self.requests.as_ref().expect("not half-closed");
        // An error means that the stream has ended, which the next receive reports.
        let _ = requests.send(request);
    }

    /// Asks for a watch and does not wait.
    pub(crate) fn create(&self, create: WatchCreateRequest) {
        self.send_union(RequestUnion::CreateRequest(create));
    }

    /// Asks for the end of a watch and does not wait.
    pub(crate) fn cancel(&self, watch_id: i64) {
        self.send_union(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    /// Asks how far the stream has come and does not wait.
    pub(crate) fn progress(&self) {
        self.send_union(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    fn send_union(&self, union: RequestUnion) {
        self.send(WatchRequest {
            request_union: Some(union),
        });
    }

    /// Says that there are no more requests, and goes on listening.
    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next response, or how the stream ended (`Ok(None)`: in good order).
    pub(crate) async fn receive(&mut self) -> Result<Option<WatchResponse>, Status> {
        if let Responses::Opening(opening) = &mut self.responses {
            let opened = opening.await.expect("opening a stream does not panic");
            self.responses = match opened {
                Ok(response) => Responses::Open(Box::new(response.into_inner())),
                Err(status) => Responses::Failed(status),
            };
        }
        match &mut self.responses {
            Responses::Open(responses) => responses.next().await.transpose(),
            Responses::Failed(status) => Err(status.clone()),
            Responses::Opening(_) => unreachable!("opened above"),
        }
    }

    /// The next response; the stream must not end and must not be silent.
    pub(crate) async fn next(&mut self) -> WatchResponse {
        within("a watch response", self.receive())
            .await
            .expect("the stream lives")
            .expect("the stream goes on")
    }

    /// How the stream ends; whatever still comes before that is handed back too.
    pub(crate) async fn end(&mut self) -> (Vec<WatchResponse>, Result<(), Status>) {
        let mut rest = Vec::new();
        loop {
            match within("the stream's end", self.receive()).await {
                Ok(Some(response)) => rest.push(response),
                Ok(None) => return (rest, Ok(())),
                Err(status) => return (rest, Err(status)),
            }
        }
    }

    /// Asks for a watch, and returns its `created`, which must be the next response.
    pub(crate) async fn created(&mut self, create: WatchCreateRequest) -> WatchResponse {
        self.create(create);
        let response = self.next().await;
        assert!(
            response.created && !response.canceled && response.events.is_empty(),
            "created is next: {response:?}"
        );
        response
    }

    /// Asks for a watch that must be refused, and returns the refusal, which must be the next response.
    pub(crate) async fn rejected(&mut self, create: WatchCreateRequest) -> WatchResponse {
        self.create(create);
        let response = self.next().await;
        assert!(
            response.created && response.canceled && response.watch_id == -1,
            "a refusal is next: {response:?}"
        );
        assert_eq!(response.compact_revision, 0, "a refusal is no compaction");
        assert!(response.events.is_empty(), "a refusal has no events");
        response
    }

    /// The next response, which must have events.
    pub(crate) async fn next_events(&mut self) -> WatchResponse {
        let response = self.next().await;
        assert!(!response.events.is_empty(), "events are next: {response:?}");
        response
    }

    /// Responses with events until they hold `count` events.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<WatchResponse> {
        let mut responses = Vec::new();
        let mut seen = 0;
        while seen < count {
            let response = self.next_events().await;
            seen += response.events.len();
            responses.push(response);
        }
        assert_eq!(seen, count, "no more events than expected");
        responses
    }

    /// Asks for progress again and again, and reads until an answer says that everything up to `last()` was sent, or a
    /// watch is cancelled. Asked anew each time, so that writers may still be at work; `None` is "not known yet".
    pub(crate) async fn read_through(
        &mut self,
        last: impl Fn() -> Option<i64>,
    ) -> Vec<WatchResponse> {
        let mut seen = Vec::new();
        let reading = async {
            loop {
                // A request may be dropped while a watch is behind, so silence means to ask again.
                match tokio::time::timeout(ASK_AGAIN, self.receive()).await {
                    Err(_) => self.progress(),
                    Ok(response) => {
                        let response = response.expect("the stream lives").expect("it goes on");
                        let progress = response.watch_id == -1 && is_progress(&response);
                        let reached = last().is_some_and(|last| revision_of(&response) >= last);
                        let over = response.canceled || progress && reached;
                        seen.push(response);
                        if over {
                            return;
                        }
                        if seen.len() % ASK_EVERY == 0 {
                            self.progress();
                        }
                    }
                }
            }
        };
        within("progress up to the last write", reading).await;
        seen
    }

    /// Everything that the server says before it answers one more create. Answers to requests come in the order of the
    /// requests, so a request that was not answered by then will not be.
    pub(crate) async fn fence(&mut self) -> Vec<WatchResponse> {
        self.fences += 1;
        let watch_id = FENCE_IDS + self.fences;
        self.create(WatchCreateRequest {
            watch_id,
            ..on(format!("fence-{watch_id}"))
        });
        let mut before = Vec::new();
        loop {
            let response = self.next().await;
            if response.created && response.watch_id == watch_id {
                return before;
            }
            before.push(response);
        }
    }
}

/// True for a response that tells of progress and nothing else.
pub(crate) fn is_progress(response: &WatchResponse) -> bool {
    response.events.is_empty()
        && !response.created
        && !response.canceled
        && response.compact_revision == 0
}

/// The revision in a response's header.
pub(crate) fn revision_of(response: &WatchResponse) -> i64 {
    response
        .header
        .as_ref()
        .expect("every response has a header")
        .revision
}

/// The mod revisions of a response's events, in order.
pub(crate) fn revisions_in(response: &WatchResponse) -> Vec<i64> {
    response
        .events
        .iter()
        .map(|event| {
            event
                .kv
                .as_ref()
                .expect("every event has a key")
                .mod_revision
        })
        .collect()
}
