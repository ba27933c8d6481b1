//! The reading side of a watch stream: takes the client's requests in their order and passes them on.
//!
//! Outcomes never come back here; they go through the stream's outbox, and the body sends them. Reading stops while too
//! many of them wait (P3).

use super::read_ahead::{ReadAhead, Reader};
use super::watch_body::WatchBody;
use super::{BoxError, EdgeLimits};
use crate::api::convert;
use crate::api::pb::etcdserverpb::WatchRequest;
use crate::api::pb::etcdserverpb::watch_request::RequestUnion;
use crate::api::status;
use crate::api::stop::StopSignal;
use crate::backend::{Backend, WatchControl, WatchCreate};
use crate::fault::{self, Fault};
use crate::model::WatchId;
use bytes::Bytes;
use futures_util::FutureExt;
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
/// The metadata, and its one value, by which a client asks for a member that has a leader.
const HAS_LEADER: &str = "hasleader";
const IS_ASKED: &str = "true";

/// Answers one Watch call. Must run on the worker's own thread, inside its `LocalSet`.
pub(super) fn serve<B, R>(
    backend: &B,
    request: Request<R>,
    limits: EdgeLimits,
    stop: StopSignal,
) -> Response<Body>
where
    B: Backend,
    R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
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
    let asked = request.headers().get(HAS_LEADER);
    let asks_for_leader = asked.is_some_and(|asked| asked == IS_ASKED);
    let is_let_in = backend.has_leader() || fault::active(Fault::LeaderlessLetIn);
    if asks_for_leader && !is_let_in {
        return status::leader_lost().into_http();
    }
    let lost = asks_for_leader.then(|| backend.leader_lost());
    let (control, outbox) = match backend.open_stream() {
        Ok(stream) => stream,
        Err(error) => return status::backend(&error).into_http(),
    };
    let settings = BufferSettings::new(READ_BUFFER_BYTES, READ_BUFFER_BYTES);
    let decoder = ProstDecoder::<WatchRequest>::new(settings);
    let frame_bytes = limits.frame_bytes();
    let (ahead, reader) = ReadAhead::new(request.into_body());
    let requests = Streaming::new_request(decoder, ahead, None, Some(frame_bytes));
    let conductor = Conductor::start(requests, reader, control, stop, lost);
    let backend = backend.clone();
    let body = WatchBody::new(outbox, conductor, move || backend.identity(), frame_bytes);
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
    fn start<C, R>(
        requests: Streaming<WatchRequest>,
        reader: Reader<R>,
        control: C,
        mut stop: StopSignal,
        lost: Option<impl Future<Output = ()> + 'static>,
    ) -> Self
    where
        C: WatchControl,
        R: http_body::Body<Data = Bytes> + Unpin + 'static,
        R::Error: Into<BoxError>,
    {
        let (sender, end) = oneshot::channel();
        let lost = async move {
            match lost {
                Some(lost) => lost.await,
                None => pending().await,
            }
        };
        let task = tokio::task::spawn_local(async move {
            let status = tokio::select! {
                biased;
                () = stop.stopped() => status::stopped(),
                () = lost => status::leader_lost(),
                status = conduct(requests, &reader, control) => status,
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
async fn conduct<C, R>(
    mut requests: Streaming<WatchRequest>,
    reader: &Reader<R>,
    mut control: C,
) -> Status
where
    C: WatchControl,
    R: http_body::Body<Data = Bytes> + Unpin,
    R::Error: Into<BoxError>,
{
    let outbox = Arc::clone(control.outbox());
    let mut early = None;
    loop {
        let room = reader.during(outbox.control_room()).await;
        let read = match early.take() {
            Some(read) => read,
            None => requests.message().await,
        };
        match read {
            Ok(Some(request)) => {
                let following = follow(&mut control, request, &mut requests, room);
                early = reader.during(following).await;
            }
            Ok(None) => break,
            Err(status) => return status,
        }
    }
    drop((requests, control, outbox));
    pending().await
}

/// What reading a stream's requests finds.
type Read = Result<Option<WatchRequest>, Status>;

/// Takes the creates that have arrived already, so that a client which asks for many pays one turn of the actors for all
/// of them. Answers what it found instead of one more.
fn more_creates(
    requests: &mut Streaming<WatchRequest>,
    creates: &mut Vec<WatchCreate>,
    room: usize,
) -> Option<Read> {
    while creates.len() < room {
        match requests.message().now_or_never()? {
            Ok(Some(WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            })) => creates.push(convert::create(&create)),
            read => return Some(read),
        }
    }
    None
}

/// Passes one request on, and with a create all that have arrived behind it; returns when their outcomes are in the
/// outbox. Answers what was read too early.
async fn follow(
    control: &mut impl WatchControl,
    request: WatchRequest,
    requests: &mut Streaming<WatchRequest>,
    room: usize,
) -> Option<Read> {
    match request.request_union {
        Some(RequestUnion::CreateRequest(create)) => {
            let mut creates = vec![convert::create(&create)];
            let early = more_creates(requests, &mut creates, room);
            control.create(creates).await;
            return early;
        }
        Some(RequestUnion::CancelRequest(cancel)) => {
            control.cancel(WatchId(cancel.watch_id)).await;
        }
        Some(RequestUnion::ProgressRequest(_)) => control.request_progress().await,
        None => log::debug!("a watch request asks for nothing and is ignored"),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb::etcdserverpb::{WatchCreateRequest, WatchProgressRequest};
    use crate::backend::{Next, Outbox, OutboxLimits, OutboxReader, StreamItem};
    use crate::model::Revision;
    use bytes::{BufMut, BytesMut};
    use http_body_util::Full;
    use prost::Message;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;

    /// Answers creates and progress requests at once, counts them, and notes how many creates came together.
    struct Counting {
        outbox: Arc<Outbox>,
        seen: Arc<AtomicUsize>,
        together: Arc<Mutex<Vec<usize>>>,
    }

    impl Counting {
        fn new(outbox: &Arc<Outbox>) -> Self {
            Self {
                outbox: Arc::clone(outbox),
                seen: Arc::default(),
                together: Arc::default(),
            }
        }
    }

    impl WatchControl for Counting {
        async fn create(&mut self, creates: Vec<WatchCreate>) {
            self.together.lock().unwrap().push(creates.len());
            for create in creates {
                self.seen.fetch_add(1, Ordering::Relaxed);
                self.outbox.push(StreamItem::Created {
                    watch_id: create.watch_id,
                    revision: Revision(1),
                });
            }
        }

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

    fn progress() -> RequestUnion {
        RequestUnion::ProgressRequest(WatchProgressRequest::default())
    }

    fn create() -> RequestUnion {
        RequestUnion::CreateRequest(WatchCreateRequest::default())
    }

    /// Requests that have all arrived.
    fn arrived(
        unions: impl IntoIterator<Item = RequestUnion>,
    ) -> (Streaming<WatchRequest>, Reader<Full<Bytes>>) {
        let mut wire = BytesMut::new();
        for union in unions {
            let request = WatchRequest {
                request_union: Some(union),
            };
            let message = request.encode_to_vec();
            wire.put_u8(0);
            wire.put_u32(u32::try_from(message.len()).unwrap());
            wire.put_slice(&message);
        }
        let settings = BufferSettings::new(READ_BUFFER_BYTES, READ_BUFFER_BYTES);
        let (body, reader) = ReadAhead::new(Full::new(wire.freeze()));
        let requests = Streaming::new_request(ProstDecoder::new(settings), body, None, None);
        (requests, reader)
    }

    #[tokio::test]
    async fn p3_reading_stops_while_sixteen_control_responses_wait() {
        let outbox = Arc::new(Outbox::new(OutboxLimits::default()));
        let control = Counting::new(&outbox);
        let seen = Arc::clone(&control.seen);
        let mut responses = OutboxReader::detached(outbox);
        let (requests, reader) = arrived(std::iter::repeat_with(progress).take(40));
        let mut reading = std::pin::pin!(conduct(requests, &reader, control));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(reading.as_mut().poll(&mut cx).is_pending());
        assert_eq!(seen.load(Ordering::Relaxed), 16);
        for drained in 1..=24 {
            assert!(matches!(
                responses.poll_next(&mut cx),
                Poll::Ready(Next::Item(_))
            ));
            assert!(reading.as_mut().poll(&mut cx).is_pending());
            assert_eq!(seen.load(Ordering::Relaxed), 16 + drained);
        }
        // All is read; the client's last word does not end the stream.
        while let Poll::Ready(Next::Item(_)) = responses.poll_next(&mut cx) {}
        assert!(reading.as_mut().poll(&mut cx).is_pending());
    }

    #[tokio::test]
    async fn p3_creates_that_have_arrived_are_passed_on_together_as_far_as_there_is_room() {
        let outbox = Arc::new(Outbox::new(OutboxLimits::default()));
        let control = Counting::new(&outbox);
        let (seen, together) = (Arc::clone(&control.seen), Arc::clone(&control.together));
        let mut responses = OutboxReader::detached(outbox);
        let creates = || std::iter::repeat_with(create);
        let requests = creates()
            .take(3)
            .chain([progress()])
            .chain(creates().take(40));
        let (requests, reader) = arrived(requests);
        let mut reading = std::pin::pin!(conduct(requests, &reader, control));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(reading.as_mut().poll(&mut cx).is_pending());
        assert_eq!(seen.load(Ordering::Relaxed), 16);
        assert_eq!(*together.lock().unwrap(), [3, 12]);
        for _ in 0..16 {
            assert!(responses.poll_next(&mut cx).is_ready());
        }
        assert!(reading.as_mut().poll(&mut cx).is_pending());
        assert_eq!(*together.lock().unwrap(), [3, 12, 16]);
        while responses.poll_next(&mut cx).is_ready() {}
        assert!(reading.as_mut().poll(&mut cx).is_pending());
        assert_eq!(seen.load(Ordering::Relaxed), 44);
    }
}
