//! What operators ask over plain HTTP: versions, numbers, settings, and an orderly end.

use crate::support::requests::on;
use crate::support::{Http, Peer, PeerKind, Setup, eventually};
use std::collections::HashMap;

/// Every sample by its name and labels, as it is written.
async fn metrics(http: &Http) -> HashMap<String, String> {
    let answer = http.get("/metrics").await;
    assert_eq!(answer.status, 200);
    let samples = answer.text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

#[tokio::test]
async fn metrics_say_what_is_there_under_the_names_that_etcd_has_for_it() {
    let peer = Peer::start(PeerKind::Vigil).await;
    let etcd = Peer::start(PeerKind::Etcd).await;
    let http = Http::to(&peer);
    let ours = metrics(&http).await;
    let theirs = metrics(&Http::to(&etcd)).await;
    let plain = |name: &&String| name.starts_with("etcd_") && !name.contains('{');
    let foreign: Vec<_> = ours
        .keys()
        .filter(plain)
        .filter(|name| !theirs.contains_key(*name))
        .collect();
    assert!(foreign.is_empty(), "etcd has no such numbers: {foreign:?}");
    assert_eq!(ours["etcd_debugging_mvcc_current_revision"], "1");
    assert_eq!(ours["etcd_server_has_leader"], "1");
    assert_ne!(ours["etcd_mvcc_db_total_size_in_bytes"], "0");
    assert_ne!(ours["process_resident_memory_bytes"], "0");

    let client = peer.client();
    client.put("a", "1").await;
    client.put("a", "2").await;
    let mut stream = peer.watch();
    stream.created(on("a")).await;
    stream.created(on("b")).await;
    let events = http.lines("/watch/a", &[]).await;
    let now = metrics(&http).await;
    assert_eq!(now["etcd_debugging_mvcc_current_revision"], "3");
    assert_eq!(now["etcd_debugging_mvcc_watcher_total"], "3");
    assert_eq!(now["etcd_debugging_mvcc_slow_watcher_total"], "0");
    assert_eq!(now["vigil_event_streams"], "1");
    let put = r#"grpc_server_started_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}"#;
    assert_eq!(now[put], "2");
    drop((stream, events));
    eventually("the watchers are gone", async || {
        let now = metrics(&http).await;
        let left = ["etcd_debugging_mvcc_watcher_total", "vigil_event_streams"];
        let left = left.map(|name| now[name].as_str());
        if left == ["0", "0"] {
            Ok(())
        } else {
            Err(left.join(" and "))
        }
    })
    .await;
}

#[tokio::test]
async fn checks_are_counted_and_versions_are_told() {
    let peer = Peer::start(PeerKind::Vigil).await;
    let http = Http::to(&peer);
    for path in ["/health", "/health", "/readyz", "/livez"] {
        assert_eq!(http.get(path).await.status, 200);
    }
    let now = metrics(&http).await;
    assert_eq!(now["etcd_server_health_success"], "2");
    assert_eq!(now["etcd_server_health_failures"], "0");
    let check = r#"etcd_server_healthcheck{name="data_corruption",type="readyz"}"#;
    assert_eq!(now[check], "1");
    let version = http.get("/version").await.json();
    assert_eq!(version["vigil"], env!("CARGO_PKG_VERSION"));
    let status = http.post("/v3/maintenance/status", "{}").await.json();
    assert_eq!(version["etcdserver"], status["version"]);
}

#[tokio::test]
async fn the_settings_of_the_http_side_can_be_given() {
    let setup = Setup::new(PeerKind::Vigil)
        .flag("--cors", "http://page,http://other")
        .flag("--host-whitelist", "known")
        .flag("--enable-grpc-gateway", "false");
    let peer = setup.start().await;
    let http = Http::to(&peer);
    let known = ("host", "known:80");
    let origin = ("origin", "http://other");
    let answer = http.ask("GET", "/version", &[known, origin], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.headers["access-control-allow-origin"],
        "http://other"
    );
    let answer = http.ask("GET", "/version", &[known], "").await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    assert_eq!(http.get("/version").await.status, 421);
    let answer = http.ask("POST", "/v3/kv/range", &[known], "{}").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_server_that_is_told_to_end_ends_its_streams_and_itself() {
    let mut peer = Peer::start(PeerKind::Vigil).await;
    let http = Http::to(&peer);
    let mut events = http.lines("/watch/a", &[]).await;
    let create = r#"{"create_request":{"key":"YQ=="}}"#;
    let (_requests, mut stream) = http.exchange("/v3/watch", create).await;
    assert_eq!(stream.json().await["result"]["created"], true);
    assert!(peer.terminate().await.success());
    assert_eq!(stream.json().await["error"]["code"], 14);
    assert_eq!(stream.line().await, None);
    while events.line().await.is_some() {}
}
