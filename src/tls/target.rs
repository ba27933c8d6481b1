//! Whom a client wants to reach: an endpoint in words becomes an address, and the question whether TLS is spoken there.
//!
//! Nothing is looked up and nobody is called here.

use super::ClientFiles;
use tokio_rustls::rustls::pki_types::{InvalidDnsNameError, ServerName};

/// Whom a client wants to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `HOST:PORT`.
    pub authority: String,
    /// TLS is spoken there.
    pub is_tls: bool,
}

impl Target {
    /// Reads `HOST:PORT`, with or without `http://` or `https://` before it. Without, it is TLS when files are given.
    pub fn read(endpoint: &str, files: &ClientFiles) -> Option<Self> {
        let (is_tls, authority) = if let Some(authority) = endpoint.strip_prefix("https://") {
            (true, authority)
        } else if let Some(authority) = endpoint.strip_prefix("http://") {
            (false, authority)
        } else {
            (files.ask_for_tls(), endpoint)
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        is_host_and_port(authority).then(|| Self {
            authority: authority.to_owned(),
            is_tls,
        })
    }

    /// The name that the server's certificate has to be good for.
    pub fn server_name(&self) -> Result<ServerName<'static>, InvalidDnsNameError> {
        let host = self.authority.rsplit_once(':');
        let host = host.map_or("", |(host, _)| host).trim_matches(['[', ']']);
        ServerName::try_from(host.to_owned())
    }
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
