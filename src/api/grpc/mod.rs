//! The gRPC edge of one worker: every call of every connection on that worker comes in through [`Edge::handle`].
//!
//! A watch stream is served here, because its responses are encoded once for all who get them, and so are the health and the
//! reflection of the server; all other calls are the backend's ([`Calls`]). Nothing here outlives its connection.

mod calls;
mod cluster;
mod election;
mod encode;
mod frame_limit;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod range_call;
mod range_stream;
mod read_ahead;
mod store_calls;
mod waiting_line;
mod watch;
mod watch_body;

pub use calls::{Calls, Served, Serving};
pub use store_calls::StoreCalls;
#[cfg(test)]
pub(crate) use waiting_line::Place;

use crate::api::counts::Counts;
use crate::api::pb::DESCRIPTORS;
use crate::api::status;
use crate::api::stop::StopSignal;
use bytes::Bytes;
use frame_limit::FrameLimit;
use futures_util::future::{Either, Ready, ready};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use tonic::body::Body;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::Service;

/// The path of the one call that tonic does not serve.
const WATCH_PATH: &str = "/etcdserverpb.Watch/Watch";
/// What the paths of the calls begin with that a server answers of itself.
const OWN_PREFIX: &str = "/grpc.";
/// The metadata that names the client's API version.
const CLIENT_API_VERSION: &str = "client-api-version";
/// What the content type of every gRPC call begins with.
const GRPC: &str = "application/grpc";
/// What a message may have beyond `request_bytes_max` before it is refused unread, in bytes; as in etcd.
const FRAME_OVERHEAD_BYTES: usize = 512 << 10;

/// Any error of a request's body.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The bounds of the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Bytes of one encoded request. Messages of over 512 KiB more are refused before they are read, and watch
    /// responses of at least 512 KiB more are cut into fragments where the watch allows it. etcd's default.
    pub request_bytes_max: usize,
    /// The same of a request that comes as JSON, where it is not the same.
    pub json_request_bytes_max: Option<usize>,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            request_bytes_max: 1_572_864,
            json_request_bytes_max: None,
        }
    }
}

impl EdgeLimits {
    /// Bytes of the largest message that is read, and of the smallest watch response that is cut.
    pub(in crate::api) fn frame_bytes(self) -> usize {
        self.request_bytes_max.saturating_add(FRAME_OVERHEAD_BYTES)
    }

    /// Bytes of the largest message that is made of JSON.
    pub(in crate::api) fn json_frame_bytes(self) -> usize {
        let bytes_max = self
            .json_request_bytes_max
            .unwrap_or(self.request_bytes_max);
        bytes_max.saturating_add(FRAME_OVERHEAD_BYTES)
    }
}

/// What clients are told of this server when they ask for the members of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name; clients pass over members without one.
    pub name: String,
    /// The addresses that clients reach it at.
    pub client_urls: Vec<String>,
}

/// The gRPC edge of one worker. A clone is the same edge.
#[derive(Clone, Debug)]
pub struct Edge<B: Served> {
    calls: B::Calls,
    /// What the server answers of itself.
    own: Routes,
    shared: Arc<Shared<B>>,
    /// Where calls are counted, if they are.
    counts: Option<Arc<Counts>>,
}

#[derive(Debug)]
struct Shared<B> {
    backend: B,
    limits: EdgeLimits,
    stop: StopSignal,
}

/// What [`Edge::handle`] returns: a response that is there at once, or that the backend's calls or a route will give.
pub type EdgeFuture<B> = Either<
    Ready<Result<Response<Body>, Infallible>>,
    Either<<<B as Served>::Calls as Calls>::Future, <Routes as Service<Request<Body>>>::Future>,
>;

impl<B: Served> Edge<B> {
    /// The edge in front of `backend`. Its watch streams end when `stop` is heard; its health is what `health` reports.
    pub fn new(
        backend: B,
        member: Arc<Member>,
        limits: EdgeLimits,
        health: &HealthReporter,
        stop: StopSignal,
    ) -> Self {
        let serving = Serving {
            member,
            limits,
            stop: stop.clone(),
        };
        let health = HealthService::from_health_reporter(health.clone());
        let health = HealthServer::new(health).max_decoding_message_size(limits.frame_bytes());
        let mut own = Routes::builder();
        own.add_service(health);
        add_reflection(&mut own);
        Self {
            calls: backend.calls(serving),
            own: own.routes().prepare(),
            shared: Arc::new(Shared {
                backend,
                limits,
                stop,
            }),
            counts: None,
        }
    }

