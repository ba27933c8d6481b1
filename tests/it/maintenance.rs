//! What operators ask for: quota and alarms, hashes, snapshots, and the answers of a cluster that has one member.
//!
//! Asked through etcdctl, so that both sides of the wire are etcd's on one peer, and its client's on the other.

use crate::support::pb::alarm_request::AlarmAction;
use crate::support::pb::maintenance_client::MaintenanceClient;
use crate::support::pb::{AlarmRequest, AlarmType, PutRequest};
use crate::support::peer::vigil_binary;
use crate::support::requests::get;
use crate::support::tool::{Running, Said, etcdctl, printed, run, vigil};
use crate::support::{Client, Http, Peer, PeerKind, Setup, eventually};
use std::fs;
use std::process::Command;
use tempfile::TempDir;
use tonic::Code;

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
    // The file of an etcd has to shrink first.
    printed(etcdctl(&peer, &["defrag"]));
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

/// Etcd's client logs more lines than the one that counts.
fn error_of(said: &Said) -> &str {
    assert!(!said.success, "{said:?}");
    let mut lines = said.err.lines();
    lines
        .rfind(|line| line.starts_with("Error: "))
        .unwrap_or("")
}

async fn a_cluster_of_one_cannot_be_changed(kind: PeerKind) {
    let peer = Setup::new(kind).start().await;
    let me = format!("{:x}", member_id(&peer));
    let refused = |args: &[&str]| error_of(&run(etcdctl(&peer, args))).to_owned();
    let unknown = "Error: etcdserver: member not found";
    let urls = "--peer-urls=http://127.0.0.1:1";
    assert_eq!(refused(&["member", "remove", "123"]), unknown);
    assert_eq!(refused(&["member", "update", "123", urls]), unknown);
    assert_eq!(refused(&["member", "promote", "123"]), unknown);
    assert_eq!(
        refused(&["member", "promote", &me]),
        "Error: etcdserver: can only promote a learner member"
    );
    let too_few = "Error: etcdserver: re-configuration failed due to not enough started members";
    assert_eq!(refused(&["member", "remove", &me]), too_few);
    assert_eq!(
        refused(&["move-leader", "123"]),
        "Error: etcdserver: bad leader transferee"
    );
    assert_eq!(
        printed(etcdctl(&peer, &["move-leader", &me])),
        format!("Leadership transferred from {me} to {me}\n")
    );
    // A second member would take etcd's quorum away, so it is asked of Vigil alone.
    if kind == PeerKind::Vigil {
        assert_eq!(refused(&["member", "add", "b", urls]), too_few);
        assert_eq!(
            refused(&["member", "add", "b", urls, "--learner"]),
            "Error: etcdserver: too many learner members in cluster"
        );
    }
}

async fn a_hash_stays_over_a_restart_and_changes_with_the_data(kind: PeerKind) {
    let mut peer = Setup::new(kind).start().await;
    let hash = |peer: &Peer| {
        let said = printed(etcdctl(peer, &["endpoint", "hashkv", "-w", "json"]));
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let number = |name: &str| said[0]["HashKV"][name].as_i64();
        (number("hash"), number("compact_revision"))
    };
    let client = peer.client();
    client.put("a", "1").await;
    let one = hash(&peer);
    assert_eq!(one.1, Some(-1));
    client.put("a", "2").await;
    let two = hash(&peer);
    assert_ne!(one.0, two.0);
    peer.restart().await;
    assert_eq!(hash(&peer), two);
    peer.client().compact(3).await.expect("compacted");
    assert_eq!(hash(&peer).1, Some(3));
}

