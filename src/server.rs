//! The listener: accepts connections, deals them out to the worker threads, and lets them go when the server stops.
//!
//! A connection is accepted once and lives on one worker to its end (T1). Nothing here knows what is said on one.

mod connection;
mod handshake;
mod http1;
mod http2;
mod io;
mod relay;
mod run;
mod web_side;

#[cfg(test)]
mod tests;

pub use relay::{RelayConfig, run_relay};
pub use run::{ServeConfig, ServeError, run};

use crate::actors::Engine;
use crate::api::{
    Counts, Edge, EdgeLimits, Http, HttpClocks, HttpSettings, Member, Served, Stop, StopSignal,
};
use crate::backend::LocalBackend;
use crate::tls::ServerTls;
use actix_rt::{Arbiter, ArbiterHandle};
use actix_web::web;
use connection::Protocols;
use std::future::Future;
use std::io as std_io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use web_side::WebSide;

/// How long accepting pauses after an error, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How much longer than its grace a worker may take to say that it is done.
const WORKER_SLACK: Duration = Duration::from_secs(1);

/// The bounds of the listener and of each connection. Defaults are etcd's where etcd has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Bytes of one encoded request.
    pub request_bytes_max: usize,
    /// The same of a request that comes as JSON, where it is not the same.
    pub json_request_bytes_max: Option<usize>,
    /// Calls at a time on one connection; each watch stream is one.
    pub streams_per_connection_max: u32,
    /// Connections at a time, on all workers together. Beyond it they wait in the listener's backlog.
    pub connections_max: usize,
    /// Accepted connections that wait for one worker.
    pub accepts_per_worker_max: usize,
    /// Calls that a client has begun and given up before they were looked at; one more ends its connection.
    pub resets_pending_max: usize,
    /// Bytes that one stream may have on their way to the socket.
    pub send_buffer_bytes_max: usize,
    /// Bytes of the headers of one request.
    pub header_bytes_max: u32,
    /// Bytes that a client may send ahead on one call.
    pub stream_window_bytes: u32,
    /// Bytes that a client may send ahead on all calls of one connection.
    pub connection_window_bytes: u32,
    /// How long a connection may be silent before it is pinged.
    pub keepalive_interval: Duration,
    /// How long the answer to a ping may take.
    pub keepalive_timeout: Duration,
    /// How long a new connection may take to say its first word: HTTP/2's preface, or the head of an HTTP/1 request.
    pub first_word_timeout: Duration,
    /// How long an HTTP/1 connection may be idle between two requests, and a plain request's body stand still.
    pub http_idle_timeout: Duration,
    /// How often an event stream over plain HTTP is told how far it has come while nothing happens.
    pub event_keep_alive_interval: Duration,
    /// How long calls may take to finish once the server is stopping.
    pub shutdown_grace: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            request_bytes_max: EdgeLimits::default().request_bytes_max,
            json_request_bytes_max: EdgeLimits::default().json_request_bytes_max,
            streams_per_connection_max: u32::MAX,
            connections_max: 65_536,
            accepts_per_worker_max: 128,
            resets_pending_max: 1024,
            send_buffer_bytes_max: 64 << 10,
            header_bytes_max: 16 << 10,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 4 << 20,
            keepalive_interval: Duration::from_hours(2),
            keepalive_timeout: Duration::from_secs(20),
            first_word_timeout: Duration::from_secs(10),
            http_idle_timeout: Duration::from_mins(2),
            event_keep_alive_interval: Duration::from_secs(15),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// A worker thread to serve connections on, with the backend that belongs to it.
#[derive(Clone, Debug)]
pub struct Worker<B> {
    /// The thread.
    pub arbiter: ArbiterHandle,
    /// What its connections talk to.
    pub backend: B,
}

/// The workers of an engine, each with its own thread and the engine as its backend. Where the engine lives on the thread
/// that started it, this must be called on that thread.
pub fn engine_workers(engine: &Engine) -> Vec<Worker<LocalBackend>> {
    let worker = |number| Worker {
        arbiter: engine
            .worker_arbiter(number)
            .unwrap_or_else(Arbiter::current),
        backend: LocalBackend::new(engine.clone(), number),
    };
    (0..engine.workers()).map(worker).collect()
}

/// Where clients connect, and what is spoken there before anything else.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
}

impl From<TcpListener> for Listening {
    /// Plain text.
    fn from(listener: TcpListener) -> Self {
        Self {
            listener,
            tls: None,
        }
    }
}

impl Listening {
    /// TLS and nothing else.
    pub fn over_tls(listener: TcpListener, tls: ServerTls) -> Self {
        Self {
            listener,
            tls: Some(Arc::new(tls)),
        }
    }
}

/// A connection on its way to its worker.
struct Accepted {
    socket: std::net::TcpStream,
    peer: SocketAddr,
    /// Its place among `connections_max`.
    place: OwnedSemaphorePermit,
    /// What is spoken before anything else, unless the port is plain.
    tls: Option<Arc<ServerTls>>,
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    stop: Stop,
    health: HealthReporter,
    accepting: JoinHandle<()>,
    /// Each comes when a worker's last connection is gone.
    workers: Vec<oneshot::Receiver<()>>,
    shutdown_grace: Duration,
}

