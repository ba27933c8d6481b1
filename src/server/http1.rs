//! HTTP/1 connections: actix-web's own service, made once for each worker and run on its thread.
//!
//! What is answered is the edge's business; here are only its bounds, and that it ends when the server stops.

use super::ServerLimits;
use super::io::Io;
use super::web_side::app;
use crate::api::{Http, Served, StopSignal};
use actix_http::HttpService;
use actix_service::{Service, ServiceFactory, map_config};
use actix_web::dev::AppConfig;
use actix_web::web;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long a connection stays for a client that was answered before it had sent all of its request.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// actix's clock ticks twice a second. A shorter limit can be over by that clock before it begins, and then nothing wakes
/// the connection that it should end.
const CLOCK_TICK: Duration = Duration::from_millis(500);

/// Serves one connection to its end.
pub(super) type Http1 = Rc<dyn Fn(Io, SocketAddr) -> LocalBoxFuture<'static, ()>>;

/// The HTTP/1 side of a worker. A client that closes its sending side has left, and its streams end; when the server
/// stops, what is being answered is finished and nothing new is begun.
pub(super) async fn service<B: Served>(
    http: web::Data<Http<B>>,
    limits: ServerLimits,
    signal: &StopSignal,
) -> Http1 {
    let app = map_config(app(http), |()| AppConfig::default());
    let signal = signal.clone();
    let factory = HttpService::build()
        .keep_alive(kept(limits.http_idle_timeout))
        .client_request_timeout(kept(limits.first_word_timeout))
        .client_disconnect_timeout(kept(limits.shutdown_grace.min(LINGER_MAX)))
        .h1_allow_half_closed(false)
        .graceful_shutdown_signal(move || {
            let mut signal = signal.clone();
            async move { signal.stopped().await }
        })
        .h1(app);
    let service = factory.new_service(()).await.ok().map(Rc::new);
    if service.is_none() {
        log::error!("no HTTP/1: its service cannot be made");
    }
    Rc::new(move |socket, peer| {
        let service = service.clone();
        async move {
            let Some(service) = service else {
                return;
            };
            if let Err(error) = service.call((socket, Some(peer))).await {
                // Clients leave without a word all the time.
                log::debug!("connection from {peer}: {error}");
            }
        }
        .boxed_local()
    })
}

/// The shortest limit from this one on that actix keeps.
fn kept(limit: Duration) -> Duration {
    limit.max(2 * CLOCK_TICK)
}
