//! Watchers, each of a key of its own: what creating and keeping them costs, and what a put costs among them.

use super::BenchError;
use super::args::{Common, ManyLoad};
use super::fill::{key, put};
use super::listeners::{Heard, open_stream, watch_of};
use super::operations::Chance;
use super::process::{Process, Watch};
use super::progress::Bar;
use super::report::Report;
use super::threads::{on_threads, share};
use super::wire::Connection;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Barrier;
use tokio::time::sleep;

/// How long a server has to come to rest before its memory is looked at.
const RESTING: Duration = Duration::from_secs(2);

/// Measures.
pub(super) fn run(common: &Common, load: &ManyLoad) -> Result<Value, BenchError> {
    let heard = Heard::default();
    let process = Process::find(common.server_pid, &common.endpoint);
    let streams = load.streams.min(load.watchers);
    let threads = common.threads.min(streams);
    let (barrier, ended) = (Barrier::new(threads), AtomicBool::new(false));
    let report = Mutex::new(Report::new("many", &common.endpoint));
    let _bar = Bar::follow("events", &heard.events, u64::MAX);
    let begin = Instant::now();
    let creating = Watch::start(process);
    let rss_bytes = || process.map_or(0, |process| process.usage().rss_bytes);
    let rss_bytes_before = rss_bytes();
    let (heard, barrier, ended, report_of) = (&heard, &barrier, &ended, &report);
    on_threads(threads, |thread| async move {
        let mut watching = Vec::new();
        for stream in share(streams, threads, thread) {
            let watchers = share(load.watchers, streams, stream);
            let create = |watcher| watch_of(&key(watcher), "", 0);
            watching.push(open_stream(&common.endpoint, watchers, create).await?);
        }
        barrier.wait().await;
        if thread == 0 {
            let elapsed = begin.elapsed();
            let created = creating.report(load.watchers as u64);
            sleep(RESTING).await;
            let grown_bytes = rss_bytes().saturating_sub(rss_bytes_before);
            with(report_of, |report| {
                report.set(
                    "created_per_second",
                    load.watchers as f64 / elapsed.as_secs_f64(),
                );
                report.set("creating", created);
                report.set(
                    "bytes_per_watcher",
                    grown_bytes as f64 / load.watchers as f64,
                );
            });
        }
        barrier.wait().await;
        let listening = watching.into_iter().map(|watching| heard.listen(watching));
        let listening = futures_util::future::try_join_all(listening);
        let writers = share(load.writers, threads, thread).map(|writer| async move {
            let connection = Connection::open(&common.endpoint).await?;
            let mut chance = Chance::new(writer as u64);
            while !ended.load(Ordering::Relaxed) {
                let key = key(chance.next() as usize % load.watchers);
                put(&connection, key, common.value_bytes).await?;
            }
            Ok::<_, BenchError>(())
        });
        let writing = futures_util::future::try_join_all(writers);
        let measured = async {
            if thread == 0 {
                let begin = Instant::now();
                let watch = Watch::start(process);
                heard.measure();
                if load.writers > 0 {
                    sleep(Duration::from_secs(common.seconds)).await;
                }
                let events = heard.events.load(Ordering::Relaxed);
                with(report_of, |report| {
                    report.rate(events, begin.elapsed());
                    report.merge(watch.report(events));
                });
                ended.store(true, Ordering::Relaxed);
                heard.stop();
            }
            Ok::<_, BenchError>(())
        };
        futures_util::future::try_join3(listening, writing, measured)
            .await
            .map(drop)
    })?;
    with(&report, |report| {
        report.set("watchers", load.watchers);
        report.set("streams", streams);
        report.set("threads", threads);
        report.merge(json!({ "latency_ms": heard.latencies().report() }));
    });
    Ok(report
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .finish())
}

fn with(report: &Mutex<Report>, change: impl FnOnce(&mut Report)) {
    let mut report = report
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    change(&mut report);
}