/// Serves what connects on these workers, in turn. Must be called inside a tokio runtime, which then
/// accepts.
///
/// # Errors
///
/// When there are no workers, when one of them has stopped, or when the listener cannot be used.
pub fn start<B: Served>(
    listening: impl Into<Listening>,
    workers: Vec<Worker<B>>,
    member: Member,
    http: HttpSettings,
    limits: ServerLimits,
) -> std_io::Result<Server> {
    let Listening { listener, tls } = listening.into();
    if workers.is_empty() {
        return Err(std_io::Error::other("a server needs a worker"));
    }
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let local_addr = listener.local_addr()?;
    let (stop, signal) = Stop::new();
    let health = HealthReporter::new();
    let member = Arc::new(member);
    let counts = Arc::new(Counts::of_our_calls());
    let edge_limits = EdgeLimits {
        request_bytes_max: limits.request_bytes_max,
        json_request_bytes_max: limits.json_request_bytes_max,
    };
    let mut queues = Vec::with_capacity(workers.len());
    let mut done = Vec::with_capacity(workers.len());
    for Worker { arbiter, backend } in workers {
        let (queue, accepted) = mpsc::channel(limits.accepts_per_worker_max.max(1));
        let (finished, finish) = oneshot::channel();
        let edge = Edge::new(
            backend,
            Arc::clone(&member),
            edge_limits,
            &health,
            signal.clone(),
        )
        .counting(Arc::clone(&counts));
        let clocks = HttpClocks {
            body_pause_max: limits.http_idle_timeout,
            keep_alive_interval: limits.event_keep_alive_interval,
        };
        let http = Http::new(edge.clone(), http.clone(), clocks, Arc::clone(&counts));
        let signal = signal.clone();
        // What serves HTTP never leaves its thread, so it is made there.
        let serving = arbiter.spawn_fn(move || {
            actix_rt::spawn(async move {
                work(edge, http, accepted, limits, signal).await;
                // Nobody listens when the server was dropped instead of shut down.
                let _ = finished.send(());
            });
        });
        if !serving {
            return Err(std_io::Error::other("a worker has stopped"));
        }
        queues.push(queue);
        done.push(finish);
    }
    let places = Arc::new(Semaphore::new(
        limits.connections_max.min(Semaphore::MAX_PERMITS),
    ));
    let accepting = accept(listener, queues, places, tls);
    let accepting = tokio::spawn(until_stopped(signal, accepting));
    Ok(Server {
        local_addr,
        stop,
        health,
        accepting,
        workers: done,
        shutdown_grace: limits.shutdown_grace,
    })
}

impl Server {
    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops the server: no more connections, watch streams end with Unavailable, and other calls finish, or are cut
    /// off after `shutdown_grace`. The backend must go on answering until this returns.
    pub async fn shutdown(mut self) {
        self.health
            .set_service_status("", ServingStatus::NotServing)
            .await;
        // Watchers of the health are told, and then let go: they would hold their connections to the end.
        self.health.clear_service_status("").await;
        self.stop.say();
        if let Err(error) = self.accepting.await {
            log::error!("the listener has failed: {error}");
        }
        for worker in self.workers {
            // An error says that the worker is gone, which is as good.
            if timeout(self.shutdown_grace + WORKER_SLACK, worker)
                .await
                .is_err()
            {
                log::warn!("a worker does not come to an end");
            }
        }
    }
}

async fn until_stopped(mut signal: StopSignal, work: impl Future<Output = ()>) {
    tokio::select! {
        () = signal.stopped() => {}
        () = work => {}
    }
}

/// Accepts for ever, and deals out what it accepts to the workers in turn.
async fn accept(
    listener: tokio::net::TcpListener,
    queues: Vec<mpsc::Sender<Accepted>>,
    places: Arc<Semaphore>,
    tls: Option<Arc<ServerTls>>,
) {
    let mut turn = 0_usize;
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted = match listener.accept().await {
            Ok((socket, peer)) => socket.into_std().map(|socket| Accepted {
                socket,
                peer,
                place,
                tls: tls.clone(),
            }),
            Err(error) => Err(error),
        };
        match accepted {
            Ok(accepted) => deal(&queues, &mut turn, accepted).await,
            Err(error) => {
                log::warn!("cannot accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Hands a connection to the next worker with room in its queue; when none has room, waits for the one whose turn it
/// is.
async fn deal(queues: &[mpsc::Sender<Accepted>], turn: &mut usize, mut accepted: Accepted) {
    for _ in queues {
        let Some(queue) = queues.get(*turn % queues.len()) else {
            return;
        };
        *turn = turn.wrapping_add(1);
        match queue.try_send(accepted) {
            Ok(()) => return,
            Err(error) => accepted = error.into_inner(),
        }
    }
    let Some(queue) = queues.get(*turn % queues.len()) else {
        return;
    };
    *turn = turn.wrapping_add(1);
    if queue.send(accepted).await.is_err() {
        // Its arbiter is gone; the connection closes, and the client tries again.
        log::warn!("a worker has stopped");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Serves the connections of one worker, on its own thread, until the server stops and they are gone.
async fn work<B: Served>(
    edge: Edge<B>,
    http: Http<B>,
    mut accepted: mpsc::Receiver<Accepted>,
    limits: ServerLimits,
    mut signal: StopSignal,
) {
    let http = web::Data::new(http);
    let Some(web) = WebSide::new(http.clone()).await else {
        return log::error!("no HTTP: its service cannot be made");
    };
    let protocols = Protocols {
        edge,
        web,
        http1: http1::service(http, limits, &signal).await,
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = signal.stopped() => break,
            next = accepted.recv() => match next {
                Some(next) => {
                    let served = connection::serve(next, protocols.clone(), limits, signal.clone());
                    connections.spawn_local(served);
                }
                None => break,
            },
            Some(ended) = connections.join_next() => note(ended),
        }
    }
    drop(accepted);
    let finish = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    if timeout(limits.shutdown_grace, finish).await.is_err() {
        log::warn!("connections are cut off: their calls did not finish in time");
        connections.shutdown().await;
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        log::error!("a connection's task panicked: {error}");
    }
}
