//! Watchers, each of a key of its own: what creating and keeping them costs, and what a put costs among them.

use super::BenchError;
use super::args::{Common, ManyLoad};
use super::fill::{key, put};
use super::listeners::{Heard, open_stream, watch_of};
use super::operations::Chance;
use super::process::{Servers, Usage, Watch};
use super::progress::Bar;
use super::report::Report;
use super::threads::{on_threads, share};
use super::watching::Watching;
use super::wire::Connection;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Barrier;
use tokio::time::sleep;

/// How long a server has to come to rest before its memory is looked at.
const RESTING: Duration = Duration::from_secs(2);

/// What the threads share.
struct Shared<'a> {
    common: &'a Common,
    load: &'a ManyLoad,
    servers: &'a Servers,
    streams: usize,
    threads: usize,
    heard: Heard,
    barrier: Barrier,
    ended: AtomicBool,
    report: Mutex<Report>,
}

/// Measures.
pub(super) fn run(common: &Common, load: &ManyLoad) -> Result<Value, BenchError> {
    let streams = load.streams.min(load.watchers);
    let threads = common.threads.min(streams);
    let shared = Shared {
        common,
        load,
        servers: &Servers::find(common),
        streams,
        threads,
        heard: Heard::default(),
        barrier: Barrier::new(threads),
        ended: AtomicBool::new(false),
        report: Mutex::new(Report::new("many", &common.endpoint)),
    };
    let _bar = Bar::follow("events", &shared.heard.events, u64::MAX);
    let of = &shared;
    on_threads(threads, |thread| async move {
        let watching = of.create(thread).await?;
        let listening = watching
            .into_iter()
            .map(|watching| of.heard.listen(watching));
        let listening = futures_util::future::try_join_all(listening);
        let writers = share(load.writers, threads, thread).map(|writer| of.write(writer));
        let writing = futures_util::future::try_join_all(writers);
        let measured = async {
            if thread == 0 {
                of.measure().await;
            }
            Ok::<_, BenchError>(())
        };
        futures_util::future::try_join3(listening, writing, measured)
            .await
            .map(drop)
    })?;
    shared.with(|report| {
        report.set("watchers", load.watchers);
        report.set("streams", streams);
        report.set("threads", threads);
        report.merge(json!({ "latency_ms": shared.heard.latencies().report() }));
    });
    let report = shared.report.into_inner();
    Ok(report.unwrap_or_else(PoisonError::into_inner).finish())
}

impl Shared<'_> {
    /// Creates a thread's watchers; the first thread says what all of them took.
    async fn create(&self, thread: usize) -> Result<Vec<Watching>, BenchError> {
        let (asked_before, behind_before) = self.servers.usage();
        let (begin, watch) = (Instant::now(), Watch::start(self.servers));
        self.barrier.wait().await;
        let mut watching = Vec::new();
        for stream in share(self.streams, self.threads, thread) {
            let watchers = share(self.load.watchers, self.streams, stream);
            let create = |watcher| watch_of(&key(watcher), "", 0);
            watching.push(open_stream(&self.common.endpoint, watchers, create).await?);
        }
        self.barrier.wait().await;
        if thread == 0 {
            let elapsed = begin.elapsed();
            let watchers = self.load.watchers as f64;
            let created = watch.report(self.load.watchers as u64);
            sleep(RESTING).await;
            let (asked, behind) = self.servers.usage();
            let grown_bytes = |after: Usage, before: Usage| {
                after.rss_bytes.saturating_sub(before.rss_bytes) as f64 / watchers
            };
            self.with(|report| {
                report.set("created_per_second", watchers / elapsed.as_secs_f64());
                report.set("creating", created);
                report.set("bytes_per_watcher", grown_bytes(asked, asked_before));
                report.set(
                    "behind_bytes_per_watcher",
                    grown_bytes(behind, behind_before),
                );
            });
        }
        self.barrier.wait().await;
        Ok(watching)
    }

    /// Puts to watched keys until the end.
    async fn write(&self, writer: usize) -> Result<(), BenchError> {
        let connection = Connection::open(&self.common.endpoint).await?;
        let mut chance = Chance::new(writer as u64);
        while !self.ended.load(Ordering::Relaxed) {
            let key = key(chance.next() as usize % self.load.watchers);
            put(&connection, key, self.common.value_bytes).await?;
        }
        Ok(())
    }

    /// Counts for the time that is measured, and ends everything.
    async fn measure(&self) {
        let (begin, watch) = (Instant::now(), Watch::start(self.servers));
        self.heard.measure();
        if self.load.writers > 0 {
            sleep(Duration::from_secs(self.common.seconds)).await;
        }
        let events = self.heard.events.load(Ordering::Relaxed);
        self.with(|report| {
            report.rate(events, begin.elapsed());
            report.merge(watch.report(events));
        });
        self.ended.store(true, Ordering::Relaxed);
        self.heard.stop();
    }

    fn with(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
