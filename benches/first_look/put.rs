//! Durable puts over gRPC, from one writer and from a hundred.
//!
//! Every put is answered after it is on the disk; nobody watches.

use crate::client::{VALUE_BYTES, put, writer};
use crate::report::{Stopwatch, percentiles};
use crate::server::Server;
use std::time::{Duration, Instant};

const KEYS: u64 = 10_000;
const MEASURED: Duration = Duration::from_secs(8);
const WARMING: Duration = Duration::from_secs(1);

/// Measures.
pub(crate) async fn run() {
    for (writers, connections) in [(1, 1), (100, 10)] {
        measure(writers, connections).await;
    }
}

async fn measure(writers: usize, connections: usize) {
    let server = Server::start();
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(writer(&server.address).await);
    }
    let begin = Instant::now() + WARMING;
    let end = begin + MEASURED;
    let tasks: Vec<_> = (0..writers)
        .map(|number| {
            let mut client = clients[number % connections].clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut turn = number as u64;
                while Instant::now() < end {
                    let begun = Instant::now();
                    // Keys in no order, and each writer's its own.
                    turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    put(&mut client, format!("key/{:05}", (turn >> 33) % KEYS)).await;
                    if begun >= begin {
                        times.push(begun.elapsed());
                    }
                }
                times
            })
        })
        .collect();
    tokio::time::sleep_until(begin.into()).await;
    let stopwatch = Stopwatch::start(&server);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a writer"));
    }
    let puts = times.len() as u64;
    let more = format!(" of {VALUE_BYTES} B, {}", percentiles(&mut times));
    let name = format!("put, {writers} writers on {connections} connections");
    stopwatch.report(&name, (puts, "put"), &server, &more);
}
