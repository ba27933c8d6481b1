//! Many watchers of one key, or of ranges in each other: how soon all of them know, and how much the server can push.
//!
//! An event is late by the time since its put was sent, the writer's own way to the disk included. Where ranges are in each
//! other, what came is held against what was due to the last event.

use super::BenchError;
use super::args::{Common, FanoutLoad, Pace};
use super::fill::put;
use super::listeners::{Heard, open_stream};
use super::process::{Servers, Watch};
use super::progress::Bar;
use super::reach::Reach;
use super::report::Report;
use super::threads::{on_threads, share};
use super::watching::Watching;
use super::wire::Connection;
use serde_json::{Value, json};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Barrier;
use tokio::time::{MissedTickBehavior, interval, sleep};

const WARMING: Duration = Duration::from_secs(1);
/// How long nothing may come while events are still due.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long is listened for more when all that was due has come.
const LISTENING_ON: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(10);
/// A key that no watcher is of, put before a load begins that accounts for its events.
const BEFORE: &str = "before";

/// What the threads share.
struct Shared<'a> {
    common: &'a Common,
    load: &'a FanoutLoad,
    servers: &'a Servers,
    streams: usize,
    threads: usize,
    reach: Reach,
    heard: Heard,
    barrier: Barrier,
    /// Puts that were begun.
    turns: AtomicU64,
    /// Events that these puts bring.
    due: AtomicU64,
    /// Puts that were answered, and when they are paced, were sent.
    puts: AtomicU64,
    ended: AtomicBool,
    /// Threads whose writers go on.
    writing: AtomicUsize,
}

/// Measures.
pub(super) fn run(common: &Common, load: &FanoutLoad) -> Result<Value, BenchError> {
    let streams = load.streams.min(load.watchers);
    let threads = common.threads.min(streams);
    let shared = Shared {
        common,
        load,
        servers: &Servers::find(common),
        streams,
        threads,
        reach: Reach::of(load),
        heard: Heard::default(),
        barrier: Barrier::new(threads),
        turns: AtomicU64::new(0),
        due: AtomicU64::new(0),
        puts: AtomicU64::new(0),
        ended: AtomicBool::new(false),
        writing: AtomicUsize::new(threads),
    };
    let _bar = Bar::follow("events", &shared.heard.events, u64::MAX);
    let of = &shared;
    let reports = on_threads(threads, |thread| of.on_thread(thread))?;
    let report = reports.into_iter().flatten().next();
    let mut report = report.ok_or_else(|| BenchError::wrong("the writers ended too early"))?;
    let pace = match load.pace {
        Pace::PingPong => "ping-pong",
        Pace::Paced => "paced",
        Pace::Flood => "flood",
    };
    report.set("pace", pace);
    report.set("ahead", load.ahead);
    report.set("events_per_response", shared.heard.events_per_response());
    report.set("watchers", load.watchers);
    report.set("streams", streams);
    report.set("threads", threads);
    if load.nested {
        report.set("events_due", shared.due.load(Ordering::SeqCst));
        report.set("events_heard", shared.heard.all());
    }
    report.merge(json!({ "latency_ms": shared.heard.latencies().report() }));
    Ok(report.finish())
}

