//! The way to the server: an endpoint in words becomes a channel.
//!
//! It never retries; a verb that wants to asks again.

use super::VerbError;
use std::error::Error;
use std::io;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// A server that has gone without a word is noticed after these two; etcd minds pings more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(6);

/// Connects to `HOST:PORT`, with or without `http://` before it.
pub(super) async fn connect(endpoint: &str) -> Result<Channel, VerbError> {
    let malformed = || VerbError::Endpoint {
        endpoint: endpoint.to_owned(),
    };
    let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if !is_host_and_port(authority) {
        return Err(malformed());
    }
    let address = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| malformed())?;
    let address = address
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .tcp_nodelay(true);
    address
        .connect()
        .await
        .map_err(|error| VerbError::Unreachable {
            endpoint: endpoint.to_owned(),
            source: root_cause(&error),
        })
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

/// The transport wraps the system's error several times; the innermost says why.
fn root_cause(error: &dyn Error) -> io::Error {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    io::Error::other(cause.to_string())
}
