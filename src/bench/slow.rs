//! Streams that nobody reads, beside streams that are read: what the one costs the other, and how soon it is level again.

use super::BenchError;
use super::args::{Common, SlowLoad};
use super::clock::now_ns;
use super::fill::{key, put};
use super::listeners::{Heard, open_stream, watch_of};
use super::process::{Servers, Watch};
use super::progress::Bar;
use super::report::{Latencies, Report};
use super::threads::on_threads;
use super::watching::Watching;
use super::wire::{Connection, Windows};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const WARMING: Duration = Duration::from_secs(1);

/// Measures: first with nobody stalled, then with them, then until those that were stalled are level.
pub(super) fn run(common: &Common, load: &SlowLoad) -> Result<Value, BenchError> {
    let servers = &Servers::find(common);
    let mut reports = on_threads(1, |_| async move {
        let none = phase(common, load, servers, Vec::new()).await?;
        let stalled = stalled(common, load).await?;
        let (beside, stalled) = phase(common, load, servers, stalled).await?;
        let revision = put(
            &Connection::open(&common.endpoint).await?,
            key(0),
            common.value_bytes,
        )
        .await?;
        let begin = Instant::now();
        let watch = Watch::start(servers);
        let streams = stalled.len() as u64;
        let reading = stalled.into_iter().map(|mut watching| async move {
            let mut events = 0;
            while watching.newest() < revision {
                events += watching.next(None).await?;
            }
            Ok::<_, BenchError>(events)
        });
        let events = futures_util::future::try_join_all(reading).await?;
        let events: u64 = events.into_iter().sum();
        let mut level = Report::new("level", &common.endpoint);
        level.rate(events, begin.elapsed());
        level.merge(watch.report(events));
        let mut report = Report::new("slow", &common.endpoint);
        report.set("stalled", streams);
        report.set("live", load.live);
        report.set("writers", load.writers);
        report.set("none_stalled", none.0);
        report.set("beside_stalled", beside);
        report.set("level_again", level.finish());
        Ok(report.finish())
    })?;
    reports
        .pop()
        .ok_or_else(|| BenchError::wrong("nothing was measured"))
}

/// Streams that are opened and then left alone.
async fn stalled(common: &Common, load: &SlowLoad) -> Result<Vec<Watching>, BenchError> {
    let mut connections = Vec::new();
    for _ in 0..load.stalled_connections {
        connections.push(Connection::open_with(&common.endpoint, Windows::USUAL).await?);
    }
    let mut stalled = Vec::new();
    for connection in connections.iter().cycle().take(load.stalled) {
        let create = vec![watch_of(&key(0), "", 0)];
        stalled.push(Watching::open(connection, create).await?);
    }
    Ok(stalled)
}

/// A live load; whoever is stalled is handed back.
async fn phase(
    common: &Common,
    load: &SlowLoad,
    servers: &Servers,
    stalled: Vec<Watching>,
) -> Result<(Value, Vec<Watching>), BenchError> {
    let heard = Heard::default();
    let _bar = Bar::follow("events", &heard.events, u64::MAX);
    let mut live = Vec::new();
    for stream in 0..load.live {
        let create = |_| watch_of(&key(0), "", 0);
        live.push(open_stream(&common.endpoint, std::iter::once(stream), create).await?);
    }
    let listening = live.into_iter().map(|watching| heard.listen(watching));
    let listening = futures_util::future::try_join_all(listening);
    let puts = RefCell::new(Latencies::default());
    let begin = Instant::now() + WARMING;
    let end = begin + Duration::from_secs(common.seconds);
    let writers = (0..load.writers).map(|_| async {
        let connection = Connection::open(&common.endpoint).await?;
        while Instant::now() < end {
            let (now, begun_ns) = (Instant::now(), now_ns());
            put(&connection, key(0), common.value_bytes).await?;
            if now >= begin {
                puts.borrow_mut().record_ns(now_ns() - begun_ns);
            }
        }
        Ok::<_, BenchError>(())
    });
    let writing = futures_util::future::try_join_all(writers);
    let measured = async {
        sleep(WARMING).await;
        let watch = Watch::start(servers);
        heard.measure();
        sleep(Duration::from_secs(common.seconds)).await;
        let events = heard.events.load(std::sync::atomic::Ordering::Relaxed);
        heard.stop();
        let mut report = Report::new("phase", &common.endpoint);
        report.rate(events, Duration::from_secs(common.seconds));
        report.merge(watch.report(events));
        Ok::<_, BenchError>(report)
    };
    let (_, _, mut report) = futures_util::future::try_join3(listening, writing, measured).await?;
    report.merge(json!({
        "latency_ms": heard.latencies().report(),
        "put_latency_ms": puts.borrow().report(),
    }));
    Ok((report.finish(), stalled))
}
