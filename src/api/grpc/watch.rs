//! The reading side of a watch stream: takes the client's requests one by one and passes them on.
//!
//! Outcomes never come back here; they go through the stream's outbox, and the body sends them. Reading stops while too
//! many of them wait (P3).

use super::watch_body::WatchBody;
use super::{BoxError, EdgeLimits};
use crate::api::convert;
use crate::api::pb::etcdserverpb::WatchRequest;
use crate::api::pb::etcdserverpb::watch_request::RequestUnion;
use crate::api::status;
use crate::api::stop::StopSignal;
use crate::backend::{Backend, WatchControl};
use crate::model::WatchId;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response};
use std::borrow::Cow;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Streaming};
use tonic_prost::ProstDecoder;

/// What one stream's read buffer begins with, in bytes: watch requests are small.
const READ_BUFFER_BYTES: usize = 512;
/// The metadata that names the compression of messages.
const GRPC_ENCODING: &str = "grpc-encoding";
/// The metadata that names the compressions that are understood.
const GRPC_ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// No compression.
const IDENTITY: &str = "identity";

/// Answers one Watch call. Must run on the worker's own thread, inside its `LocalSet`.
pub(super) fn serve<B, R>(
    backend: &B,
    request: Request<R>,
    limits: EdgeLimits,
    stop: StopSignal,
) -> Response<Body>
where
    B: Backend,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    if let Some(encoding) = encoding(request.headers()) {
        let mut response = status::encoding_not_served(&encoding).into_http();
        let accepted = HeaderValue::from_static(IDENTITY);
        response
            .headers_mut()
            .insert(GRPC_ACCEPT_ENCODING, accepted);
        return response;
    }
    let (control, outbox) = match backend.open_stream() {
        Ok(stream) => stream,
        Err(error) => return status::backend(&error).into_http(),
    };
    let settings = BufferSettings::new(READ_BUFFER_BYTES, READ_BUFFER_BYTES);
    let decoder = ProstDecoder::<WatchRequest>::new(settings);
    let frame_bytes = limits.frame_bytes();
    let requests = Streaming::new_request(decoder, request.into_body(), None, Some(frame_bytes));
    let conductor = Conductor::start(requests, control, stop);
    let body = WatchBody::new(outbox, conductor, backend.identity(), frame_bytes);
    let mut response = Response::new(Body::new(body));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

/// How the messages of a call are compressed, if they are.
fn encoding(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let encoding = headers.get(GRPC_ENCODING)?;
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    (encoding != IDENTITY).then_some(encoding)
}

/// The task that reads a stream's requests, in the hands of the stream's body: it ends with the body.
#[derive(Debug)]
pub(super) struct Conductor {
    /// Comes when the reading side ends the stream.
    end: oneshot::Receiver<Status>,
    task: AbortHandle,
}

impl Conductor {
    fn start<C: WatchControl>(
        requests: Streaming<WatchRequest>,
        control: C,
        mut stop: StopSignal,
    ) -> Self {
        let (sender, end) = oneshot::channel();
        let task = tokio::task::spawn_local(async move {
            let status = tokio::select! {
                biased;
                () = stop.stopped() => status::stopped(),
                status = conduct(requests, control) => status,
            };
            // The body may be gone already; then nobody wants to know.
            let _ = sender.send(status);
        });
        Self {
            end,
            task: task.abort_handle(),
        }
    }

    /// One that reads nothing, and ends the stream when the test says so.
    #[cfg(test)]
    pub(super) fn scripted() -> (Self, oneshot::Sender<Status>) {
        let (sender, end) = oneshot::channel();
        let task = tokio::spawn(pending::<()>()).abort_handle();
        (Self { end, task }, sender)
    }

