//! The HTTP side of a worker, as actix-web makes it, and how a request of an HTTP/2 connection comes there and its answer back.
//!
//! What is answered is the edge's business. Nothing here looks into a body, and none is held: what is read of one is passed
//! on when there is room for it.

use crate::api::{Http, Served, guard};
use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::error::PayloadError;
use actix_http::header::{HeaderName, HeaderValue};
use actix_http::{Method, Payload, Uri, Version};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::dev::{AppConfig, ServiceRequest, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, TryStreamExt};
use http::header::{CONTENT_LENGTH, HOST};
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

type Answering = LocalBoxFuture<'static, actix_http::Response<BoxBody>>;

/// The HTTP side as actix-web runs it.
pub(super) fn app<B: Served>(
    http: web::Data<Http<B>>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    App::new()
        .wrap(from_fn(guard::<B>))
        .configure(move |config| Http::configure(&http, config))
}

/// The HTTP side of a worker, for the requests of its HTTP/2 connections. A clone is the same side.
#[derive(Clone)]
pub(super) struct WebSide(Rc<dyn Fn(actix_http::Request) -> Answering>);

impl WebSide {
    /// Makes the side; `None` when actix-web cannot.
    pub(super) async fn new<B: Served>(http: web::Data<Http<B>>) -> Option<Self> {
        let factory = app(http).into_factory();
        let service = factory.new_service(AppConfig::default()).await.ok()?;
        Some(Self(Rc::new(move |request| {
            let answer = service.call(request);
            let answer = answer.map(|answer| match answer {
                Ok(answer) => actix_http::Response::from(answer).map_into_boxed_body(),
                Err(error) => error.into(),
            });
            answer.boxed_local()
        })))
    }

    /// Answers one request.
    pub(super) fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> LocalBoxFuture<'static, Response<WebBody>> {
        let is_head = request.method() == http::Method::HEAD;
        let Some(request) = taken_in(request, peer) else {
            let mut refusal = Response::new(WebBody(BoxBody::new(())));
            *refusal.status_mut() = StatusCode::BAD_REQUEST;
            return std::future::ready(refusal).boxed_local();
        };
        let answer = (self.0)(request);
        answer.map(move |it| given_out(it, is_head)).boxed_local()
    }
}

/// The same request in actix's words; `None` if it cannot be said in them.
fn taken_in(request: Request<Incoming>, peer: SocketAddr) -> Option<actix_http::Request> {
    let (head, body) = request.into_parts();
    let pieces = body.into_data_stream();
    let pieces = pieces.map_err(|error| PayloadError::Io(io::Error::other(error)));
    let payload = Payload::Stream {
        payload: Box::pin(pieces) as _,
    };
    let mut taken = actix_http::Request::with_payload(payload);
    let to = taken.head_mut();
    to.method = Method::from_bytes(head.method.as_str().as_bytes()).ok()?;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    to.uri = Uri::try_from(path).ok()?;
    to.version = Version::HTTP_2;
    to.peer_addr = Some(peer);
    for (name, value) in &head.headers {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        to.headers.append(name, value);
    }
    // HTTP/2 says whom it is addressed to in a place of its own.
    if let Some(authority) = head.uri.authority()
        && !head.headers.contains_key(HOST)
    {
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        to.headers.insert(actix_http::header::HOST, host);
    }
    Some(taken)
}

/// The same answer in hyper's words.
fn given_out(answer: actix_http::Response<BoxBody>, is_head: bool) -> Response<WebBody> {
    let (head, body) = answer.into_parts();
    let mut given = Response::new(WebBody(body));
    let status = StatusCode::from_u16(head.status().as_u16());
    *given.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in head.headers() {
        let name = http::HeaderName::from_bytes(name.as_str().as_bytes());
        let value = http::HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            given.headers_mut().append(name, value);
        }
    }
    if is_head {
        if let BodySize::Sized(bytes) = given.body().0.size() {
            given.headers_mut().insert(CONTENT_LENGTH, bytes.into());
        }
        *given.body_mut() = WebBody(BoxBody::new(()));
    }
    given
}

/// The body of an answer of the HTTP side.
pub(super) struct WebBody(BoxBody);

impl http_body::Body for WebBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = self.get_mut().0.as_pin_mut().poll_next(cx);
        piece.map(|piece| {
            piece.map(|piece| match piece {
                Ok(bytes) => Ok(Frame::data(bytes)),
                Err(error) => Err(io::Error::other(error.to_string())),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0.size(), BodySize::None | BodySize::Sized(0))
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.size() {
            BodySize::None => SizeHint::with_exact(0),
            BodySize::Sized(bytes) => SizeHint::with_exact(bytes),
            BodySize::Stream => SizeHint::default(),
        }
    }
}
