//! How the calls other than Watch are answered: what the edge asks of a backend for that.
//!
//! A backend with a store of its own is asked in model values (`store_calls.rs`). Another one may take the calls as they are.

use super::{BoxError, EdgeLimits, Member};
use crate::api::stop::StopSignal;
use crate::backend::Backend;
use bytes::Bytes;
use http::{Request, Response};
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use tonic::body::Body;

/// What calls are answered within.
#[derive(Clone, Debug)]
pub struct Serving {
    /// What clients are told of this server.
    pub member: Arc<Member>,
    /// The bounds of the edge.
    pub limits: EdgeLimits,
    /// What tells of the server's stopping.
    pub stop: StopSignal,
}

/// A backend that the edge can serve.
pub trait Served: Backend {
    /// What answers its calls other than Watch.
    type Calls: Calls;

    /// Makes that.
    fn calls(&self, serving: Serving) -> Self::Calls;
}

/// Answers gRPC calls. A clone answers the same.
pub trait Calls: Clone + Debug + Send + Sync + 'static {
    /// An answer on its way.
    type Future: Future<Output = Result<Response<Body>, Infallible>> + Send;

    /// Answers one call, however long its messages are.
    fn handle<R>(&self, request: Request<R>) -> Self::Future
    where
        R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        R::Error: Into<BoxError> + Send;
}
