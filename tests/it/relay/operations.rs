//! What operators ask a relay over plain HTTP, and what it says of flags that are no good.

use super::metric;
use crate::support::peer::vigil_binary;
use crate::support::requests::{get, on};
use crate::support::{Http, Peer, eventually};
use std::process::Command;

#[tokio::test]
async fn a_relay_before_a_cluster_that_is_well_is_well() {
    let peer = Peer::relayed().await;
    let (http, theirs) = (Http::to(&peer), Http::to(peer.behind()));
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(
            http.get(path).await.text,
            theirs.get(path).await.text,
            "{path}"
        );
    }
    let (version, their_version) = (http.get("/version").await, theirs.get("/version").await);
    let (version, their_version) = (version.json(), their_version.json());
    for field in ["etcdserver", "etcdcluster"] {
        assert_eq!(version[field], their_version[field]);
    }
    assert_eq!(version["vigil"], env!("CARGO_PKG_VERSION"));
    let metrics = http.get("/metrics").await.text;
    let upstream = peer.behind().endpoint();
    for name in ["vigil_relay_upstream_well", "vigil_relay_upstream_in_use"] {
        let line = format!("\n{name}{{upstream=\"{upstream}\"}} 1\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
    // It has no store, so it has no numbers of one.
    assert!(!metrics.contains("etcd_mvcc_db_total_size_in_bytes"));
}

#[tokio::test]
async fn the_covers_are_counted_and_how_far_they_are_behind() {
    let peer = Peer::relayed().await;
    let counts = async || {
        let relay = peer.endpoint();
        let covers: u64 = metric(relay, "vigil_relay_covers").await;
        let begun: u64 = metric(relay, "vigil_relay_watches_begun_total").await;
        let behind: u64 = metric(relay, "vigil_relay_covers_behind_revisions").await;
        (covers, begun, behind)
    };
    assert_eq!(counts().await, (0, 0, 0));
    let mut stream = peer.watch();
    stream.created(on("a")).await;
    stream.created(on("b")).await;
    peer.client().put("a", "v").await;
    stream.next_events().await;
    eventually("both covers are level", async || {
        let counts = counts().await;
        let is_level = counts == (2, 2, 0);
        is_level.then_some(()).ok_or(format!("{counts:?}"))
    })
    .await;
    // Nothing happens in either, and so neither hears of it before it asks.
    peer.client().put("c", "v").await;
    peer.client().range(get("c")).await.unwrap();
    eventually("they are level again", async || {
        let (_, _, behind) = counts().await;
        (behind == 0).then_some(()).ok_or(behind)
    })
    .await;
}

#[test]
fn flags_that_are_no_good_are_refused_in_one_line() {
    for (flags, said) in [
        (
            &["--upstream", "a"][..],
            "Error: --upstream is \"a\", and HOST:PORT",
        ),
        (
            &["--upstream", "a:1", "--workers", "0"],
            "Error: --workers is 0",
        ),
        (
            &["--upstream", "https://a:1", "--cacert", "/nothing"],
            "Error: cannot use TLS towards the cluster: --cacert /nothing: ",
        ),
        (
            &["--upstream", "a:1,a:1"],
            "Error: --upstream has both \"a:1\" and \"a:1\"",
        ),
    ] {
        let listen = ["--listen-client", "127.0.0.1:0"];
        let mut command = Command::new(vigil_binary());
        let output = command.arg("relay").args(flags).args(listen).output();
        let output = output.expect("vigil runs");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert!(!output.status.success());
        assert!(stderr.starts_with(said), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
