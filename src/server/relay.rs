//! `vigil relay` from end to end: upstreams, workers, server, and all of them down again.
//!
//! It puts the parts together and decides nothing for them. It neither prints nor ends the process: its caller does.

use super::run::{ServeError, bind};
use super::{Listening, Server, ServerLimits, Worker, start};
use crate::api::{HttpSettings, Member};
use crate::relay::{Caches, Covers, Endpoints, EndpointsError, RelayBackend, RelayLimits};
use crate::tls::{ClientFiles, ServerFiles, ServerTls, Target, client_config};
use actix_rt::Arbiter;
use bytes::Bytes;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_rustls::rustls::ClientConfig;

/// What a relay is started with.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// The members of the cluster.
    pub upstreams: Vec<Target>,
    /// The files for TLS towards them.
    pub upstream_files: ClientFiles,
    /// Address to bind for clients.
    pub listen_client: SocketAddr,
    /// The certificate for them; `None` is no TLS.
    pub tls: Option<ServerFiles>,
    /// Threads that serve them.
    pub workers: usize,
    /// What can be set of the HTTP side.
    pub http: HttpSettings,
    /// What keys begin with that reads are answered for from here.
    pub cache: Vec<Bytes>,
    /// The bounds of what is watched.
    pub watching: RelayLimits,
    /// The bounds of the listener and of each connection.
    pub limits: ServerLimits,
}

/// Relays until `stop` is done. `ready` is told the bound address once clients are answered, be the cluster there or not:
/// they are told of that. Must be called inside an actix System.
pub async fn run_relay(
    config: RelayConfig,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (listener, bound) = bind(config.listen_client)?;
    let listening = match config.tls {
        Some(files) => Listening::over_tls(listener, ServerTls::open(files)?),
        None => listener.into(),
    };
    let is_tls = config.upstreams.iter().any(|target| target.is_tls);
    let tls = is_tls.then(|| client_config(&config.upstream_files));
    let tls = tls.transpose().map_err(ServeError::UpstreamTls)?;
    // The connections to the cluster live on a thread of their own, which outlives the workers.
    let upstream_side = Arbiter::new();
    let arbiters: Vec<_> = (0..config.workers).map(|_| Arbiter::new()).collect();
    let served = serve(
        (&config.upstreams, tls),
        (&config.watching, config.cache),
        &upstream_side,
        &arbiters,
        |workers| {
            start(
                listening,
                workers,
                Member::default(),
                config.http,
                config.limits,
            )
            .map_err(ServeError::Serve)
        },
    )
    .await;
    if served.is_ok() {
        log::info!(workers = config.workers; "relaying to clients on {bound}");
        ready(bound);
        stop.await;
        log::info!("stopping");
    }
    let outcome = match served {
        Ok(server) => {
            server.shutdown().await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    for arbiter in arbiters.into_iter().chain([upstream_side]) {
        arbiter.stop();
        // An error says that its thread has panicked, which is logged by then.
        let _ = arbiter.join();
    }
    outcome
}

async fn serve(
    (upstreams, tls): (&[Target], Option<Arc<ClientConfig>>),
    (watching, prefixes): (&RelayLimits, Vec<Bytes>),
    upstream_side: &Arbiter,
    arbiters: &[Arbiter],
    start: impl FnOnce(Vec<Worker<RelayBackend>>) -> Result<Server, ServeError>,
) -> Result<Server, ServeError> {
    let endpoints = connect(upstreams.to_vec(), tls, upstream_side).await;
    let endpoints = endpoints.map_err(ServeError::Upstream)?;
    let threads = arbiters.iter().map(Arbiter::handle).collect();
    let covers = Covers::start(
        endpoints.clone(),
        watching,
        &upstream_side.handle(),
        threads,
    );
    let of_caches = covers.clone();
    let made = on_thread(upstream_side, move || Caches::start(&of_caches, &prefixes)).await;
    let caches = made.ok_or(ServeError::Upstream(EndpointsError::None))?;
    let numbered = arbiters.iter().enumerate();
    let workers = numbered.map(|(number, arbiter)| Worker {
        arbiter: arbiter.handle(),
        backend: RelayBackend::new(endpoints.clone(), covers.clone(), caches.clone(), number),
    });
    start(workers.collect())
}

/// The upstreams, whose connections are on this thread.
async fn connect(
    upstreams: Vec<Target>,
    tls: Option<Arc<ClientConfig>>,
    on: &Arbiter,
) -> Result<Endpoints, EndpointsError> {
    let made = on_thread(on, move || Endpoints::start(&upstreams, tls.as_ref())).await;
    made.unwrap_or(Err(EndpointsError::None))
}

/// Makes something on a thread where it is to live; nothing when that has ended.
async fn on_thread<T: Send + 'static>(
    thread: &Arbiter,
    make: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (tx, made) = oneshot::channel();
    thread.spawn_fn(move || {
        // Nobody waits for it any more when the start has failed.
        let _ = tx.send(make());
    });
    made.await.ok()
}
