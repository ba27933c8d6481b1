//! One connection on its worker: its first word says whether it is HTTP/2, HTTP/1 or nothing that is known here.
//!
//! Nothing is answered here but a client that does not speak TLS where it has to.

use super::handshake::handshake;
use super::http1::Http1;
use super::io::Io;
use super::web_side::WebSide;
use super::{Accepted, ServerLimits, http2};
use crate::api::{Edge, Served, StopSignal};
use crate::tls::ServerTls;
use rustix::net::sockopt;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What every HTTP/2 connection opens with.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long an HTTP/1 connection may be silent before the kernel asks whether anybody is there.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// How many reads of a request are dropped at most before its connection is closed.
const HTTP1_READS_MAX: usize = 64;

/// What a connection may turn out to speak.
#[derive(Clone)]
pub(super) struct Protocols<B: Served> {
    pub(super) edge: Edge<B>,
    pub(super) web: WebSide,
    pub(super) http1: Http1,
}

/// Serves a connection until its client leaves; when the server stops, until its calls are answered.
pub(super) async fn serve<B: Served>(
    accepted: Accepted,
    protocols: Protocols<B>,
    limits: ServerLimits,
    mut signal: StopSignal,
) {
    let Accepted {
        socket,
        peer,
        place,
        tls,
    } = accepted;
    let (socket, word) = tokio::select! {
        opened = open(socket, tls.as_deref(), limits) => match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => return log::debug!("connection from {peer}: no TLS"),
            Err(error) => return log::debug!("connection from {peer}: {error}"),
        },
        () = signal.stopped() => return,
    };
    match word {
        FirstWord::Http2 => {
            let sides = (protocols.edge, protocols.web);
            http2::serve(socket, peer, sides, limits, signal).await;
        }
        FirstWord::Http1 => (protocols.http1)(socket, peer).await,
        FirstWord::Other => log::debug!("connection from {peer}: not HTTP"),
    }
    drop(place);
}

/// Takes the socket into this thread's reactor, makes it secret where TLS is spoken, and waits for all of the client's
/// first word, so that a connection which never says it does not stay. `None` when the client speaks no TLS.
async fn open(
    socket: std::net::TcpStream,
    tls: Option<&ServerTls>,
    limits: ServerLimits,
) -> io::Result<Option<(Io, FirstWord)>> {
    let socket = TcpStream::from_std(socket)?;
    socket.set_nodelay(true)?;
    let opened = async {
        let mut socket = match tls {
            None => Io::plain(socket),
            Some(tls) => match handshake(socket, tls).await? {
                Some(socket) => socket,
                None => return Ok(None),
            },
        };
        let word = first_word(&mut socket).await?;
        if matches!(word, FirstWord::Http1) {
            // HTTP/2 pings whoever is silent; here the kernel has to find out who is gone.
            sockopt::set_socket_keepalive(socket.tcp(), true)?;
            sockopt::set_tcp_keepidle(socket.tcp(), SILENCE_MAX)?;
        }
        Ok(Some((socket, word)))
    };
    timeout(limits.first_word_timeout, opened).await?
}

/// What a connection opens with.
enum FirstWord {
    Http2,
    /// Text, most likely a request line.
    Http1,
    Other,
}

/// Looks at the first bytes and gives them back.
async fn first_word(socket: &mut Io) -> io::Result<FirstWord> {
    let mut buffer = [0; HTTP2_PREFACE.len()];
    let mut filled = 0;
    loop {
        let rest = buffer.get_mut(filled..).unwrap_or_default();
        let count = socket.read(rest).await?;
        filled += count;
        let word = buffer.get(..filled).unwrap_or_default();
        let opens_with = match word.first() {
            _ if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if word == HTTP2_PREFACE => FirstWord::Http2,
            _ if HTTP2_PREFACE.starts_with(word) => continue,
            Some(letter) if letter.is_ascii_uppercase() => FirstWord::Http1,
            _ => FirstWord::Other,
        };
        socket.give_back(word);
        return Ok(opens_with);
    }
}

/// Tells a client that speaks plain HTTP/1 where TLS is spoken. Its request is read and dropped: closing a socket with bytes unread
/// would take the answer back.
pub(super) async fn decline(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
    status: &str,
    text: &str,
) -> io::Result<()> {
    let bytes = text.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: text/plain");
    let answer = format!("{head}\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n{text}");
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await?;
    let mut dropped = [0; 1024];
    for _ in 0..HTTP1_READS_MAX {
        if socket.read(&mut dropped).await? == 0 {
            break;
        }
    }
    Ok(())
}
