//! The way to the server: an endpoint in words becomes a channel.
//!
//! It never retries; a verb that wants to asks again.

use super::error::root_cause;
use super::{VerbError, diagnose};
use crate::cli::ClientArgs;
use crate::tls::{ClientFiles, client_config};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// A server that has gone without a word is noticed after these two; etcd minds pings more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(6);

/// Connects to the server that the flags name.
pub(super) async fn connect(client: &ClientArgs) -> Result<Channel, VerbError> {
    match connect_to(&client.endpoint, &ClientFiles::from(&client.tls)).await {
        Ok(channel) => Ok(channel),
        Err(error) => Err(diagnose::advised(error, client).await),
    }
}

/// Where an endpoint leads.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) is_tls: bool,
    /// `HOST:PORT`.
    pub(super) authority: String,
}

impl Target {
    /// Reads `HOST:PORT`, with or without `http://` or `https://` before it. Without, it is TLS when files are given.
    pub(super) fn read(endpoint: &str, files: &ClientFiles) -> Option<Self> {
        let (is_tls, authority) = if let Some(authority) = endpoint.strip_prefix("https://") {
            (true, authority)
        } else if let Some(authority) = endpoint.strip_prefix("http://") {
            (false, authority)
        } else {
            (files.ask_for_tls(), endpoint)
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        is_host_and_port(authority).then(|| Self {
            is_tls,
            authority: authority.to_owned(),
        })
    }
}

/// Connects to an endpoint.
pub(super) async fn connect_to(endpoint: &str, files: &ClientFiles) -> Result<Channel, VerbError> {
    let malformed = || VerbError::Endpoint {
        endpoint: endpoint.to_owned(),
    };
    let Target { is_tls, authority } = Target::read(endpoint, files).ok_or_else(malformed)?;
    let address = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| malformed())?;
    let address = address
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .tcp_nodelay(true);
    let connected = if is_tls {
        let origin = format!("https://{authority}").parse();
        let address = address.origin(origin.map_err(|_| malformed())?);
        let connector = TlsConnector::from(client_config(files)?);
        let connector = service_fn(move |_| {
            let secret = secret(connector.clone(), authority.clone());
            async { secret.await.map(TokioIo::new) }
        });
        address.connect_with_connector(connector).await
    } else {
        address.connect().await
    };
    connected.map_err(|error| VerbError::Unreachable {
        endpoint: endpoint.to_owned(),
        source: root_cause(&error),
    })
}

/// A connection to `HOST:PORT` on which the handshake is done.
pub(super) async fn secret(
    connector: TlsConnector,
    authority: String,
) -> io::Result<TlsStream<TcpStream>> {
    let host = authority.rsplit_once(':').map_or("", |(host, _)| host);
    let host = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let socket = TcpStream::connect(authority).await?;
    socket.set_nodelay(true)?;
    connector.connect(name, socket).await
}

/// Nothing else may be in it: a path would be passed over in silence, and a port above 65535 taken for another one.
fn is_host_and_port(authority: &str) -> bool {
    let Some((host, port)) = authority.rsplit_once(':') else {
        return false;
    };
    // An address of IPv6 has colons of its own, and brackets round them.
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty() && (bracketed || !host.contains([':', '/', '?', '#', '@']));
    is_host && port.parse::<u16>().is_ok()
}
