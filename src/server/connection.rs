//! One connection on its worker: HTTP/2 by hyper and HTTP/1 by actix-web, every task on the worker's own thread.
//!
//! `tonic::transport::Server` would spawn outside of the worker's `LocalSet`, where no actor can be started (T1).

use super::handshake::handshake;
use super::http1::Http1;
use super::io::Io;
use super::{Accepted, ServerLimits};
use crate::api::{Edge, StopSignal};
use crate::backend::Backend;
use crate::tls::ServerTls;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
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

/// Spawns on the current thread's `LocalSet`.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Serves a connection until its client leaves; when the server stops, until its calls are answered.
pub(super) async fn serve<B: Backend>(
    accepted: Accepted,
    (edge, http1): (Edge<B>, Http1),
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
        FirstWord::Http2 => serve_http2(socket, peer, edge, limits, signal).await,
        FirstWord::Http1 => http1(socket, peer).await,
        FirstWord::Other => log::debug!("connection from {peer}: not HTTP"),
    }
    drop(place);
}

async fn serve_http2<B: Backend>(
    socket: Io,
    peer: SocketAddr,
    edge: Edge<B>,
    limits: ServerLimits,
    mut signal: StopSignal,
) {
    let service = service_fn(move |request| edge.handle(request));
    let served = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection_max)
        .max_pending_accept_reset_streams(limits.resets_pending_max)
        .max_send_buf_size(limits.send_buffer_bytes_max.min(u32::MAX as usize))
        .max_header_list_size(limits.header_bytes_max)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .serve_connection(TokioIo::new(socket), service);
    let mut served = pin!(served);
    let end = tokio::select! {
        end = served.as_mut() => end,
        () = signal.stopped() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = end {
        // Clients leave without a word all the time.
        log::debug!("connection from {peer}: {error}");
    }
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
