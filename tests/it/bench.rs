//! `vigil bench` against real servers: each load runs for a moment, and its report says what it did.
//!
//! No number is judged here but that there is one.

use crate::support::peer::vigil_binary;
use crate::support::tool::{run, vigil};
use crate::support::{Peer, PeerKind, Setup};
use serde_json::Value;
use std::net::TcpListener;
use std::process::Command;
use tempfile::TempDir;

/// What a load printed, as it is when it succeeds.
fn report(peer: &Peer, args: &[&str]) -> Value {
    let brief = ["--seconds", "1", "--keys", "50"];
    let said = run(vigil(peer, &[&["bench"], args, &brief].concat()));
    assert!(said.success, "{args:?}: {}", said.err);
    assert_eq!(said.out.lines().count(), 1, "one object: {}", said.out);
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(report["workload"], args[0]);
    report
}

fn positive(report: &Value, field: &str) {
    let found = report.pointer(field).and_then(Value::as_f64);
    assert!(found.is_some_and(|found| found > 0.0), "{field}: {report}");
}

#[tokio::test]
async fn the_environment_names_the_server_as_for_the_other_verbs() {
    let peer = Peer::start(PeerKind::Vigil).await;
    let mut command = Command::new(vigil_binary());
    command.args(["bench", "put", "--seconds", "1", "--keys", "50"]);
    command.env("VIGIL_ENDPOINT", peer.endpoint());
    let said = run(command);
    assert!(said.success, "{said:?}");
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(report["endpoint"], peer.endpoint());
}

/// Runs every load that this kind of server can take.
async fn every_load(kind: PeerKind) {
    let peer = Setup::new(kind).start().await;
    let few = ["--clients", "4", "--connections", "2"];
    for load in [
        ["put"].as_slice(),
        &["range", "--keys-per-answer", "7"],
        &["mixed"],
    ] {
        let report = report(&peer, &[load, &few].concat());
        for field in [
            "/count",
            "/per_second",
            "/latency_ms/p99",
            "/server_rss_bytes_after",
        ] {
            positive(&report, field);
        }
    }
    for pace in ["ping-pong", "paced", "flood"] {
        let fanout = [
            "fanout",
            "--watchers",
            "20",
            "--streams",
            "3",
            "--pace",
            pace,
        ];
        let report = report(&peer, &fanout);
        positive(&report, "/count");
        positive(&report, "/latency_ms/p50");
        assert_eq!(report["pace"], pace);
        let nested = report_of_nested(&peer, &fanout);
        positive(&nested, "/events_due");
        assert_eq!(nested["events_heard"], nested["events_due"]);
    }
    let many = [
        "many",
        "--watchers",
        "50",
        "--streams",
        "2",
        "--writers",
        "2",
    ];
    let many = report(&peer, &many);
    positive(&many, "/created_per_second");
    positive(&many, "/count");
    let slow = [
        "slow",
        "--stalled",
        "5",
        "--stalled-connections",
        "2",
        "--live",
        "3",
    ];
    let slow = report(&peer, &slow);
    for field in [
        "/none_stalled/count",
        "/beside_stalled/count",
        "/level_again/count",
    ] {
        positive(&slow, field);
    }
}

/// The same with ranges in each other, and with another process beside the server's.
fn report_of_nested(peer: &Peer, fanout: &[&str]) -> Value {
    let beside = std::process::id().to_string();
    let nested = report(
        peer,
        &[
            fanout,
            &["--nested", "--ahead", "3", "--behind-pid", &beside],
        ]
        .concat(),
    );
    positive(&nested, "/behind_rss_bytes_after");
    nested
}

#[tokio::test]
async fn every_load_runs_against_vigil() {
    every_load(PeerKind::Vigil).await;
}

#[tokio::test]
async fn every_load_runs_against_etcd() {
    every_load(PeerKind::Etcd).await;
    let peer = Setup::new(PeerKind::Etcd).start().await;
    let keepalive = ["keepalive", "--leases", "3", "--ahead", "4"];
    positive(&report(&peer, &keepalive), "/count");
    let expire = ["expire", "--leases", "5", "--end-after-seconds", "6"];
    let expired = report(&peer, &expire);
    positive(&expired, "/put_latency_ms_before/count");
    positive(&expired, "/put_latency_ms_while_they_end/count");
}

#[tokio::test]
async fn an_event_that_was_not_due_makes_a_measurement_of_nested_ranges_void() {
    let peer = Setup::new(PeerKind::Vigil).start().await;
    let mut command = vigil(&peer, &["bench", "fanout", "--nested", "--watchers", "40"]);
    command.args(["--seconds", "1"]);
    let bench = tokio::task::spawn_blocking(move || run(command));
    let client = peer.connect().await;
    while !bench.is_finished() {
        client.put("bench/000000007", "somebody else's").await;
    }
    let said = bench.await.expect("it ends");
    assert!(!said.success && said.out.is_empty(), "{}", said.out);
    assert!(said.err.contains("were due"), "{}", said.err);
}

#[tokio::test]
async fn watchers_from_the_beginning_hear_everything() {
    let peer = Setup::new(PeerKind::Vigil).start().await;
    let all = [
        "catchup",
        "--history",
        "500",
        "--watchers",
        "4",
        "--streams",
        "2",
    ];
    let all = report(&peer, &all);
    assert_eq!(
        (&all["count"], &all["finished"]),
        (&2000.into(), &true.into())
    );
    let peer = Setup::new(PeerKind::Vigil).start().await;
    let own = [
        "catchup",
        "--history",
        "500",
        "--watchers",
        "7",
        "--own-key",
    ];
    let own = report(&peer, &own);
    assert_eq!(
        (&own["count"], &own["finished"]),
        (&500.into(), &true.into())
    );
}

#[tokio::test]
async fn a_start_is_timed_until_the_first_answer() {
    let home = TempDir::new().expect("a temporary directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound port").to_string();
    drop(taken);
    let data_dir = home.path().join("data").display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vigil"));
    command.args([
        "bench",
        "restart",
        "--endpoint",
        &address,
        "--",
        env!("CARGO_BIN_EXE_vigil"),
    ]);
    command.args([
        "serve",
        "--data-dir",
        &data_dir,
        "--listen-client",
        &address,
    ]);
    let said = run(command);
    assert!(said.success, "{}", said.err);
    positive(&serde_json::from_str(&said.out).expect("JSON"), "/seconds");
}

#[tokio::test]
async fn what_cannot_be_measured_is_one_clear_line() {
    let peer = Setup::new(PeerKind::Vigil).start().await;
    let endpoint = peer.endpoint().to_owned();
    drop(peer);
    let lines: [(&[&str], &str); 4] = [
        (&["put", "--threads", "0"], "--threads is 0"),
        (&["fanout", "--watchers", "0"], "--watchers is 0"),
        (&["put"], "connection to"),
        (&["restart", "--", "/no/such/server"], "/no/such/server"),
    ];
    for (args, expected) in lines {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vigil"));
        command.args(["bench", "--endpoint", &endpoint]).args(args);
        let said = run(command);
        assert!(
            !said.success && said.out.is_empty(),
            "{args:?}: {}",
            said.out
        );
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
        assert!(said.err.contains(expected), "{}", said.err);
    }
}