/// Alarms of any member can be raised by hand; one of damage refuses every change and no read.
async fn an_alarm_is_raised_and_taken_back_by_hand(kind: PeerKind) {
    use AlarmAction::{Activate, Deactivate, Get};
    use AlarmType::{Corrupt, None, Nospace};

    let peer = Setup::new(kind).start().await;
    let client = peer.client();
    client.put("a", "1").await;
    let alarm = async |action: AlarmAction, member_id: u64, alarm: AlarmType| {
        let request = AlarmRequest {
            action: action.into(),
            member_id,
            alarm: alarm.into(),
        };
        let mut maintenance = MaintenanceClient::new(client.channel());
        let answer = maintenance.alarm(request).await.expect("an answer");
        let alarms = answer.into_inner().alarms.into_iter();
        let mut alarms: Vec<_> = alarms.map(|it| (it.member_id, it.alarm())).collect();
        alarms.sort_unstable();
        alarms
    };
    assert_eq!(alarm(Activate, 7, None).await, []);
    assert_eq!(alarm(Deactivate, 7, Corrupt).await, []);
    assert_eq!(alarm(Activate, 7, Corrupt).await, [(7, Corrupt)]);
    assert_eq!(alarm(Activate, 7, Corrupt).await, [(7, Corrupt)], "it is");

    let put = async || {
        let request = PutRequest {
            key: "a".into(),
            ..PutRequest::default()
        };
        client.try_put(request).await.map(|_| ())
    };
    let corrupt = (Code::DataLoss, "etcdserver: corrupt cluster");
    let refused = put().await.expect_err("a put");
    assert_eq!((refused.code(), refused.message()), corrupt);
    let refused = client.compact(2).await.expect_err("a compaction");
    assert_eq!((refused.code(), refused.message()), corrupt);
    assert_eq!(client.range(get("a")).await.expect("a read").count, 1);

    assert_eq!(alarm(Activate, 8, Nospace).await, [(8, Nospace)]);
    assert_eq!(alarm(Get, 0, None).await, [(7, Corrupt), (8, Nospace)]);
    assert_eq!(alarm(Get, 9, Nospace).await, [(8, Nospace)]);
    let refused = put().await.expect_err("a put");
    let counts = match kind {
        PeerKind::Vigil => corrupt.1,
        PeerKind::Etcd => NO_SPACE,
    };
    assert_eq!(refused.message(), counts);

    assert_eq!(alarm(Deactivate, 7, Corrupt).await, [(7, Corrupt)]);
    if kind == PeerKind::Vigil {
        let refused = put().await.expect_err("a put");
        assert_eq!(refused.message(), NO_SPACE);
    } else {
        put().await.expect("the other alarm is passed over");
    }
    assert_eq!(alarm(Deactivate, 8, Nospace).await, [(8, Nospace)]);
    put().await.expect("taken again");
}

/// Saved by etcdctl, and by `vigil snapshot save`, which both check what they were sent.
async fn a_snapshot_is_saved_by_either_client(kind: PeerKind) {
    let peer = Setup::new(kind).start().await;
    peer.client().put("a", "x".repeat(VALUE_BYTES)).await;
    let home = TempDir::new().expect("a temporary directory");
    let file = |name: &str| home.path().join(name).display().to_string();
    let (one, other) = (file("one"), file("other"));
    assert_eq!(
        printed(etcdctl(&peer, &["snapshot", "save", &one])),
        format!("Snapshot saved at {one}\n")
    );
    assert_eq!(
        printed(vigil(&peer, &["snapshot", "save", &other])),
        format!("Snapshot saved at {other}\n")
    );
    let bytes = fs::read(&one).expect("a snapshot");
    assert_eq!(bytes.len() % 512, 32);
    if kind == PeerKind::Vigil {
        assert!(
            bytes == fs::read(&other).expect("a snapshot"),
            "they differ"
        );
        return;
    }
    let said = run(offline(&["snapshot", "status", &one]));
    let line = format!("Error: {one} is no snapshot of Vigil's: those begin with \"vigilsn\"");
    assert!(!said.success && said.err.starts_with(&line), "{said:?}");
}

/// What runs without a server.
fn offline(args: &[&str]) -> Command {
    let mut command = Command::new(vigil_binary());
    command.args(args);
    command
}

fn json(command: Command) -> serde_json::Value {
    serde_json::from_str(&printed(command)).expect("JSON")
}

