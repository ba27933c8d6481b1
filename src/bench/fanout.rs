//! Many watchers of one key: how soon all of them know, and how much the server can push.
//!
//! An event is late by the time since its put was sent, the writer's own way to the disk included.

use super::BenchError;
use super::args::{Common, FanoutLoad, Pace};
use super::fill::{key, put};
use super::listeners::{Heard, open_stream, watch_of};
use super::process::{Process, Watch};
use super::progress::Bar;
use super::report::Report;
use super::threads::{on_threads, share};
use super::wire::Connection;
use serde_json::{Value, json};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Barrier;
use tokio::time::{MissedTickBehavior, interval, sleep};

const WARMING: Duration = Duration::from_secs(1);

/// Measures.
pub(super) fn run(common: &Common, load: &FanoutLoad) -> Result<Value, BenchError> {
    let heard = Heard::default();
    let process = Process::find(common.server_pid, &common.endpoint);
    let streams = load.streams.min(load.watchers);
    let threads = common.threads.min(streams);
    let barrier = Barrier::new(threads);
    let (puts, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let _bar = Bar::follow("events", &heard.events, u64::MAX);
    let (heard, barrier, puts, ended) = (&heard, &barrier, &puts, &ended);
    let reports = on_threads(threads, |thread| async move {
        let mut watching = Vec::new();
        for stream in share(streams, threads, thread) {
            let watchers = share(load.watchers, streams, stream);
            let create = |_| watch_of(&key(0), "", 0);
            watching.push(open_stream(&common.endpoint, watchers, create).await?);
        }
        barrier.wait().await;
        let listening = watching.into_iter().map(|watching| heard.listen(watching));
        let listening = futures_util::future::try_join_all(listening);
        let writing = async {
            let writers = share(load.writers, threads, thread).count();
            let written = write(common, load, (writers, thread == 0), (heard, puts, ended));
            let measured = async {
                if thread > 0 {
                    return Ok(None);
                }
                sleep(WARMING).await;
                let watch = Watch::start(process);
                let puts_before = puts.load(Ordering::Relaxed);
                let begin = Instant::now();
                heard.measure();
                sleep(Duration::from_secs(common.seconds)).await;
                let elapsed = begin.elapsed();
                ended.store(true, Ordering::Relaxed);
                let events = heard.events.load(Ordering::Relaxed);
                let puts = puts.load(Ordering::Relaxed) - puts_before;
                heard.stop();
                let mut report = Report::new("fanout", &common.endpoint);
                report.rate(events, elapsed);
                report.set("puts", puts);
                report.merge(watch.report(events));
                Ok(Some(report))
            };
            // Whoever still waits to be heard is not waited for.
            tokio::select! {
                report = measured, if thread == 0 => report,
                written = written => written.map(|()| None),
            }
        };
        let (_, report) = futures_util::future::try_join(listening, writing).await?;
        Ok(report)
    })?;
    let report = reports.into_iter().flatten().next();
    let mut report = report.ok_or_else(|| BenchError::wrong("the writers ended too early"))?;
    let pace = match load.pace {
        Pace::PingPong => "ping-pong",
        Pace::Paced => "paced",
        Pace::Flood => "flood",
    };
    report.set("pace", pace);
    report.set("events_per_response", heard.events_per_response());
    report.set("watchers", load.watchers);
    report.set("streams", streams);
    report.set("threads", threads);
    report.merge(json!({ "latency_ms": heard.latencies().report() }));
    Ok(report.finish())
}

/// What the writers of all threads share.
type Shared<'a> = (&'a Heard, &'a AtomicU64, &'a AtomicBool);

/// Writes until the end. Only the first thread writes when there is one writer.
async fn write(
    common: &Common,
    load: &FanoutLoad,
    (writers, first): (usize, bool),
    (heard, puts, ended): Shared<'_>,
) -> Result<(), BenchError> {
    let connection = Connection::open(&common.endpoint).await?;
    let one = || async {
        put(&connection, key(0), common.value_bytes).await?;
        puts.fetch_add(1, Ordering::Relaxed);
        Ok::<_, BenchError>(())
    };
    match load.pace {
        Pace::PingPong if first => {
            let mut target = 0;
            while !ended.load(Ordering::Relaxed) {
                one().await?;
                target += load.watchers as u64;
                heard.wait_for(target).await;
            }
        }
        Pace::Paced if first => {
            let mut ticks = interval(Duration::from_secs_f64(1.0 / load.rate as f64));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let connection = Rc::new(connection.clone());
            while !ended.load(Ordering::Relaxed) {
                ticks.tick().await;
                let (connection, value_bytes) = (Rc::clone(&connection), common.value_bytes);
                puts.fetch_add(1, Ordering::Relaxed);
                // A put that fails ends the connection, and the watchers with it.
                tokio::task::spawn_local(async move {
                    put(&connection, key(0), value_bytes).await.map(drop)
                });
            }
        }
        Pace::Flood => {
            let writers = (0..writers).map(|_| async {
                while !ended.load(Ordering::Relaxed) {
                    one().await?;
                }
                Ok::<_, BenchError>(())
            });
            futures_util::future::try_join_all(writers).await?;
        }
        Pace::PingPong | Pace::Paced => {}
    }
    Ok(())
}
