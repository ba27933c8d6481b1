//! The whole edge over a real loopback socket, with a scripted backend behind it.
//!
//! What a store or a watch does is tested elsewhere; here it is made up.

mod edge;
mod engine;
mod fake;
mod http1;
mod kv;
mod lifecycle;
mod lines;
mod relay;
mod tls;
mod watch;
mod web_side;

use super::{Server, ServerLimits, Worker, start};
use crate::api::{HttpSettings, Member, pb};
use actix_rt::Arbiter;
use fake::Fake;
use pb::etcdserverpb::kv_client::KvClient;
use pb::etcdserverpb::watch_client::WatchClient;
use std::future::Future;
use std::net::TcpListener;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test on an actix system, and not for ever.
fn run(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(async {
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("the test hangs");
    });
}

/// Waits for something that another task does.
async fn eventually(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn member() -> Member {
    Member {
        name: "alone".to_owned(),
        client_urls: vec!["http://127.0.0.1:2379".to_owned()],
    }
}

/// A server in front of `fake`, on the test's own thread.
fn serve(fake: &Fake, limits: ServerLimits) -> Server {
    serve_on(fake, limits, vec![Arbiter::current()])
}

fn serve_on(fake: &Fake, limits: ServerLimits, threads: Vec<actix_rt::ArbiterHandle>) -> Server {
    serve_with(fake, HttpSettings::default(), limits, threads)
}

fn serve_with(
    fake: &Fake,
    http: HttpSettings,
    limits: ServerLimits,
    threads: Vec<actix_rt::ArbiterHandle>,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let workers = threads.into_iter().map(|arbiter| Worker {
        arbiter,
        backend: fake.clone(),
    });
    start(listener, workers.collect(), member(), http, limits).unwrap()
}

fn endpoint(server: &Server) -> Endpoint {
    Endpoint::from_shared(format!("http://{}", server.local_addr())).unwrap()
}

async fn channel(server: &Server) -> Channel {
    endpoint(server).connect().await.unwrap()
}

async fn kv(server: &Server) -> KvClient<Channel> {
    KvClient::new(channel(server).await)
}

async fn watch(server: &Server) -> WatchClient<Channel> {
    WatchClient::new(channel(server).await).max_decoding_message_size(usize::MAX)
}
