//! One gRPC call, passed on to the upstream in use as it is: frames, metadata and deadline up, and the whole answer down.
//!
//! A call that may have been carried out is never made a second time: it ends with Unavailable, and the client decides. Only
//! one that provably never left is tried once more, on the next upstream.

use super::cache::Caches;
use super::call::HAS_LEADER;
use super::endpoints::{Active, Endpoints};
use super::passing::{Begun, Lender, Passing, broken_off};
use crate::api::pb::etcdserverpb::{RangeRequest, RangeResponse};
use crate::api::{BoxError, Calls, Serving, StopSignal};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use tonic::body::Body;
use tonic::{Status, TimeoutExpired};
use tower::ServiceExt;

/// How many upstreams one call is offered to.
const TRIES_MAX: usize = 2;
/// Headers that belong to a connection and not to a call.
const OF_THE_CONNECTION: [HeaderName; 6] = [
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// The calls that go on until their client ends them, and so would hold up a server that stops.
const ENDLESS: [&str; 2] = [
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/v3electionpb.Election/Observe",
];

/// The call that a cache may answer.
const RANGE_PATH: &str = "/etcdserverpb.KV/Range";
/// Bytes of the longest read that is looked at, its frame included: only so many of a call are ever held here.
const LOOKED_AT_BYTES_MAX: usize = 64 << 10;
/// What stands before each message of a call: whether it is compressed, and its length.
const FRAME_HEAD_BYTES: usize = 5;

/// Passes calls on.
#[derive(Clone, Debug)]
pub struct PassOn {
    endpoints: Endpoints,
    caches: Caches,
    stop: StopSignal,
}

impl PassOn {
    /// Passes calls on to the upstream in use, until the server stops, but for reads that a cache can answer.
    pub(super) fn new(endpoints: Endpoints, caches: Caches, serving: Serving) -> Self {
        Self {
            endpoints,
            caches,
            stop: serving.stop,
        }
    }

    /// Reads from what is known here, if that can be; else it is a call like any other.
    async fn read<R>(self, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        R::Error: Into<BoxError> + Send,
    {
        let (head, mut body) = request.into_parts();
        let (begun, is_whole) = match begin(&mut body).await {
            Ok(begun) => begun,
            Err(error) => return Status::from_error(error.into()).into_http(),
        };
        let message = message(&begun).filter(|_| is_whole);
        let range = message.and_then(|message| RangeRequest::decode(message).ok());
        if let Some(range) = range
            && let Some(answer) = self.caches.answer(&range).await
        {
            return answered(&answer);
        }
        let call = Call::of(Request::from_parts(head, Begun::new(begun, body)));
        self.answer(call).await
    }

    async fn answer(self, call: Call) -> Response<Body> {
        let mut tries_left = TRIES_MAX;
        loop {
            tries_left -= 1;
            let active = match self.endpoints.usable().await {
                Ok(active) => active,
                Err(why) => return Status::unavailable(format!("vigil: {why}")).into_http(),
            };
            let sent = active.channel.clone().oneshot(call.request()).await;
            let error = match sent {
                Ok(response) => return self.pass_down(response, call, &active),
                Err(error) => error,
            };
            let error: BoxError = error.into();
            match self.failed(&call, &active, error.as_ref()) {
                Next::Again if tries_left > 0 => {}
                Next::Again => return broken_off(&active.name, error.as_ref()).into_http(),
                Next::Tell(status) => return status.into_http(),
            }
        }
    }

    fn pass_down(&self, response: Response<Body>, call: Call, active: &Active) -> Response<Body> {
        let stopped = call.is_endless().then(|| {
            let mut stop = self.stop.clone();
            async move { stop.stopped().await }.boxed()
        });
        response.map(|body| {
            Body::new(Passing {
                body,
                lender: call.body,
                endpoints: self.endpoints.clone(),
                generation: active.generation,
                name: Arc::clone(&active.name),
                stopped,
                is_over: false,
            })
        })
    }

    /// What follows when a call has no answer.
    fn failed(&self, call: &Call, active: &Active, error: &(dyn Error + 'static)) -> Next {
        if let Some(refused) = call.body.refused() {
            return Next::Tell(refused);
        }
        if find::<TimeoutExpired>(error).is_some() {
            return Next::Tell(Status::deadline_exceeded("context deadline exceeded"));
        }
        let reset = find::<h2::Error>(error).filter(|error| error.is_reset());
        if reset.is_some() {
            // The upstream has ended this call, and perhaps no other one.
            self.endpoints.doubt(active.generation);
        } else {
            self.endpoints.give_up(active.generation);
        }
        if call.body.is_untouched() {
            return Next::Again;
        }
        Next::Tell(broken_off(&active.name, error))
    }
}

/// What follows when a call has no answer.
enum Next {
    /// It never left.
    Again,
    /// The client is told this.
    Tell(Status),
}

impl Calls for PassOn {
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn handle<R>(&self, request: Request<R>) -> Self::Future
    where
        R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        R::Error: Into<BoxError> + Send,
    {
        let this = self.clone();
        let is_read = request.uri().path() == RANGE_PATH;
        // Who asks for a leader is told by the cluster that it has none.
        if is_read && !self.caches.is_empty() && !request.headers().contains_key(HAS_LEADER) {
            return async move { Ok(this.read(request).await) }.boxed();
        }
        let call = Call::of(request);
        async move { Ok(this.answer(call).await) }.boxed()
    }
}

/// A call that is to be passed on.
#[derive(Debug)]
struct Call {
    path: Uri,
    headers: HeaderMap,
    body: Lender,
}

impl Call {
    fn of<R>(request: Request<R>) -> Self
    where
        R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        R::Error: Into<BoxError> + Send,
    {
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        for name in OF_THE_CONNECTION {
            headers.remove(name);
        }
        // Whoever does not say so gets no trailers, and a call without trailers has no end.
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let path = head.uri.path_and_query().cloned();
        Self {
            path: path.map(Uri::from).unwrap_or_default(),
            headers,
            body: Lender::new(Body::new(body)),
        }
    }

    fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::new(self.body.lend()));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    fn is_endless(&self) -> bool {
        ENDLESS.contains(&self.path.path())
    }
}

/// What a body begins with, and whether that is all of it: no more than is looked at, and the frame that goes beyond.
async fn begin<R>(body: &mut R) -> Result<(Bytes, bool), R::Error>
where
    R: http_body::Body<Data = Bytes> + Unpin,
{
    let mut begun = BytesMut::new();
    while begun.len() <= LOOKED_AT_BYTES_MAX {
        match body.frame().await {
            Some(Ok(frame)) => begun.extend(frame.into_data().ok()),
            Some(Err(error)) => return Err(error),
            None => return Ok((begun.freeze(), true)),
        }
    }
    Ok((begun.freeze(), false))
}

/// The one message of a call, if it is whole, alone and not compressed.
fn message(body: &[u8]) -> Option<&[u8]> {
    let (head, message) = body.split_at_checked(FRAME_HEAD_BYTES)?;
    let (flag, mut length) = head.split_first()?;
    let length = usize::try_from(length.get_u32()).ok()?;
    (*flag == 0 && message.len() == length).then_some(message)
}

/// An answer of one message, as a call that went well ends.
fn answered(answer: &RangeResponse) -> Response<Body> {
    let bytes = answer.encoded_len();
    let mut framed = BytesMut::with_capacity(FRAME_HEAD_BYTES + bytes);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(bytes).unwrap_or(u32::MAX));
    framed.put(answer.encode_to_vec().as_slice());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(framed.freeze()), Frame::trailers(trailers)];
    let frames = stream::iter(frames.map(Ok::<_, Infallible>));
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

/// The error of this kind among those that an error comes from.
fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
