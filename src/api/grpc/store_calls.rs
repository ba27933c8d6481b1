//! The calls of a backend with a store of its own: tonic's services, made of typed calls.
//!
//! The calls of the KV service go round tonic's routes to its own server for it, because there are so many.

use super::calls::{Calls, Served, Serving};
use super::frame_limit::FrameLimit;
use super::{BoxError, cluster, election, kv, lease, lock, maintenance, range_call};
use crate::api::pb::etcdserverpb::cluster_server::ClusterServer;
use crate::api::pb::etcdserverpb::kv_server::KvServer;
use crate::api::pb::etcdserverpb::lease_server::LeaseServer;
use crate::api::pb::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::api::pb::v3electionpb::election_server::ElectionServer;
use crate::api::pb::v3lockpb::lock_server::LockServer;
use crate::api::status;
use crate::backend::StoreBackend;
use bytes::Bytes;
use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use std::convert::Infallible;
use std::fmt::Debug;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::service::Routes;
use tower::Service;

/// The path of the call whose answer is not made of protobuf's structs.
const RANGE_PATH: &str = "/etcdserverpb.KV/Range";
/// What the paths of the calls begin with that do not go through tonic's routes.
const KV_PREFIX: &str = "/etcdserverpb.KV/";
/// Services that the protocol has and no store serves, so that they can be named to who calls them.
const SERVICES_NOT_SERVED: [(&str, &str); 1] = [("/etcdserverpb.Auth/", "Auth")];

/// The calls of a store.
#[derive(Clone, Debug)]
pub struct StoreCalls<B> {
    backend: B,
    kv: KvServer<kv::KvService<B>>,
    routes: Routes,
    frame_bytes: usize,
}

impl<B: StoreBackend + Debug> Served for B {
    type Calls = StoreCalls<B>;

    fn calls(&self, serving: Serving) -> StoreCalls<B> {
        StoreCalls::new(self, serving)
    }
}

impl<B: StoreBackend> StoreCalls<B> {
    fn new(backend: &B, serving: Serving) -> Self {
        let Serving {
            member,
            limits,
            stop,
        } = serving;
        let frame_bytes = limits.frame_bytes();
        let kv = kv::KvService::new(backend.clone(), limits.request_bytes_max);
        let cluster = cluster::ClusterService::new(backend.clone(), member);
        let lease = lease::LeaseService::new(backend.clone(), stop.clone());
        let lock = lock::LockService::new(backend.clone());
        let election = election::ElectionService::new(backend.clone(), stop.clone());
        let maintenance = maintenance::MaintenanceService::new(backend.clone(), stop);
        let mut routes = Routes::builder();
        routes
            .add_service(ClusterServer::new(cluster).max_decoding_message_size(frame_bytes))
            .add_service(LeaseServer::new(lease).max_decoding_message_size(frame_bytes))
            .add_service(LockServer::new(lock).max_decoding_message_size(frame_bytes))
            .add_service(ElectionServer::new(election).max_decoding_message_size(frame_bytes))
            .add_service(
                MaintenanceServer::new(maintenance).max_decoding_message_size(frame_bytes),
            );
        Self {
            backend: backend.clone(),
            kv: KvServer::new(kv).max_decoding_message_size(frame_bytes),
            routes: routes.routes().prepare(),
            frame_bytes,
        }
    }
}

/// An answer that is there at once, or that the KV service or a route will give.
type Answer = Either<
    Ready<Result<Response<Body>, Infallible>>,
    Either<BoxFuture<Response<Body>, Infallible>, <Routes as Service<Request<Body>>>::Future>,
>;

impl<B: StoreBackend + Debug> Calls for StoreCalls<B> {
    type Future = Answer;

    fn handle<R>(&self, request: Request<R>) -> Answer
    where
        R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        R::Error: Into<BoxError> + Send,
    {
        let request = request.map(|body| FrameLimit::new(body, self.frame_bytes));
        let path = request.uri().path();
        if path == RANGE_PATH {
            let answer = range_call::serve(self.backend.clone(), request, self.frame_bytes);
            return Either::Right(Either::Left(answer));
        }
        if path.starts_with(KV_PREFIX) {
            return Either::Right(Either::Left(self.kv.clone().call(request)));
        }
        if let Some(refusal) = refuse(path) {
            return Either::Left(ready(Ok(refusal)));
        }
        Either::Right(Either::Right(self.routes.clone().call(request)))
    }
}

/// The answer to a call that no store serves.
fn refuse(path: &str) -> Option<Response<Body>> {
    if let Some(status) = status::authentication(path) {
        return Some(status.into_http());
    }
    let mut services = SERVICES_NOT_SERVED.iter();
    let service = services.find(|(prefix, _)| path.starts_with(prefix));
    service.map(|(_, name)| status::unimplemented(name).into_http())
}
