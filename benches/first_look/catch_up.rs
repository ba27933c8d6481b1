//! One watcher from revision 1 over a long history, while writers go on: how fast does it catch up?
//!
//! Level is whoever has been told of everything that was acknowledged before that moment. Once on the server that wrote
//! the history, and once on one that was started on it and holds nothing in memory.

use crate::client::{Watching, put, watch_of, writer};
use crate::report::{Stopwatch, percentiles};
use crate::server::Server;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use vigil::api::pb::etcdserverpb::WatchCreateRequest;

const REVISIONS: usize = 200_000;
const KEYS: usize = 10_000;
const HISTORIANS: usize = 100;
const WRITERS: usize = 10;

/// Measures.
pub(crate) async fn run() {
    let mut server = Server::start();
    LocalSet::new().run_until(write_history(&server)).await;
    LocalSet::new()
        .run_until(measure("catch-up", &server))
        .await;
    server.restart().await;
    LocalSet::new()
        .run_until(measure("catch-up after a restart", &server))
        .await;
}

async fn write_history(server: &Server) {
    let client = writer(&server.address).await;
    let tasks: Vec<JoinHandle<()>> = (0..HISTORIANS)
        .map(|historian| {
            let mut client = client.clone();
            spawn_local(async move {
                for number in (historian..REVISIONS).step_by(HISTORIANS) {
                    put(&mut client, format!("history/{:05}", number % KEYS)).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("history is written");
    }
}

async fn measure(name: &str, server: &Server) {
    let client = writer(&server.address).await;
    // The last revision that a writer was told of, and how long each put took.
    let acknowledged = Rc::new(Cell::new(REVISIONS as i64));
    let times = Rc::new(Cell::new(Vec::new()));
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (mut client, acknowledged) = (client.clone(), Rc::clone(&acknowledged));
            let times = Rc::clone(&times);
            spawn_local(async move {
                loop {
                    let begun = Instant::now();
                    let revision = put(&mut client, format!("live/{number}")).await;
                    acknowledged.set(acknowledged.get().max(revision));
                    let mut list = times.take();
                    list.push(begun.elapsed());
                    times.set(list);
                }
            })
        })
        .collect();
    let mut watching = Watching::open(&server.address).await;
    let stopwatch = Stopwatch::start(server);
    let everything = WatchCreateRequest {
        range_end: vec![0].into(),
        start_revision: 1,
        ..watch_of("\0".to_owned())
    };
    watching.create(vec![everything]).await;
    let (mut heard_of, mut events) = (0, 0);
    while heard_of < acknowledged.get() {
        let tally = watching.next().await;
        assert!(heard_of < tally.revision, "revisions come in order");
        heard_of = tally.revision;
        events += tally.events;
    }
    assert_eq!(events as i64, heard_of - 1, "one event for each revision");
    let mut times = times.take();
    let more = format!(
        " until level; {} puts beside it, {}",
        times.len(),
        percentiles(&mut times)
    );
    stopwatch.report(name, (events, "event"), server, &more);
    for writer in writers {
        writer.abort();
    }
}
