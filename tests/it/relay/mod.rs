//! A relay before real etcds: calls are answered as the cluster answers them, and watches keep every promise.
//!
//! What the answers mean is asked elsewhere, of etcd and of Vigil; here they only have to be the same.

mod cache;
mod failures;
mod feeding;
mod operations;
mod promises;
mod proxy_defects;
mod raw;
mod same_answers;
mod scale;
mod slow;
mod tree;

use crate::support::Http;
use std::fmt::Debug;
use std::str::FromStr;

/// How many watches the server at `endpoint` says that it holds.
async fn watches_held(endpoint: &str) -> u64 {
    metric(endpoint, "etcd_debugging_mvcc_watcher_total").await
}

/// What the server at `endpoint` measures.
async fn metric<N: FromStr<Err: Debug>>(endpoint: &str, name: &str) -> N {
    let metrics = Http::at(endpoint).get("/metrics").await.text;
    let mut lines = metrics.lines().filter_map(|line| line.split_once(' '));
    let value = lines.find_map(|(its_name, value)| (its_name == name).then_some(value));
    let value = value.unwrap_or_else(|| panic!("no {name}: {metrics}"));
    value.trim().parse().expect("a number")
}

/// How often a member was ever asked for this by gRPC.
async fn calls_begun(endpoint: &str, method: &str) -> u64 {
    let metrics = Http::at(endpoint).get("/metrics").await.text;
    let of_method = format!("grpc_method=\"{method}\"");
    let is_count = |line: &str| line.starts_with("grpc_server_started_total{");
    let mut lines = metrics.lines();
    let line = lines.find(|line| is_count(line) && line.contains(&of_method));
    let count = line.and_then(|line| line.rsplit(' ').next());
    count.expect("it counts").parse().expect("a number")
}

/// Which of these upstreams a relay uses, by its place in the list.
async fn upstream_in_use(relay: &str, upstreams: &[&str]) -> usize {
    let metrics = Http::at(relay).get("/metrics").await.text;
    let is_in_use = |upstream: &&str| {
        let line = format!("vigil_relay_upstream_in_use{{upstream=\"{upstream}\"}} 1");
        metrics.contains(&line)
    };
    upstreams.iter().position(is_in_use).expect("one is in use")
}