impl Shared<'_> {
    /// All that one thread does; the first one measures.
    async fn on_thread(&self, thread: usize) -> Result<Option<Report>, BenchError> {
        let watching = self.open(thread).await?;
        self.barrier.wait().await;
        let listening = watching
            .into_iter()
            .map(|watching| self.heard.listen(watching));
        let listening = futures_util::future::try_join_all(listening);
        let writing = async {
            let writers = share(self.load.writers, self.threads, thread).count();
            let written = async {
                let written = self.write(writers, thread == 0).await;
                self.writing.fetch_sub(1, Ordering::SeqCst);
                written
            };
            let measured = async {
                match thread {
                    0 => self.measure().await.map(Some),
                    _ => Ok(None),
                }
            };
            if self.load.nested {
                let (report, ()) = futures_util::future::try_join(measured, written).await?;
                return Ok(report);
            }
            // Whoever still waits to be heard is not waited for.
            tokio::select! {
                report = measured, if thread == 0 => report,
                written = written => written.map(|()| None),
            }
        };
        let done = futures_util::future::try_join(listening, writing).await;
        if done.is_err() {
            // The other threads would listen for ever.
            self.ended.store(true, Ordering::Relaxed);
            self.heard.stop();
        }
        done.map(|(_, report)| report)
    }

    /// Opens the streams of a thread.
    async fn open(&self, thread: usize) -> Result<Vec<Watching>, BenchError> {
        let mut all = Vec::new();
        for stream in share(self.streams, self.threads, thread) {
            let watchers = || share(self.load.watchers, self.streams, stream);
            let create = |watcher| self.reach.create(watcher);
            let mut watching = open_stream(&self.common.endpoint, watchers(), create).await?;
            if self.load.nested {
                // Whatever was put before this, by whomever, is no event of this load.
                let connection = Connection::open(&self.common.endpoint).await?;
                let before = put(&connection, BEFORE.to_owned(), self.common.value_bytes).await?;
                watching.pass_over(before);
                let creates = watchers().map(create);
                watching.look_at_keys(creates.map(|create| (create.key, create.range_end)));
            }
            all.push(watching);
        }
        Ok(all)
    }

    /// Counts for the time that is measured, and ends everything.
    async fn measure(&self) -> Result<Report, BenchError> {
        sleep(WARMING).await;
        let watch = Watch::start(self.servers);
        let puts_before = self.puts.load(Ordering::Relaxed);
        let begin = Instant::now();
        self.heard.measure();
        sleep(Duration::from_secs(self.common.seconds)).await;
        let elapsed = begin.elapsed();
        self.ended.store(true, Ordering::Relaxed);
        let events = self.heard.events.load(Ordering::Relaxed);
        let puts = self.puts.load(Ordering::Relaxed) - puts_before;
        self.heard.measure_no_more();
        let mut report = Report::new("fanout", &self.common.endpoint);
        report.rate(events, elapsed);
        report.set("puts", puts);
        report.merge(watch.report(events));
        let accounted = if self.load.nested {
            self.account().await
        } else {
            Ok(())
        };
        self.heard.stop();
        accounted.map(|()| report)
    }

    /// Waits until every event has come, and sees to it that no more do. A watch that sees a revision twice, or a key that it
    /// is not of, is an error already: so when the numbers agree, each watch has seen exactly what it had to.
    async fn account(&self) -> Result<(), BenchError> {
        let (mut heard, mut since) = (self.heard.all(), Instant::now());
        while self.writing.load(Ordering::SeqCst) > 0
            || self.heard.all() < self.due.load(Ordering::SeqCst)
        {
            if since.elapsed() > SILENCE_MAX {
                break;
            }
            sleep(LOOK).await;
            if self.heard.all() > heard {
                (heard, since) = (self.heard.all(), Instant::now());
            }
        }
        sleep(LISTENING_ON).await;
        let (heard, due) = (self.heard.all(), self.due.load(Ordering::SeqCst));
        if heard != due {
            let what = format!("{heard} events came where {due} were due");
            return Err(BenchError::wrong(what));
        }
        Ok(())
    }

    /// Begins a put: its key, and the number of events that are due with it.
    fn begin(&self) -> (String, u64) {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let (key, events) = self.reach.put(turn);
        (key, self.due.fetch_add(events, Ordering::SeqCst) + events)
    }

    /// Writes until the end. Only the first thread writes when there is one writer.
    async fn write(&self, writers: usize, first: bool) -> Result<(), BenchError> {
        let connection = Connection::open(&self.common.endpoint).await?;
        let value_bytes = self.common.value_bytes;
        let one = || async {
            let (key, due) = self.begin();
            put(&connection, key, value_bytes).await?;
            self.puts.fetch_add(1, Ordering::Relaxed);
            Ok::<_, BenchError>(due)
        };
        match self.load.pace {
            Pace::PingPong if first => {
                while !self.ended.load(Ordering::Relaxed) {
                    let puts = (0..self.load.ahead).map(|_| one());
                    let due = futures_util::future::try_join_all(puts).await?;
                    let due = due.into_iter().max().unwrap_or_default();
                    self.heard.wait_for(due).await;
                }
            }
            Pace::Paced if first => {
                let mut ticks = interval(Duration::from_secs_f64(1.0 / self.load.rate as f64));
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let connection = Rc::new(connection.clone());
                while !self.ended.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let (connection, key) = (Rc::clone(&connection), self.begin().0);
                    self.puts.fetch_add(1, Ordering::Relaxed);
                    // A put that fails ends the connection, and the watchers with it.
                    tokio::task::spawn_local(async move {
                        put(&connection, key, value_bytes).await.map(drop)
                    });
                }
            }
            Pace::Flood => {
                let writers = (0..writers).map(|_| async {
                    while !self.ended.load(Ordering::Relaxed) {
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
}