#[tokio::test]
async fn a_snapshot_is_restored_and_served_and_watches_resume() {
    let peer = Peer::start(PeerKind::Vigil).await;
    let client = peer.client();
    for value in ["1", "2", "3", "4"] {
        client.put("a", value).await;
    }
    client.compact(3).await.expect("compacted");
    let home = TempDir::new().expect("a temporary directory");
    let file = home.path().join("saved").display().to_string();
    printed(vigil(&peer, &["snapshot", "save", &file]));

    let status = json(offline(&["snapshot", "status", &file, "-w", "json"]));
    let hash = json(etcdctl(&peer, &["endpoint", "hashkv", "-w", "json"]));
    assert_eq!(status["hash"], hash[0]["HashKV"]["hash"]);
    let numbers = ["revision", "compactRevision", "totalKey"].map(|name| status[name].as_i64());
    assert_eq!(numbers, [5, 3, 3].map(Some));

    let mut other = Peer::start(PeerKind::Vigil).await;
    other.terminate().await;
    let data = other.data_dir().display().to_string();
    let restore = ["snapshot", "restore", &file, "--data-dir", &data];
    let refused = run(offline(&restore));
    assert!(refused.err.contains("is not empty"), "{refused:?}");
    fs::remove_dir_all(&data).expect("removed");
    assert_eq!(
        printed(offline(&restore)),
        format!("restored revision 5 to {data}\n")
    );
    other.restart().await;
    assert_eq!(other.client().revision().await, 5);
    let mut watch = Running::start(etcdctl(&other, &["watch", "a", "--rev=3"]));
    watch.prints("PUT\na\n2\nPUT\na\n3\nPUT\na\n4\n").await;
    assert_eq!(other.client().put("a", "5").await, 6);
    watch
        .prints("PUT\na\n2\nPUT\na\n3\nPUT\na\n4\nPUT\na\n5\n")
        .await;
}

/// etcd goes down at it, and so is not asked.
#[tokio::test]
async fn an_alarm_action_that_the_protocol_lacks_is_answered_without_alarms() {
    let peer = Peer::start(PeerKind::Vigil).await;
    let http = Http::to(&peer);
    let answer = http.post("/v3/maintenance/alarm", "{\"action\":9}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let fields: Vec<_> = answer.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["header"]);
    assert_eq!(peer.client().put("a", "1").await, 2);
}

#[tokio::test]
async fn an_unknown_mode_of_compaction_is_refused_by_its_flag() {
    let refused = run(offline(&["serve", "--auto-compaction-mode", "daily"]));
    let line =
        "Error: --auto-compaction-mode is \"daily\", and one of periodic, revision is needed\n";
    assert_eq!((refused.success, refused.err.as_str()), (false, line));
}

/// Whether the version before the one that the server speaks is one to go back to.
async fn the_version_before_is_a_target_of_a_downgrade_in_etcd_alone(kind: PeerKind) {
    let peer = Setup::new(kind).start().await;
    let http = Http::to(&peer);
    let validate = async |version: &str| {
        let body = format!("{{\"action\":\"VALIDATE\",\"version\":\"{version}\"}}");
        let answer = http.post("/v3/maintenance/downgrade", &body).await;
        let said = answer.json();
        let said = said["version"].as_str().or(said["message"].as_str());
        (answer.status, said.unwrap_or_default().to_owned())
    };
    let refused = (
        400,
        "etcdserver: invalid downgrade target version".to_owned(),
    );
    match kind {
        PeerKind::Etcd => assert_eq!(validate("3.4.0").await, (200, "3.5.0".to_owned())),
        PeerKind::Vigil => assert_eq!(validate("3.5.0").await, refused),
    }
    assert_eq!(validate("3.6.0").await, refused);
    assert_eq!(validate("2.0.0").await, refused);
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
    a_cluster_of_one_cannot_be_changed
    a_hash_stays_over_a_restart_and_changes_with_the_data
    a_snapshot_is_saved_by_either_client
    an_alarm_is_raised_and_taken_back_by_hand
    the_version_before_is_a_target_of_a_downgrade_in_etcd_alone
}
