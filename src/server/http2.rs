//! HTTP/2 connections by hyper: calls of gRPC go to the gRPC edge, and everything else to the HTTP side.
//!
//! Every task is on the worker's own thread. `tonic::transport::Server` would spawn outside of the worker's `LocalSet`,
//! where no actor can be started (T1).

use super::ServerLimits;
use super::io::Io;
use super::web_side::{WebBody, WebSide};
use crate::api::{Edge, Served, StopSignal, is_for_grpc};
use futures_util::future::Either;
use futures_util::{FutureExt, TryFutureExt};
use http::Request;
use http_body_util::Either as EitherBody;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;

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
pub(super) async fn serve<B: Served>(
    socket: Io,
    peer: SocketAddr,
    (edge, web): (Edge<B>, WebSide),
    limits: ServerLimits,
    mut signal: StopSignal,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        if is_for_grpc(request.headers()) {
            let answer = edge.handle(request);
            Either::Left(answer.map_ok(|answer| answer.map(EitherBody::<_, WebBody>::Left)))
        } else {
            let answer = web.answer(request, peer);
            Either::Right(answer.map(|answer| Ok(answer.map(EitherBody::Right))))
        }
    });
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
