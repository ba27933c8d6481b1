//! The way to the server: an endpoint in words becomes a channel.
//!
//! It never retries; a verb that wants to asks again.

use super::error::root_cause;
use super::{VerbError, diagnose};
use crate::cli::ClientArgs;
use crate::tls::{ClientFiles, Target, client_config};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
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

/// Connects to an endpoint.
pub(super) async fn connect_to(endpoint: &str, files: &ClientFiles) -> Result<Channel, VerbError> {
    let malformed = || VerbError::Endpoint {
        endpoint: endpoint.to_owned(),
    };
    let target = Target::read(endpoint, files).ok_or_else(malformed)?;
    let authority = &target.authority;
    let address = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| malformed())?;
    let address = address
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .tcp_nodelay(true);
    let connected = if target.is_tls {
        let origin = format!("https://{authority}").parse();
        let address = address.origin(origin.map_err(|_| malformed())?);
        let connector = TlsConnector::from(client_config(files)?);
        let target = target.clone();
        let connector = service_fn(move |_| {
            let secret = secret(connector.clone(), target.clone());
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

/// A connection on which the handshake is done.
pub(super) async fn secret(
    connector: TlsConnector,
    target: Target,
) -> io::Result<TlsStream<TcpStream>> {
    let name = target.server_name().map_err(io::Error::other)?;
    let socket = TcpStream::connect(target.authority).await?;
    socket.set_nodelay(true)?;
    connector.connect(name, socket).await
}
