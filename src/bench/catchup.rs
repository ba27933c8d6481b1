//! Watchers from revision 1 over a long history: how fast they get level.
//!
//! It ends when all have seen everything, or with the time: a server may need hours.

use super::BenchError;
use super::args::{CatchupLoad, Common};
use super::fill::{EVERYTHING, fill, key};
use super::listeners::watch_of;
use super::process::{Process, Watch};
use super::progress::Bar;
use super::report::Report;
use super::threads::{on_threads, share};
use super::watching::Watching;
use super::wire::Connection;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// Measures.
pub(super) fn run(common: &Common, load: &CatchupLoad) -> Result<Value, BenchError> {
    let own_keys = if load.own_key {
        load.watchers
    } else {
        common.keys
    };
    let common = &Common {
        keys: own_keys,
        ..common.clone()
    };
    if !load.no_fill {
        fill(common, load.history)?;
    }
    let process = Process::find(common.server_pid, &common.endpoint);
    let streams = load.streams.min(load.watchers);
    let threads = common.threads.min(streams);
    let wanted = |watcher: usize| {
        if load.own_key {
            // The history's keys come in turn.
            (load.history + own_keys as u64 - 1 - watcher as u64) / own_keys as u64
        } else {
            load.history
        }
    };
    let total = (0..load.watchers).map(wanted).sum();
    let heard = Arc::new(AtomicU64::new(0));
    let _bar = Bar::follow("catching up", &heard, total);
    let watch = Watch::start(process);
    let begin = Instant::now();
    let end = begin + Duration::from_secs(common.seconds);
    let heard_by_all = &heard;
    let level = on_threads(threads, |thread| async move {
        let reading = share(streams, threads, thread).map(|stream| async move {
            let connection = Connection::open(&common.endpoint).await?;
            let watchers = share(load.watchers, streams, stream);
            let mut left: u64 = watchers.map(wanted).sum();
            let creates = share(load.watchers, streams, stream).map(|watcher| {
                if load.own_key {
                    watch_of(&key(watcher), "", 1)
                } else {
                    watch_of(EVERYTHING.0, EVERYTHING.1, 1)
                }
            });
            let opened = Watching::from_the_past(&connection, creates.collect());
            let mut watching = opened.await?;
            while left > 0 {
                let Ok(events) = timeout_at(end.into(), watching.next(None)).await else {
                    return Ok(None);
                };
                let events = events?;
                heard_by_all.fetch_add(events, Ordering::Relaxed);
                left = left.saturating_sub(events);
            }
            Ok::<_, BenchError>(Some(begin.elapsed()))
        });
        futures_util::future::try_join_all(reading).await
    })?;
    let elapsed = begin.elapsed();
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
    report.merge(watch.report(events));
    Ok(report.finish())
}
