//! What operators ask for: quota and alarms, hashes, and the answers of a cluster that has one member.
//!
//! Asked through etcdctl, so that both sides of the wire are etcd's on one peer, and its client's on the other.

use crate::support::pb::PutRequest;
use crate::support::tool::{Said, etcdctl, printed, run};
use crate::support::{Client, Peer, PeerKind, Setup, eventually};

/// Small enough to be reached with a few puts, for an etcd too, whose empty database has 20 KiB.
const QUOTA_BYTES: &str = "1000000";
const VALUE_BYTES: usize = 300_000;
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

async fn limited(kind: PeerKind) -> Peer {
    Setup::new(kind)
        .flag("--quota-backend-bytes", QUOTA_BYTES)
        .start()
        .await
}

fn member_id(peer: &Peer) -> u64 {
    let status = printed(etcdctl(peer, &["endpoint", "status", "-w", "json"]));
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status[0]["Status"]["header"]["member_id"]
        .as_u64()
        .expect("a number")
}

fn is_refused(said: &Said) -> bool {
    !said.success && said.err.contains(NO_SPACE)
}

/// Puts until the quota is reached: etcd measures its file now and then.
async fn fill(peer: &Peer, client: &Client) {
    let put = PutRequest {
        key: "a".into(),
        value: "x".repeat(VALUE_BYTES).into(),
        ..PutRequest::default()
    };
    eventually("the quota is reached", async || {
        match client.try_put(put.clone()).await {
            Ok(_) => Err("taken".to_owned()),
            Err(status) => {
                assert_eq!(status.message(), NO_SPACE);
                Ok(())
            }
        }
    })
    .await;
    assert!(is_refused(&run(etcdctl(peer, &["put", "b", "1"]))));
}

async fn a_full_store_raises_an_alarm_that_etcdctl_lists_and_disarms(kind: PeerKind) {
    let peer = limited(kind).await;
    let client = peer.client();
    fill(&peer, &client).await;

    let line = format!("memberID:{} alarm:NOSPACE \n", member_id(&peer));
    assert_eq!(printed(etcdctl(&peer, &["alarm", "list"])), line);
    let health = run(etcdctl(&peer, &["endpoint", "health"]));
    assert!(!health.success, "{health:?}");
    let said = health.out + &health.err;
    assert!(said.contains("Active Alarm(s): NOSPACE"), "{said}");
    let status = printed(etcdctl(&peer, &["endpoint", "status"]));
    assert!(status.contains("alarm:NOSPACE"), "{status}");

    // What frees space goes on, and reads do.
    assert_eq!(printed(etcdctl(&peer, &["del", "a"])), "1\n");
    let revision = client.revision().await.to_string();
    printed(etcdctl(&peer, &["compact", "--physical", &revision]));
    assert_eq!(printed(etcdctl(&peer, &["get", "a"])), "");
    assert!(is_refused(&run(etcdctl(&peer, &["put", "b", "1"]))));
    if kind == PeerKind::Etcd {
        // Its file has to shrink first.
        printed(etcdctl(&peer, &["defrag"]));
    }
    assert_eq!(printed(etcdctl(&peer, &["alarm", "disarm"])), line);
    assert_eq!(printed(etcdctl(&peer, &["alarm", "list"])), "");
    assert_eq!(printed(etcdctl(&peer, &["put", "b", "1"])), "OK\n");
    printed(etcdctl(&peer, &["endpoint", "health"]));
}

async fn an_alarm_is_there_after_a_restart(kind: PeerKind) {
    let mut peer = limited(kind).await;
    fill(&peer, &peer.client()).await;
    let line = printed(etcdctl(&peer, &["alarm", "list"]));
    peer.restart().await;
    assert_eq!(printed(etcdctl(&peer, &["alarm", "list"])), line);
    assert!(is_refused(&run(etcdctl(&peer, &["put", "b", "1"]))));
}

macro_rules! on_peers_of_their_own {
    ($($test:ident)+) => {
        mod vigil {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::PeerKind::Vigil).await;
            })+
        }
        mod etcd {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::PeerKind::Etcd).await;
            })+
        }
    };
}

on_peers_of_their_own! {
    a_full_store_raises_an_alarm_that_etcdctl_lists_and_disarms
    an_alarm_is_there_after_a_restart
}
