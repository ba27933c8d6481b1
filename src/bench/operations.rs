//! Requests in a closed loop: each client asks, waits for the answer, and asks again.

use super::BenchError;
use super::args::{ClientsArgs, Common, FillLoad, RangeLoad};
use super::clock::now_ns;
use super::fill::{compact, fill, fill_and, key, put as put_one};
use super::process::{Servers, Watch, disk_bytes};
use super::progress::Bar;
use super::report::{Latencies, Report};
use super::threads::{on_threads, share};
use super::wire::Connection;
use crate::api::pb::etcdserverpb::{RangeRequest, RangeResponse};
use prost::Message;
use serde_json::{Value, json};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Barrier;

const RANGE: &str = "/etcdserverpb.KV/Range";
/// What goes by before anything is counted.
const WARMING: Duration = Duration::from_secs(1);

/// Puts to keys in no order.
pub(super) fn put(common: &Common, load: &ClientsArgs) -> Result<Value, BenchError> {
    let operation = |connection: Connection, turn: u64| async move {
        let key = key(turn as usize % common.keys);
        put_one(&connection, key, common.value_bytes)
            .await
            .map(drop)
    };
    let mut report = closed_loop(common, load, "put", operation)?;
    report.set("value_bytes", common.value_bytes);
    Ok(report.finish())
}

/// Puts to keys in their turn.
pub(super) fn fill_only(common: &Common, load: &FillLoad) -> Result<Value, BenchError> {
    let servers = &Servers::find(common);
    let (begin, watch) = (Instant::now(), Watch::start(servers));
    let quarter = (load.puts / 4).max(1);
    let disk = Mutex::new(Vec::new());
    let measure = || load.data_dir.as_deref().map(disk_bytes);
    fill_and(common, load.puts, async |connection, count, revision| {
        if load.compact_every > 0 && count.is_multiple_of(load.compact_every) {
            compact(connection, revision, load.compact_behind).await?;
        }
        if count.is_multiple_of(quarter) {
            let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
            disk.extend(measure());
        }
        Ok(())
    })?;
    let mut report = Report::new("fill", &common.endpoint);
    report.rate(load.puts, begin.elapsed());
    if let Some(bytes) = measure() {
        report.set("disk_bytes", bytes);
        let disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
        report.set("disk_bytes_by_quarter", disk.clone());
    }
    report.set("value_bytes", common.value_bytes);
    report.merge(watch.report(load.puts));
    Ok(report.finish())
}

/// Reads of keys that are there.
pub(super) fn range(common: &Common, load: &RangeLoad) -> Result<Value, BenchError> {
    fill(common, common.keys as u64)?;
    let wanted = load.keys_per_answer.min(common.keys);
    let operation = |connection: Connection, turn: u64| async move {
        let first = turn as usize % (common.keys - wanted + 1);
        read(&connection, first, wanted).await
    };
    let mut report = closed_loop(common, &load.clients, "range", operation)?;
    report.set("keys_per_answer", wanted);
    report.set("value_bytes", common.value_bytes);
    Ok(report.finish())
}

/// Reads neighbouring keys, and counts them.
pub(super) async fn read(
    connection: &Connection,
    first: usize,
    wanted: usize,
) -> Result<(), BenchError> {
    let range_end = match wanted {
        1 => bytes::Bytes::new(),
        wanted => key(first + wanted).into(),
    };
    let request = RangeRequest {
        key: key(first).into(),
        range_end,
        ..RangeRequest::default()
    };
    let answer = connection.unary(RANGE, &request).await?;
    let answer = RangeResponse::decode(answer)
        .map_err(|_| BenchError::wrong("a range's answer cannot be read"))?;
    if answer.kvs.len() != wanted {
        let what = format!("{} keys of {wanted} were answered", answer.kvs.len());
        return Err(BenchError::wrong(what));
    }
    Ok(())
}

/// Runs an operation from every client until the time, or the number of operations, is reached.
pub(super) fn closed_loop<F, Fut>(
    common: &Common,
    load: &ClientsArgs,
    name: &'static str,
    operation: F,
) -> Result<Report, BenchError>
where
    F: Fn(Connection, u64) -> Fut + Sync,
    Fut: Future<Output = Result<(), BenchError>>,
{
    let threads = common.threads.min(load.clients);
    let servers = &Servers::find(common);
    let barrier = Barrier::new(threads);
    let done = Arc::new(AtomicU64::new(0));
    let watch = Mutex::new(None);
    let all = Mutex::new(Latencies::default());
    let total = load.total;
    let bar_total = if total > 0 { total } else { u64::MAX };
    let _bar = Bar::follow(name, &done, bar_total);
    let (barrier, done, watch, all, operation) = (&barrier, &done, &watch, &all, &operation);
    let begun: Vec<Instant> = on_threads(threads, |thread| async move {
        let mut connections = Vec::new();
        for _ in share(load.connections.max(threads), threads, thread) {
            connections.push(Connection::open(&common.endpoint).await?);
        }
        barrier.wait().await;
        let warm = if total > 0 { Duration::ZERO } else { WARMING };
        let begin = Instant::now() + warm;
        let end = begin + Duration::from_secs(common.seconds);
        let clients = share(load.clients, threads, thread).zip(connections.iter().cycle());
        let clients = clients.map(|(client, connection)| async move {
            let mut latencies = Latencies::default();
            let mut chance = Chance::new(client as u64);
            loop {
                let now = Instant::now();
                let ended = match total {
                    0 => now >= end,
                    total => done.load(Ordering::Relaxed) >= total,
                };
                if ended {
                    return Ok(latencies);
                }
                let begun_ns = now_ns();
                operation(connection.clone(), chance.next()).await?;
                if now >= begin {
                    latencies.record_ns(now_ns() - begun_ns);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let started = async {
            tokio::time::sleep_until(begin.into()).await;
            if thread == 0 {
                *watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(Watch::start(servers));
            }
            Ok::<_, BenchError>(())
        };
        let clients = futures_util::future::try_join_all(clients);
        let (latencies, ()) = futures_util::future::try_join(clients, started).await?;
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        for latencies in &latencies {
            all.add(latencies);
        }
        Ok(begin)
    })?;
    let elapsed = begun.first().map_or(Duration::ZERO, Instant::elapsed);
    let count = done.load(Ordering::Relaxed);
    let mut report = Report::new(name, &common.endpoint);
    report.rate(count, elapsed);
    report.set("clients", load.clients);
    report.set("connections", load.connections);
    report.set("threads", threads);
    let latencies = all.lock().unwrap_or_else(PoisonError::into_inner);
    report.merge(json!({ "latency_ms": latencies.report() }));
    if let Some(watch) = watch.lock().unwrap_or_else(PoisonError::into_inner).take() {
        report.merge(watch.report(count));
    }
    Ok(report)
}

/// Numbers in no order, the same in every run.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// The numbers of one client.
    pub(super) fn new(client: u64) -> Self {
        Self(client.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1)
    }

    /// The next number, of 31 bits.
    pub(super) fn next(&mut self) -> u64 {
        // Knuth's MMIX constants; the high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}
