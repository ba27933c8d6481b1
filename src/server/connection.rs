//! One connection on its worker: HTTP/2 by hyper, every task on the worker's own thread.
//!
//! `tonic::transport::Server` would spawn outside of the worker's `LocalSet`, where no actor can be started (T1).

use super::io::Io;
use super::{Accepted, ServerLimits};
use crate::api::{Edge, StopSignal};
use crate::backend::Backend;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::pin::pin;
use tokio::net::TcpStream;
use tokio::time::timeout;

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
    edge: Edge<B>,
    limits: ServerLimits,
    mut signal: StopSignal,
) {
    let Accepted {
        socket,
        peer,
        place,
    } = accepted;
    let socket = tokio::select! {
        socket = open(socket, limits) => match socket {
            Ok(socket) => socket,
            Err(error) => return log::debug!("connection from {peer}: {error}"),
        },
        () = signal.stopped() => return,
    };
    let service = service_fn(move |request| edge.handle(request));
    let served = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection_max)
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
    drop(place);
}

/// Takes the socket into this thread's reactor, and waits for the client's first word, so that a connection which never
/// says one does not stay.
async fn open(socket: std::net::TcpStream, limits: ServerLimits) -> std::io::Result<Io> {
    let socket = TcpStream::from_std(socket)?;
    socket.set_nodelay(true)?;
    timeout(limits.first_word_timeout, socket.readable()).await??;
    Ok(Io::Plain(socket))
}
