//! One key, ten thousand watchers on one stream: how fast does everyone hear of a put?
//!
//! Closed loop: the next put waits until all have heard of the last one. Saturated: several writers never wait.

use crate::client::{VALUE_BYTES, Watching, put, watch_of, writer};
use crate::report::{Stopwatch, percentiles};
use crate::server::Server;
use std::time::{Duration, Instant};

const WATCHERS: usize = 10_000;
const ROUNDS: usize = 200;
const ROUNDS_BEFORE: usize = 20;
const WRITERS: usize = 4;
const SATURATED: Duration = Duration::from_secs(10);
/// The first stretch of the saturated run does not count: queues fill, and watchers fall behind.
const SATURATING: Duration = Duration::from_secs(2);

/// Measures.
pub(crate) async fn run() {
    let server = Server::start();
    let mut watching = Watching::open(&server.address).await;
    let watches = (0..WATCHERS).map(|_| watch_of("key".to_owned()));
    watching.create(watches.collect()).await;
    closed(&server, &mut watching).await;
    saturated(&server, &mut watching).await;
}

async fn closed(server: &Server, watching: &mut Watching) {
    let mut client = writer(&server.address).await;
    let mut times = Vec::new();
    let mut stopwatch = Stopwatch::start(server);
    for round in 0..ROUNDS_BEFORE + ROUNDS {
        if round == ROUNDS_BEFORE {
            times.clear();
            stopwatch = Stopwatch::start(server);
        }
        let begun = Instant::now();
        let mut client = client.clone();
        let putting = tokio::spawn(async move { put(&mut client, "key".to_owned()).await });
        let mut heard = 0;
        while heard < WATCHERS as u64 {
            heard += watching.next().await.events;
        }
        assert_eq!(heard, WATCHERS as u64, "each watcher hears once");
        times.push(begun.elapsed());
        putting.await.expect("a put");
    }
    // What is left over belongs to nobody's measurement.
    put(&mut client, "other".to_owned()).await;
    let events = (WATCHERS * ROUNDS) as u64;
    let more = format!(
        ", a put to all of {WATCHERS} in {}",
        percentiles(&mut times)
    );
    stopwatch.report("fan-out closed loop", (events, "event"), server, &more);
}

async fn saturated(server: &Server, watching: &mut Watching) {
    let client = writer(&server.address).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move {
                loop {
                    put(&mut client, "key".to_owned()).await;
                }
            })
        })
        .collect();
    let begun = Instant::now();
    let mut heard_of = vec![0; WATCHERS];
    let mut stopwatch = None;
    let (mut events, mut responses, mut first, mut last) = (0, 0_u64, 0, 0);
    while begun.elapsed() < SATURATING + SATURATED {
        let tally = watching.next().await;
        let before = &mut heard_of[tally.watch_id as usize];
        assert!(
            *before < tally.revision,
            "revisions come in order: {tally:?}"
        );
        *before = tally.revision;
        last = last.max(tally.revision);
        if begun.elapsed() >= SATURATING && stopwatch.is_none() {
            stopwatch = Some(Stopwatch::start(server));
            first = last;
        }
        if stopwatch.is_some() {
            events += tally.events;
            responses += 1;
        }
    }
    let more = format!(
        " of {VALUE_BYTES} B, {:.1} a response; {} revisions went by",
        events as f64 / responses.max(1) as f64,
        last - first,
    );
    let stopwatch = stopwatch.expect("the time has passed");
    stopwatch.report("fan-out saturated", (events, "event"), server, &more);
    for writer in writers {
        writer.abort();
    }
}