    /// How the reading side ended the stream, when it has.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        match Pin::new(&mut self.end).poll(cx) {
            Poll::Ready(Ok(status)) => Poll::Ready(status),
            // The task died without a word: a fault of ours, after which the client shall resume.
            Poll::Ready(Err(_)) => Poll::Ready(status::stopped()),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Conductor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads requests until the client has no more, which does not end the stream, or fails, which does.
async fn conduct<C: WatchControl>(mut requests: Streaming<WatchRequest>, mut control: C) -> Status {
    let outbox = Arc::clone(control.outbox());
    loop {
        outbox.control_room().await;
        match requests.message().await {
            Ok(Some(request)) => follow(&mut control, request).await,
            Ok(None) => break,
            Err(status) => return status,
        }
    }
    drop((requests, control, outbox));
    pending().await
}

/// Passes one request on; returns when its outcome is in the outbox.
async fn follow(control: &mut impl WatchControl, request: WatchRequest) {
    match request.request_union {
        Some(RequestUnion::CreateRequest(create)) => {
            control.create(convert::create(&create)).await;
        }
        Some(RequestUnion::CancelRequest(cancel)) => {
            control.cancel(WatchId(cancel.watch_id)).await;
        }
        Some(RequestUnion::ProgressRequest(_)) => control.request_progress().await,
        None => log::debug!("a watch request asks for nothing and is ignored"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb::etcdserverpb::WatchProgressRequest;
    use crate::backend::{Next, Outbox, OutboxLimits, OutboxReader, StreamItem, WatchCreate};
    use crate::model::Revision;
    use bytes::{BufMut, BytesMut};
    use http_body_util::Full;
    use prost::Message;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;

    /// Answers progress requests at once, and counts them.
    struct Counting {
        outbox: Arc<Outbox>,
        seen: Arc<AtomicUsize>,
    }

    impl WatchControl for Counting {
        async fn create(&mut self, _create: WatchCreate) {}

        async fn cancel(&mut self, _watch_id: WatchId) {}

        async fn request_progress(&mut self) {
            self.seen.fetch_add(1, Ordering::Relaxed);
            self.outbox.push(StreamItem::Progress {
                watch_id: WatchId::STREAM,
                revision: Revision(1),
            });
        }

        fn outbox(&self) -> &Arc<Outbox> {
            &self.outbox
        }
    }

    fn progress_requests(count: usize) -> Streaming<WatchRequest> {
        let request = WatchRequest {
            request_union: Some(RequestUnion::ProgressRequest(
                WatchProgressRequest::default(),
            )),
        };
        let message = request.encode_to_vec();
        let mut wire = BytesMut::new();
        for _ in 0..count {
            wire.put_u8(0);
            wire.put_u32(u32::try_from(message.len()).unwrap());
            wire.put_slice(&message);
        }
        let settings = BufferSettings::new(READ_BUFFER_BYTES, READ_BUFFER_BYTES);
        let body = Full::new(wire.freeze());
        Streaming::new_request(ProstDecoder::new(settings), body, None, None)
    }

    #[tokio::test]
    async fn p3_reading_stops_while_sixteen_control_responses_wait() {
        let outbox = Arc::new(Outbox::new(OutboxLimits::default()));
        let seen = Arc::new(AtomicUsize::new(0));
        let control = Counting {
            outbox: Arc::clone(&outbox),
            seen: Arc::clone(&seen),
        };
        let mut reader = OutboxReader::detached(outbox);
        let mut reading = std::pin::pin!(conduct(progress_requests(40), control));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(reading.as_mut().poll(&mut cx).is_pending());
        assert_eq!(seen.load(Ordering::Relaxed), 16);
        for drained in 1..=24 {
            assert!(matches!(
                reader.poll_next(&mut cx),
                Poll::Ready(Next::Item(_))
            ));
            assert!(reading.as_mut().poll(&mut cx).is_pending());
            assert_eq!(seen.load(Ordering::Relaxed), 16 + drained);
        }
        // All is read; the client's last word does not end the stream.
        while let Poll::Ready(Next::Item(_)) = reader.poll_next(&mut cx) {}
        assert!(reading.as_mut().poll(&mut cx).is_pending());
    }
}
