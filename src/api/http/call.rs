//! A gRPC call inside the process: the way of every JSON request, through the same edge that gRPC clients use.
//!
//! It frames and unframes messages and never looks into one.

use crate::api::grpc::{Edge, Served};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Uri};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Full};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;

/// What stands before each message of a call: whether it is compressed, and its length.
const FRAME_HEAD_BYTES: usize = 5;

/// Any error of a request's body.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One message as it travels.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(FRAME_HEAD_BYTES + message.len());
    framed.put_u8(0);
    // A longer message is above every limit of the edge, which then refuses this one.
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// Requests that are still being made, as the body of a call.
#[derive(Debug)]
pub(super) struct Requests(pub(super) mpsc::Receiver<Result<Bytes, Status>>);

impl http_body::Body for Requests {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let next = self.get_mut().0.poll_recv(cx);
        next.map(|next| next.map(|read| read.map(Frame::data)))
    }
}

/// A call of one request.
pub(super) async fn one<B: Served>(
    edge: &Edge<B>,
    path: &'static str,
    metadata: HeaderMap,
    message: &[u8],
) -> Result<Answers, Status> {
    start(edge, path, metadata, Full::new(frame(message))).await
}

/// A call of one request that has one response.
pub(super) async fn unary<B: Served>(
    edge: &Edge<B>,
    path: &'static str,
    metadata: HeaderMap,
    message: &[u8],
) -> Result<Bytes, Status> {
    let mut answers = one(edge, path, metadata, message).await?;
    let Some(answer) = answers.next().await? else {
        return Err(Status::internal("vigil: a call ended without an answer"));
    };
    // What the call says at its end counts for more than what it has answered.
    while answers.next().await?.is_some() {}
    Ok(answer)
}

/// Begins a call.
pub(super) async fn start<B, R>(
    edge: &Edge<B>,
    path: &'static str,
    metadata: HeaderMap,
    body: R,
) -> Result<Answers, Status>
where
    B: Served,
    R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    R::Error: Into<BoxError> + Send,
{
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(path);
    *request.headers_mut() = metadata;
    let grpc = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert(CONTENT_TYPE, grpc);
    let Ok(response) = edge.handle(request).await;
    let (head, body) = response.into_parts();
    // A call that fails at once says so in its head.
    if let Some(status) = Status::from_header_map(&head.headers)
        && (status.code() != tonic::Code::Ok || body.is_end_stream())
    {
        return Err(status);
    }
    Ok(Answers {
        body,
        buffer: BytesMut::new(),
    })
}

/// The responses of a call, one after the other.
#[derive(Debug)]
pub(super) struct Answers {
    body: Body,
    buffer: BytesMut,
}

impl Answers {
    /// The next response; `None` when the call has ended well. May be dropped while it waits, and loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            match frame?.into_data() {
                Ok(bytes) => self.buffer.extend_from_slice(&bytes),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return match Status::from_header_map(&trailers) {
                        Some(status) if status.code() != tonic::Code::Ok => Err(status),
                        _ => Ok(None),
                    };
                }
            }
        }
    }

    /// A message that is here already.
    fn take(&mut self) -> Option<Bytes> {
        let head = self.buffer.get(..FRAME_HEAD_BYTES)?;
        let message_bytes = usize::try_from(head.get(1..)?.get_u32()).ok()?;
        if self.buffer.len() - FRAME_HEAD_BYTES < message_bytes {
            return None;
        }
        self.buffer.advance(FRAME_HEAD_BYTES);
        Some(self.buffer.split_to(message_bytes).freeze())
    }
}
