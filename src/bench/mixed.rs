//! Puts and reads side by side, with watchers of everything beside them.

use super::BenchError;
use super::args::{Common, MixedLoad};
use super::fill::{EVERYTHING, fill, key, put};
use super::listeners::{Heard, open_stream, watch_of};
use super::operations::{closed_loop, read};
use super::threads::on_threads;
use super::wire::Connection;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::thread;

/// Measures.
pub(super) fn run(common: &Common, load: &MixedLoad) -> Result<Value, BenchError> {
    fill(common, common.keys as u64)?;
    let heard = Heard::default();
    let puts_percent = u64::from(load.puts_percent.min(100));
    let operation = |connection: Connection, turn: u64| async move {
        let number = (turn / 100) as usize % common.keys;
        if turn % 100 < puts_percent {
            put(&connection, key(number), common.value_bytes)
                .await
                .map(drop)
        } else {
            read(&connection, number, 1).await
        }
    };
    let (operations, listened) = thread::scope(|scope| {
        let listening = scope.spawn(|| listen(common, load.watchers, &heard));
        heard.measure();
        let operations = closed_loop(common, &load.clients, "mixed", operation);
        heard.stop();
        let listened = listening.join();
        (operations, listened)
    });
    listened.map_err(|_| BenchError::wrong("a thread of the generator panicked"))??;
    let mut report = operations?;
    report.set("puts_percent", puts_percent);
    report.set("watchers", load.watchers);
    report.set("events", heard.events.load(Ordering::Relaxed));
    report.merge(json!({ "event_latency_ms": heard.latencies().report() }));
    Ok(report.finish())
}

fn listen(common: &Common, watchers: usize, heard: &Heard) -> Result<(), BenchError> {
    on_threads(1, |_| async move {
        let mut listening = Vec::new();
        for watcher in 0..watchers {
            let create = |_| watch_of(EVERYTHING.0, EVERYTHING.1, 0);
            let watching = open_stream(&common.endpoint, std::iter::once(watcher), create).await?;
            listening.push(heard.listen(watching));
        }
        futures_util::future::try_join_all(listening)
            .await
            .map(drop)
    })
    .map(drop)
}
