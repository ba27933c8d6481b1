//! Watchers from revision 1 over a long history: how fast they get level.
//!
//! It ends when all have seen everything, or with the time: a server may need hours.

use super::BenchError;
use super::args::{CatchupLoad, Common};
use super::fill::{EVERYTHING, fill, key, put};
use super::listeners::watch_of;
use super::operations::Chance;
use super::process::{Servers, Watch};
use super::progress::Bar;
use super::report::Report;
use super::threads::{on_threads, share};
use super::watching::Watching;
use super::wire::Connection;
use serde_json::Value;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// What the streams share.
struct Shared<'a> {
    common: &'a Common,
    load: &'a CatchupLoad,
    streams: usize,
    heard: &'a AtomicU64,
    begin: Instant,
}

/// Measures.
pub(super) fn run(common: &Common, load: &CatchupLoad) -> Result<Value, BenchError> {
    let keys = if load.own_key {
        load.watchers
    } else {
        common.keys
    };
    let common = &Common {
        keys,
        ..common.clone()
    };
    if !load.no_fill {
        fill(common, load.history)?;
    }
    let servers = &Servers::find(common);
    let streams = load.streams.min(load.watchers);
    let threads = common.threads.min(streams);
    let total = (0..load.watchers)
        .map(|watcher| wanted(load, watcher))
        .sum();
    let heard = Arc::new(AtomicU64::new(0));
    let _bar = Bar::follow("catching up", &heard, total);
    let watch = Watch::start(servers);
    let of = &Shared {
        common,
        load,
        streams,
        heard: &heard,
        begin: Instant::now(),
    };
    let level = on_threads(threads, |thread| async move {
        let reading = share(streams, threads, thread).map(|stream| of.read(stream));
        tokio::select! {
            level = futures_util::future::try_join_all(reading) => level,
            failed = write(common, share(load.writers, threads, thread).count()) => Err(failed),
        }
    })?;
    let elapsed = of.begin.elapsed();
    let events = heard.load(Ordering::Relaxed);
    let level: Option<Vec<Duration>> = level.into_iter().flatten().collect();
    let mut report = Report::new("catchup", &common.endpoint);
    report.rate(events, elapsed);
    report.set("finished", level.is_some());
    if let Some(first) = level.iter().flatten().min() {
        report.set("first_level_seconds", first.as_secs_f64());
    }
    report.set("history", load.history);
    report.set("watchers", load.watchers);
    report.set("streams", streams);
    report.set("own_key", load.own_key);
    report.set("writers", load.writers);
    report.merge(watch.report(events));
    Ok(report.finish())
}

/// How much of the history is a watcher's.
fn wanted(load: &CatchupLoad, watcher: usize) -> u64 {
    if load.own_key {
        // The history's keys come in turn.
        let watchers = load.watchers as u64;
        (load.history + watchers - 1 - watcher as u64) / watchers
    } else {
        load.history
    }
}

impl Shared<'_> {
    /// Reads one stream until its watchers are level, and says when that was; `None` when the time was over before.
    async fn read(&self, stream: usize) -> Result<Option<Duration>, BenchError> {
        let connection = Connection::open(&self.common.endpoint).await?;
        let watchers = || share(self.load.watchers, self.streams, stream);
        let mut left: u64 = watchers().map(|watcher| wanted(self.load, watcher)).sum();
        let creates = watchers().map(|watcher| {
            if self.load.own_key {
                watch_of(&key(watcher), "", 1)
            } else {
                watch_of(EVERYTHING.0, EVERYTHING.1, 1)
            }
        });
        let mut watching = Watching::from_the_past(&connection, creates.collect()).await?;
        let end = self.begin + Duration::from_secs(self.common.seconds);
        while left > 0 {
            let Ok(events) = timeout_at(end.into(), watching.next(None)).await else {
                return Ok(None);
            };
            let events = events?;
            self.heard.fetch_add(events, Ordering::Relaxed);
            left = left.saturating_sub(events);
        }
        Ok(Some(self.begin.elapsed()))
    }
}

/// Puts without an end, but for a failure.
async fn write(common: &Common, writers: usize) -> BenchError {
    let writers = (0..writers).map(|writer| async move {
        let connection = Connection::open(&common.endpoint).await?;
        let mut chance = Chance::new(writer as u64);
        loop {
            let key = key(chance.next() as usize % common.keys);
            put(&connection, key, common.value_bytes).await?;
        }
    });
    let written: Result<Vec<Infallible>, BenchError> =
        futures_util::future::try_join_all(writers).await;
    match written {
        Err(failed) => failed,
        // There are no writers.
        Ok(_) => pending().await,
    }
}
