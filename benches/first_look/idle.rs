//! What a watcher costs that is told of nothing: the server's memory, all of it counted.
//!
//! A hundred thousand of them over ten streams: each on a key of its own, and all on one key.

use crate::client::{Watching, watch_of};
use crate::server::{Server, load};
use std::time::{Duration, Instant};
use vigil::api::pb::etcdserverpb::WatchCreateRequest;

const WATCHERS: usize = 100_000;
const STREAMS: usize = 10;
/// What was freed on the way may still be on its way back.
const SETTLING: Duration = Duration::from_secs(1);

/// Measures.
pub(crate) async fn run() {
    measure("each on a key of its own", |number| {
        // As long as keys of a service registry are.
        watch_of(format!("/registry/pods/default/pod-{number:06}"))
    })
    .await;
    measure("all on one key", |_| watch_of("key".to_owned())).await;
}

async fn measure(what: &str, watch: impl Fn(usize) -> WatchCreateRequest) {
    let server = Server::start();
    let before = server.rss_bytes();
    let begun = Instant::now();
    let (cpu, mut streams) = (server.cpu(), Vec::new());
    for stream in 0..STREAMS {
        let mut watching = Watching::open(&server.address).await;
        let numbers = (stream..WATCHERS).step_by(STREAMS);
        watching.create(numbers.map(&watch).collect()).await;
        streams.push(watching);
    }
    let elapsed = begun.elapsed();
    let cpu = server.cpu() - cpu;
    tokio::time::sleep(SETTLING).await;
    let grown = server.rss_bytes() - before;
    println!(
        "idle, {WATCHERS} watchers on {STREAMS} streams, {what}: {:.0} B/watcher (RSS {:.1} MB before, {:.1} MB more); \
         created {:.1} k/s, server CPU {:.2} us/watch; load {}",
        grown as f64 / WATCHERS as f64,
        before as f64 / 1e6,
        grown as f64 / 1e6,
        WATCHERS as f64 / elapsed.as_secs_f64() / 1e3,
        1e6 * cpu.as_secs_f64() / WATCHERS as f64,
        load(),
    );
    drop(streams);
}
