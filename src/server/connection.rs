//! One connection on its worker: HTTP/2 by hyper and HTTP/1 by actix-web, every task on the worker's own thread.
//!
//! `tonic::transport::Server` would spawn outside of the worker's `LocalSet`, where no actor can be started (T1).

use super::http1::Http1;
use super::io::Io;
use super::{Accepted, ServerLimits};
use crate::api::{Edge, StopSignal};
use crate::backend::Backend;
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
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// What every HTTP/2 connection opens with.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long to wait, at first and at most, for the rest of a first word of which only a part has come.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(1);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(250);
/// How long an HTTP/1 connection may be silent before the kernel asks whether anybody is there.
const SILENCE_MAX: Duration = Duration::from_mins(1);

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
    } = accepted;
    let (socket, word) = tokio::select! {
        opened = open(socket, limits) => match opened {
            Ok(opened) => opened,
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

/// Takes the socket into this thread's reactor, and waits for all of the client's first word, so that a connection which
/// never says it does not stay.
async fn open(socket: std::net::TcpStream, limits: ServerLimits) -> io::Result<(Io, FirstWord)> {
    let socket = TcpStream::from_std(socket)?;
    socket.set_nodelay(true)?;
    let word = timeout(limits.first_word_timeout, first_word(&socket)).await??;
    if matches!(word, FirstWord::Http1) {
        // HTTP/2 pings whoever is silent; here the kernel has to find out who is gone.
        sockopt::set_socket_keepalive(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, SILENCE_MAX)?;
    }
    Ok((Io::plain(socket), word))
}

/// What a connection opens with.
enum FirstWord {
    Http2,
    /// Text, most likely a request line.
    Http1,
    Other,
}

/// Looks at the first bytes and leaves them where they are.
async fn first_word(socket: &TcpStream) -> io::Result<FirstWord> {
    let mut buffer = [0; HTTP2_PREFACE.len()];
    let mut pause = LOOK_AGAIN_MIN;
    loop {
        let count = socket.peek(&mut buffer).await?;
        let word = buffer.get(..count).unwrap_or_default();
        match word.first() {
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(_) if word == HTTP2_PREFACE => return Ok(FirstWord::Http2),
            Some(_) if HTTP2_PREFACE.starts_with(word) => {}
            Some(letter) if letter.is_ascii_uppercase() => return Ok(FirstWord::Http1),
            Some(_) => return Ok(FirstWord::Other),
        }
        // Bytes that were only looked at leave the socket readable, so there is nothing to wait for but time.
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_AGAIN_MAX);
    }
}
