//! Leases that all end in the same moment, and what that costs those who write meanwhile.

use super::BenchError;
use super::args::{Common, ExpireLoad};
use super::clock::now_ns;
use super::fill::{key, put};
use super::process::{Servers, Watch};
use super::report::{Latencies, Report};
use super::threads::{on_threads, share};
use super::wire::Connection;
use crate::api::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, PutRequest, RangeRequest, RangeResponse,
};
use prost::Message;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
/// How many leases are granted at a time.
const CLIENTS: usize = 256;
/// The prefix of the keys that have leases, and the end of its range.
const OF_LEASES: (&str, &str) = ("lease/", "lease0");
/// How long writers write before the end, to be compared with.
const BEFORE: Duration = Duration::from_secs(5);
/// How often it is asked what is left.
const LOOK: Duration = Duration::from_millis(50);

/// Measures.
pub(super) fn run(common: &Common, load: &ExpireLoad) -> Result<Value, BenchError> {
    let servers = &Servers::find(common);
    let (granting, begin) = (Watch::start(servers), Instant::now());
    let end = begin + Duration::from_secs(load.end_after_seconds);
    grant(common, load, end)?;
    let mut report = Report::new("expire", &common.endpoint);
    let mut granted = Report::new("grant", &common.endpoint);
    granted.rate(load.leases as u64, begin.elapsed());
    granted.merge(granting.report(load.leases as u64));
    if Instant::now() + BEFORE > end {
        let text = "granting took longer than --end-after-seconds";
        return Err(BenchError::wrong(text));
    }
    report.set("leases", load.leases);
    report.set("granting", granted.finish());
    let mut ended = on_threads(1, |_| expire(common, load, servers, end))?;
    let ended = ended.pop();
    report.merge(ended.ok_or_else(|| BenchError::wrong("nothing was measured"))?);
    Ok(report.finish())
}

/// Grants all of them so that they end together, and gives each a key.
fn grant(common: &Common, load: &ExpireLoad, end: Instant) -> Result<(), BenchError> {
    on_threads(1, |_| async move {
        let connection = Connection::open(&common.endpoint).await?;
        let connection = &connection;
        let clients = (0..CLIENTS.min(load.leases)).map(|client| async move {
            for number in share(load.leases, CLIENTS.min(load.leases), client) {
                let left = end.saturating_duration_since(Instant::now());
                let grant = LeaseGrantRequest {
                    ttl: left.as_secs() as i64 + 1,
                    id: 0,
                };
                let granted = connection.unary(GRANT, &grant).await?;
                let lease = LeaseGrantResponse::decode(granted).map_err(unreadable)?.id;
                let put = PutRequest {
                    key: format!("{}{number:09}", OF_LEASES.0).into(),
                    value: "x".into(),
                    lease,
                    ..PutRequest::default()
                };
                connection.unary(PUT, &put).await?;
            }
            Ok::<_, BenchError>(())
        });
        futures_util::future::try_join_all(clients).await?;
        Ok(())
    })?;
    Ok(())
}

/// Writes until all of them are gone.
async fn expire(
    common: &Common,
    load: &ExpireLoad,
    servers: &Servers,
    end: Instant,
) -> Result<Value, BenchError> {
    let (before, during) = (RefCell::default(), RefCell::default());
    let is_over = Cell::new(false);
    let writers = (0..load.writers).map(|_| async {
        let connection = Connection::open(&common.endpoint).await?;
        while !is_over.get() {
            let (begun, begun_ns) = (Instant::now(), now_ns());
            put(&connection, key(0), common.value_bytes).await?;
            let latencies: &RefCell<Latencies> = if begun < end { &before } else { &during };
            if begun + BEFORE >= end {
                latencies.borrow_mut().record_ns(now_ns() - begun_ns);
            }
        }
        Ok::<_, BenchError>(())
    });
    let measured = async {
        let connection = Connection::open(&common.endpoint).await?;
        sleep(end.saturating_duration_since(Instant::now())).await;
        let watch = Watch::start(servers);
        while left(&connection).await? > 0 {
            sleep(LOOK).await;
        }
        is_over.set(true);
        let mut report = Report::new("end", &common.endpoint);
        report.rate(load.leases as u64, end.elapsed());
        report.merge(watch.report(load.leases as u64));
        Ok::<_, BenchError>(report.finish())
    };
    let writing = futures_util::future::try_join_all(writers);
    let (_, ended) = futures_util::future::try_join(writing, measured).await?;
    Ok(json!({
        "ending": ended,
        "put_latency_ms_before": before.borrow().report(),
        "put_latency_ms_while_they_end": during.borrow().report(),
    }))
}

/// How many keys still have their lease.
async fn left(connection: &Connection) -> Result<i64, BenchError> {
    let range = RangeRequest {
        key: OF_LEASES.0.into(),
        range_end: OF_LEASES.1.into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let answer = connection.unary(RANGE, &range).await?;
    Ok(RangeResponse::decode(answer).map_err(unreadable)?.count)
}

fn unreadable(_: prost::DecodeError) -> BenchError {
    BenchError::wrong("a lease's answer cannot be read")
}