    /// The same edge, which counts its calls here.
    pub fn counting(mut self, counts: Arc<Counts>) -> Self {
        self.counts = Some(counts);
        self
    }

    /// What stands behind this edge.
    pub(in crate::api) fn backend(&self) -> &B {
        &self.shared.backend
    }

    /// The bounds of this edge.
    pub(in crate::api) fn limits(&self) -> EdgeLimits {
        self.shared.limits
    }

    /// What tells of the server's stopping.
    pub(in crate::api) fn stop(&self) -> &StopSignal {
        &self.shared.stop
    }

    /// Answers one call. Must run on the worker's own thread, inside its `LocalSet`.
    pub fn handle<R>(&self, request: Request<R>) -> EdgeFuture<B>
    where
        R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        R::Error: Into<BoxError> + Send,
    {
        if let Some(refusal) = refuse(&request) {
            return Either::Left(ready(Ok(refusal)));
        }
        if let Some(counts) = &self.counts {
            counts.call(request.uri().path());
        }
        let frame_bytes = self.shared.limits.frame_bytes();
        let bounded = |body| FrameLimit::new(body, frame_bytes);
        if request.uri().path() == WATCH_PATH {
            let response = watch::serve(
                &self.shared.backend,
                request.map(bounded),
                self.shared.limits,
                self.shared.stop.clone(),
            );
            return Either::Left(ready(Ok(response)));
        }
        if request.uri().path().starts_with(OWN_PREFIX) {
            let request = request.map(bounded).map(Body::new);
            return Either::Right(Either::Right(self.own.clone().call(request)));
        }
        Either::Right(Either::Left(self.calls.handle(request)))
    }
}

/// The answer to what is no gRPC call, or to one that is refused whatever it asks for.
fn refuse<R>(request: &Request<R>) -> Option<Response<Body>> {
    if request.method() != Method::POST {
        let mut response = refuse_in_http(StatusCode::METHOD_NOT_ALLOWED);
        let allowed = HeaderValue::from_static("POST");
        response.headers_mut().insert(ALLOW, allowed);
        return Some(response);
    }
    if !is_grpc(request.headers()) {
        return Some(refuse_in_http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if !is_client_version_readable(request.headers()) {
        return Some(status::invalid_client_api_version().into_http());
    }
    None
}

fn refuse_in_http(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// True for what is meant for the gRPC edge, be it a call that is served or not.
pub fn is_for_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|it| it.starts_with(GRPC.as_bytes()))
}

/// True for `application/grpc`, alone or with the name of a message format or parameters behind it.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content_type.and_then(|it| it.strip_prefix(GRPC.as_bytes()));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn is_client_version_readable(headers: &HeaderMap) -> bool {
    headers
        .get(CLIENT_API_VERSION)
        .is_none_or(|version| std::str::from_utf8(version.as_bytes()).is_ok())
}

/// Adds server reflection in both of its versions. Our own descriptors are always readable, so a failure can only be a
/// fault of the build: it is logged, and clients get Unimplemented.
fn add_reflection(routes: &mut RoutesBuilder) {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            routes.add_service(v1).add_service(v1alpha);
        }
        (Err(error), _) | (_, Err(error)) => log::error!("no server reflection: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_version_must_be_readable_where_there_is_one() {
        let mut headers = HeaderMap::new();
        assert!(is_client_version_readable(&headers));
        headers.insert(CLIENT_API_VERSION, HeaderValue::from_static("3.6"));
        assert!(is_client_version_readable(&headers));
        let unreadable = HeaderValue::from_bytes(b"3.\xff").unwrap();
        headers.insert(CLIENT_API_VERSION, unreadable);
        assert!(!is_client_version_readable(&headers));
    }

    #[test]
    fn frames_may_be_half_a_mebibyte_larger_than_requests() {
        assert_eq!(EdgeLimits::default().frame_bytes(), 2_097_152);
    }
}
