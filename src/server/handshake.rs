//! The beginning of a connection on a port that speaks TLS.
//!
//! A client that does not speak it is told so, as far as it can be, and is let go. What was agreed on in the handshake
//! is not asked here: the connection's first word says more.

use super::connection::decline;
use super::io::Io;
use crate::tls::ServerTls;
use std::io;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// The first byte of a client that speaks TLS: a record of the handshake.
const HANDSHAKE_RECORD: u8 = 0x16;
const STATUS: &str = "400 Bad Request";
const TEXT: &str = "vigil: this port speaks TLS; say https:// instead of http://\n";

/// Makes a connection secret; `None` when the client speaks plain text.
pub(super) async fn handshake(mut socket: TcpStream, tls: &ServerTls) -> io::Result<Option<Io>> {
    let mut first = [0];
    if socket.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let [first] = first;
    if first == HANDSHAKE_RECORD {
        let stream = TlsAcceptor::from(tls.config()).accept(socket).await?;
        return Ok(Some(Io::tls(stream)));
    }
    // HTTP begins with a letter; to anybody else this text would be noise.
    if first.is_ascii_uppercase() {
        decline(&mut socket, STATUS, TEXT).await?;
    }
    Ok(None)
}
