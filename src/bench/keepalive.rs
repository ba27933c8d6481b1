//! Leases that are kept alive in a closed loop, one after the other or some ahead.

use super::BenchError;
use super::args::{Common, KeepaliveLoad};
use super::clock::now_ns;
use super::process::{Servers, Watch};
use super::report::{Latencies, Report};
use super::threads::{on_threads, share};
use super::wire::Connection;
use crate::api::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
};
use prost::Message;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// So long that none expires while it is measured, in seconds.
const TTL_SECONDS: i64 = 3600;

/// Measures.
pub(super) fn run(common: &Common, load: &KeepaliveLoad) -> Result<Value, BenchError> {
    let servers = &Servers::find(common);
    let threads = common.threads.min(load.leases);
    let watch = Watch::start(servers);
    let begin = Instant::now();
    let end = begin + Duration::from_secs(common.seconds);
    let parts = on_threads(threads, |thread| async move {
        let mut connections = Vec::new();
        for _ in share(load.connections.max(threads), threads, thread) {
            connections.push(Connection::open(&common.endpoint).await?);
        }
        let latencies = RefCell::new(Latencies::default());
        let count = RefCell::new(0_u64);
        let leases = share(load.leases, threads, thread).zip(connections.iter().cycle());
        let (latencies_of, count_of) = (&latencies, &count);
        let leases = leases.map(|(_, connection)| async move {
            let grant = LeaseGrantRequest {
                ttl: TTL_SECONDS,
                id: 0,
            };
            let granted = connection.unary(GRANT, &grant).await?;
            let id = LeaseGrantResponse::decode(granted).map_err(unreadable)?.id;
            let (mut asks, unanswered) = connection.stream(KEEP_ALIVE).await?;
            let mut begun_ns = VecDeque::new();
            for _ in 0..load.ahead {
                begun_ns.push_back(now_ns());
                asks.send(&LeaseKeepAliveRequest { id })?;
            }
            let mut answers = unanswered.answers().await?;
            loop {
                let ended = || BenchError::wrong("the stream of keep-alives ended");
                let answer = answers.next().await?.ok_or_else(ended)?;
                let answer = LeaseKeepAliveResponse::decode(answer).map_err(unreadable)?;
                if answer.id != id || answer.ttl <= 0 {
                    return Err(BenchError::wrong("a lease was not kept alive"));
                }
                let begun = begun_ns.pop_front().unwrap_or_else(now_ns);
                latencies_of.borrow_mut().record_ns(now_ns() - begun);
                *count_of.borrow_mut() += 1;
                if Instant::now() >= end {
                    return Ok(());
                }
                begun_ns.push_back(now_ns());
                asks.send(&LeaseKeepAliveRequest { id })?;
            }
        });
        futures_util::future::try_join_all(leases).await?;
        Ok((latencies.take(), count.take()))
    })?;
    let elapsed = begin.elapsed();
    let mut latencies = Latencies::default();
    for (part, _) in &parts {
        latencies.add(part);
    }
    let count = parts.iter().map(|(_, count)| count).sum();
    let mut report = Report::new("keepalive", &common.endpoint);
    report.rate(count, elapsed);
    report.set("leases", load.leases);
    report.set("ahead", load.ahead);
    report.set("connections", load.connections);
    report.set("threads", threads);
    report.merge(json!({ "latency_ms": latencies.report() }));
    report.merge(watch.report(count));
    Ok(report.finish())
}

fn unreadable(_: prost::DecodeError) -> BenchError {
    BenchError::wrong("a lease's answer cannot be read")
}
