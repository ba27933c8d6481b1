//! The HTTP edge of one worker: JSON for every gRPC call, events for browsers and curl, and what operators ask for.
//!
//! It decides nothing that a gRPC client is told otherwise: JSON calls go through the gRPC edge, and watches are streams
//! of the same kind. Nothing here outlives its connection.

mod body;
mod call;
mod clean_path;
mod events;
mod gateway;
mod guard;
mod health;
mod json_read;
mod json_scalars;
mod json_values;
mod metrics;
mod paths;
mod percent;
mod process;
mod reply;
mod transcode;
mod watch_query;
mod watching;

pub use guard::{NameList, guard};

use super::counts::Counts;
use super::grpc::{Edge, Served};
use actix_web::web::{self, Data, ServiceConfig};
use body::{BodyLimits, Large};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How many times longer JSON may be than what it says in protobuf: base64 makes four bytes of three, and names are
/// written out.
const JSON_BYTES_FACTOR: usize = 2;
/// Requests that one worker holds at a time which are longer as JSON than one over gRPC may be.
const LARGE_BODIES_MAX: usize = 4;

/// What can be set of the HTTP side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// The origins whose pages may read answers.
    pub cors: NameList,
    /// The hosts that requests may be addressed to.
    pub host_whitelist: NameList,
    /// Serve the JSON gateway.
    pub grpc_gateway: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            cors: NameList::default(),
            host_whitelist: NameList::default(),
            grpc_gateway: true,
        }
    }
}

/// The clocks of the HTTP side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpClocks {
    /// How long a request's body may stand still.
    pub body_pause_max: Duration,
    /// How often an event stream is told that it is alive, and how far it has come.
    pub keep_alive_interval: Duration,
}

/// The HTTP edge of one worker.
#[derive(Debug)]
pub struct Http<B: Served> {
    edge: Edge<B>,
    settings: HttpSettings,
    clocks: HttpClocks,
    counts: Arc<Counts>,
    large: Large,
}

impl<B: Served> Http<B> {
    /// The HTTP side of `edge`.
    pub fn new(
        edge: Edge<B>,
        settings: HttpSettings,
        clocks: HttpClocks,
        counts: Arc<Counts>,
    ) -> Self {
        let large = Large {
            small_bytes_max: json_bytes(edge.limits().frame_bytes()),
            places: Semaphore::new(LARGE_BODIES_MAX),
        };
        Self {
            edge,
            settings,
            clocks,
            counts,
            large,
        }
    }

    /// Says where everything is. What it serves must run on the worker's own thread, inside its `LocalSet`.
    pub fn configure(this: &Data<Self>, config: &mut ServiceConfig) {
        let get = |path: &str| web::resource(path).default_service(web::to(reply::only_get));
        config
            .app_data(Data::clone(this))
            .service(get("/health").route(web::get().to(health::health::<B>)))
            .service(get("/livez").route(web::get().to(health::livez::<B>)))
            .service(get("/livez/{check}").route(web::get().to(health::livez::<B>)))
            .service(get("/readyz").route(web::get().to(health::readyz::<B>)))
            .service(get("/readyz/{check}").route(web::get().to(health::readyz::<B>)))
            .service(get("/version").route(web::get().to(health::version::<B>)))
            .service(get("/metrics").route(web::get().to(metrics::serve::<B>)))
            .service(get("/watch").route(web::get().to(events::serve::<B>)))
            .service(get("/watch/{key:.*}").route(web::get().to(events::serve::<B>)))
            .service(web::resource("/v3/{call:.*}").to(gateway::serve::<B>))
            .service(web::resource("/v3beta/{call:.*}").to(gateway::serve::<B>))
            .default_service(web::to(nothing_here));
    }

    fn backend(&self) -> &B {
        self.edge.backend()
    }

    /// The bounds of a body that is one request.
    fn body_limits(&self) -> BodyLimits {
        self.limits_of(self.edge.limits().json_frame_bytes())
    }

    /// The bounds of each request in a body of many: those of one over gRPC.
    fn stream_limits(&self) -> BodyLimits {
        self.limits_of(self.edge.limits().frame_bytes())
    }

    fn limits_of(&self, frame_bytes: usize) -> BodyLimits {
        BodyLimits {
            bytes_max: json_bytes(frame_bytes),
            pause_max: self.clocks.body_pause_max,
        }
    }
}

/// How long a message may be as JSON.
fn json_bytes(frame_bytes: usize) -> usize {
    frame_bytes.saturating_mul(JSON_BYTES_FACTOR)
}

async fn nothing_here() -> actix_web::HttpResponse {
    reply::not_found()
}
