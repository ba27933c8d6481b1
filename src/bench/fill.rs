//! What the loads write: keys in a fixed form, values that begin with the time, and data that has to be there first.

use super::BenchError;
use super::args::Common;
use super::clock::{now_ns, stamped};
use super::progress::Bar;
use super::threads::{on_threads, share};
use super::wire::Connection;
use crate::api::pb::etcdserverpb::{CompactionRequest, PutRequest, PutResponse};
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PUT: &str = "/etcdserverpb.KV/Put";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
/// How many clients fill, and on how many connections: enough that every commit is shared by many.
const CLIENTS: usize = 256;
const CONNECTIONS: usize = 8;

/// The key with this number.
pub(super) fn key(number: usize) -> String {
    format!("bench/{number:09}")
}

/// The prefix of all keys, and the end of its range.
pub(super) const EVERYTHING: (&str, &str) = ("bench/", "bench0");

/// Puts a value of now; answers its revision.
pub(super) async fn put(
    connection: &Connection,
    key: String,
    value_bytes: usize,
) -> Result<i64, BenchError> {
    let request = PutRequest {
        key: key.into(),
        value: stamped(value_bytes, now_ns()).into(),
        ..PutRequest::default()
    };
    let answer = connection.unary(PUT, &request).await?;
    let answer = PutResponse::decode(answer);
    let header = answer.ok().and_then(|answer| answer.header);
    header.map_or_else(
        || Err(BenchError::wrong("a put's answer has no header")),
        |header| Ok(header.revision),
    )
}

/// Puts as many values, each key in its turn.
pub(super) fn fill(common: &Common, puts: u64) -> Result<(), BenchError> {
    fill_and(common, puts, async |_, _, _| Ok(()))
}

/// Compacts all but the newest revisions.
pub(super) async fn compact(
    connection: &Connection,
    revision: i64,
    behind: u64,
) -> Result<(), BenchError> {
    let request = CompactionRequest {
        revision: revision - behind as i64,
        ..CompactionRequest::default()
    };
    if request.revision <= 0 {
        return Ok(());
    }
    connection.unary(COMPACT, &request).await.map(drop)
}

/// Puts as many values, each key in its turn; whoever has put one does `also` with the connection, the number of values that
/// have been put, and the revision of its own.
pub(super) fn fill_and(
    common: &Common,
    puts: u64,
    also: impl AsyncFn(&Connection, u64, i64) -> Result<(), BenchError> + Sync,
) -> Result<(), BenchError> {
    let done = Arc::new(AtomicU64::new(0));
    let _bar = Bar::follow("filling", &done, puts);
    let threads = common.threads;
    let next = AtomicU64::new(0);
    let (next, done, also) = (&next, &done, &also);
    on_threads(threads, |thread| async move {
        let mut connections = Vec::new();
        for _ in share(CONNECTIONS.max(threads), threads, thread) {
            connections.push(Connection::open(&common.endpoint).await?);
        }
        let clients = share(CLIENTS.max(threads), threads, thread).zip(connections.iter().cycle());
        let clients = clients.map(|(_, connection)| async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= puts {
                    return Ok(());
                }
                let key = key(number as usize % common.keys);
                let revision = put(connection, key, common.value_bytes).await?;
                let count = done.fetch_add(1, Ordering::Relaxed) + 1;
                also(connection, count, revision).await?;
            }
        });
        futures_util::future::try_join_all(clients).await.map(drop)
    })
    .map(drop)
}
