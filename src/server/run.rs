//! `vigil serve` from end to end: listener, engine, server, and all of them down again.
//!
//! It puts the parts together and decides nothing for them. It neither prints nor ends the process: its caller does.

use super::{Listening, ServerLimits, engine_workers, start};
use crate::actors::{Engine, EngineConfig, EngineError};
use crate::api::{HttpSettings, Member};
use crate::relay::EndpointsError;
use crate::storage::StorageError;
use crate::tls::{ServerTls, TlsError, TlsSource};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Address to bind for clients.
    pub listen_client: SocketAddr,
    /// URL that clients are told to use; `None` is the bound address.
    pub advertise_client_url: Option<String>,
    /// Where the certificate comes from; `None` is no TLS.
    pub tls: Option<TlsSource>,
    /// Name of this member.
    pub name: String,
    /// What can be set of the HTTP side.
    pub http: HttpSettings,
    /// The engine.
    pub engine: EngineConfig,
    /// The bounds of the listener and of each connection.
    pub limits: ServerLimits,
}

/// Why a server did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A certificate or a key cannot be used.
    #[error("cannot serve over TLS")]
    Tls(#[from] TlsError),
    /// A file for TLS towards the cluster cannot be used.
    #[error("cannot use TLS towards the cluster")]
    UpstreamTls(#[source] TlsError),
    /// The cluster cannot be called.
    #[error("cannot use the upstreams")]
    Upstream(#[source] EndpointsError),
    /// The data directory cannot be opened.
    #[error("cannot open the store")]
    Open(#[source] StorageError),
    /// The listener cannot be served.
    #[error("cannot serve")]
    Serve(#[source] io::Error),
    /// The store failed while it was served.
    #[error("the store has failed: {0}")]
    Failed(String),
    /// The store could not be closed.
    #[error("cannot close the store")]
    Close(#[source] EngineError),
}

/// Serves until `stop` is done or the store fails. `ready` is told the bound address once clients are answered. Must
/// be called inside an actix System.
pub async fn run(
    config: ServeConfig,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = config.listen_client;
    // First the cheap things that fail: a store takes its time to open.
    let (listener, bound) = bind(address)?;
    let given = match &config.tls {
        Some(TlsSource::Files(files)) => Some(ServerTls::open(files.clone())?),
        _ => None,
    };
    let data_dir = config.engine.data_dir.clone();
    let engine = Engine::start(config.engine)
        .await
        .map_err(ServeError::Open)?;
    let tls = match config.tls {
        // Only now is the directory known to be ours.
        Some(TlsSource::Own {
            trusted_ca_file,
            hosts,
        }) => match ServerTls::open_own(&data_dir, trusted_ca_file, hosts) {
            Ok(own) => Some(own),
            Err(error) => {
                engine.stop().await.map_err(ServeError::Close)?;
                return Err(error.into());
            }
        },
        _ => given,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = config
        .advertise_client_url
        .unwrap_or_else(|| url_of(scheme, bound));
    let member = Member {
        name: config.name,
        client_urls: vec![url],
    };
    let listening = match tls {
        Some(tls) => Listening::over_tls(listener, tls),
        None => listener.into(),
    };
    let workers = engine_workers(&engine);
    let server =
        start(listening, workers, member, config.http, config.limits).map_err(ServeError::Serve)?;
    log::info!(revision = engine.revision().0, workers = engine.workers(); "serving clients on {scheme}://{bound}");
    ready(bound);
    let failure = tokio::select! {
        () = stop => None,
        failure = engine.failed() => Some(failure),
    };
    log::info!(revision = engine.revision().0; "stopping");
    server.shutdown().await;
    let closed = engine.stop().await;
    match failure {
        Some(failure) => Err(ServeError::Failed(failure)),
        None => closed.map_err(ServeError::Close),
    }
}

/// Binds the address for clients.
pub(super) fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Where clients find a server that listens here; an address that stands for all of them is none to connect to.
fn url_of(scheme: &str, bound: SocketAddr) -> String {
    if bound.ip().is_unspecified() {
        format!("{scheme}://localhost:{}", bound.port())
    } else {
        format!("{scheme}://{bound}")
    }
}
