//! A server's start on data that is there: from its command to its first answer.
//!
//! The server is ended again, and politely.

use super::BenchError;
use super::args::{Common, RestartLoad};
use super::fill::EVERYTHING;
use super::process::Process;
use super::report::Report;
use super::threads::on_threads;
use super::wire::Connection;
use crate::api::pb::etcdserverpb::{RangeRequest, RangeResponse};
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RANGE: &str = "/etcdserverpb.KV/Range";
/// The pause between two tries to get an answer.
const RETRY: Duration = Duration::from_millis(2);

/// Measures.
pub(super) fn run(common: &Common, load: &RestartLoad) -> Result<Value, BenchError> {
    let begin = Instant::now();
    let mut server = start(load)?;
    let process = Process::find(Some(server.id()), &common.endpoint);
    let answered = on_threads(1, |_| async move {
        let end = begin + Duration::from_secs(common.seconds);
        loop {
            match count(common).await {
                Ok(answer) => return Ok((answer, begin.elapsed())),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    });
    let usage = process.map(Process::usage).unwrap_or_default();
    stop(&mut server, load)?;
    let answered = answered?;
    let Some((keys, elapsed)) = answered.first() else {
        return Err(BenchError::wrong("nothing was measured"));
    };
    let mut report = Report::new("restart", &common.endpoint);
    report.set("seconds", elapsed.as_secs_f64());
    report.set("keys", *keys);
    report.set("server_cpu_seconds", usage.cpu_seconds);
    report.set("server_rss_bytes", usage.rss_bytes);
    Ok(report.finish())
}

fn start(load: &RestartLoad) -> Result<Child, BenchError> {
    let mut words = load.command.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().map_err(|source| failed(load, source))
}

fn stop(server: &mut Child, load: &RestartLoad) -> Result<(), BenchError> {
    if let Some(pid) = Pid::from_raw(server.id() as i32) {
        // One that has ended by itself needs no telling.
        let _ = kill_process(pid, Signal::TERM);
    }
    server
        .wait()
        .map(drop)
        .map_err(|source| failed(load, source))
}

fn failed(load: &RestartLoad, source: std::io::Error) -> BenchError {
    BenchError::Command {
        command: load.command.join(" "),
        source,
    }
}

/// How many keys there are, read through everything that a read of the latest goes through.
async fn count(common: &Common) -> Result<i64, BenchError> {
    let connection = Connection::open(&common.endpoint).await?;
    let request = RangeRequest {
        key: EVERYTHING.0.into(),
        range_end: EVERYTHING.1.into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let answer = connection.unary(RANGE, &request).await?;
    let answer = RangeResponse::decode(answer);
    answer
        .map(|answer| answer.count)
        .map_err(|_| BenchError::wrong("a range's answer cannot be read"))
}
