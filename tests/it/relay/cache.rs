//! Reads that a relay answers from its own memory: never another answer than the cluster's, and never an older one than was
//! asked for.

use super::raw::{call, call_with};
use crate::support::pb::lease_client::LeaseClient;
use crate::support::pb::range_request::{SortOrder, SortTarget};
use crate::support::pb::{LeaseGrantRequest, PutRequest, RangeRequest};
use crate::support::requests::{get, get_prefix};
use crate::support::wire::Wire;
use crate::support::{Http, Peer, PeerKind, Relay, eventually};
use prost::Message;
use serde_json::json;
use tonic::Code;

const RANGE: &str = "/etcdserverpb.KV/Range";

/// Waits until the relay has all of its prefix.
pub(super) async fn filled(relay: &Relay) {
    let http = Http::at(relay.endpoint());
    eventually("the cache is filled", async || {
        let metrics = http.get("/metrics").await.text;
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with("vigil_relay_cache_revision{"));
        let line = line.unwrap_or_default().to_owned();
        let is_filled = line
            .rsplit_once(' ')
            .is_some_and(|(_, revision)| revision != "0");
        if is_filled { Ok(()) } else { Err(line) }
    })
    .await;
}

pub(super) fn serializable(request: RangeRequest) -> RangeRequest {
    RangeRequest {
        serializable: true,
        ..request
    }
}

/// What a cache of `k/` answers.
fn forms() -> Vec<RangeRequest> {
    vec![
        get("k/08"),
        get("k/07"),
        get_prefix("k/"),
        RangeRequest {
            limit: 5,
            ..get_prefix("k/")
        },
        RangeRequest {
            limit: 100,
            keys_only: true,
            ..get_prefix("k/1")
        },
        RangeRequest {
            count_only: true,
            ..get_prefix("k/")
        },
        RangeRequest {
            sort_order: SortOrder::Ascend as i32,
            ..get_prefix("k/2")
        },
    ]
}

/// What it leaves to the cluster.
fn of_the_cluster() -> Vec<RangeRequest> {
    vec![
        get("k/08"),
        serializable(get("other")),
        serializable(get_prefix("")),
        serializable(RangeRequest {
            sort_target: SortTarget::Mod as i32,
            ..get_prefix("k/")
        }),
        serializable(RangeRequest {
            revision: 5,
            ..get_prefix("k/")
        }),
    ]
}

#[tokio::test]
async fn reads_in_the_prefix_have_the_clusters_bytes_and_do_not_need_the_cluster() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let wire = Wire::to(etcd.endpoint()).await;
    let direct = etcd.client();
    for n in 0..30 {
        direct.put(format!("k/{n:02}"), vec![n; 100]).await;
    }
    direct.put("other", "1").await;
    // The last that happens before the relay looks.
    direct.delete("k/07", "").await;
    let relay = Relay::with_flags(&[wire.endpoint()], &["--cache", "k/"]).await;
    let client = relay.connect().await;
    filled(&relay).await;
    direct.put("k/08", "after it was filled").await;
    direct.delete("k/21", "").await;
    let forms = forms();
    // Linearizable first, so that the cache has what the cluster has.
    let mut answers = Vec::new();
    for form in forms.clone() {
        let message = form.encode_to_vec();
        let ours = call(client.channel(), RANGE, message.clone()).await;
        let theirs = call(direct.channel(), RANGE, message).await;
        assert_eq!(ours, theirs, "{form:?}");
        answers.push(ours);
    }
    wire.cut();
    for (form, answer) in forms.into_iter().zip(answers) {
        let message = serializable(form.clone()).encode_to_vec();
        let ours = call(client.channel(), RANGE, message).await;
        assert_eq!(ours, answer, "{form:?}");
    }
    // What is not known here for certain is the cluster's to say.
    for form in of_the_cluster() {
        let refused = client.range(form.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{form:?}");
    }
    let json = json!({"key": "ay8wOA==", "serializable": true}).to_string();
    let answer = Http::at(relay.endpoint()).post("/v3/kv/range", &json).await;
    assert_eq!(answer.json()["count"], "1", "{answer:?}");
    wire.open();
    eventually("the cluster is there again", async || {
        client.range(get("k/08")).await
    })
    .await;
    let last = direct.put("k/08", "last").await;
    let read = client.range(get("k/08")).await.unwrap();
    assert_eq!(read.kvs[0].mod_revision, last);
}

#[tokio::test]
async fn a_linearizable_read_has_every_write_that_was_answered_before() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let relay = Relay::with_flags(&[etcd.endpoint()], &["--cache", "k"]).await;
    let (client, direct) = (relay.connect().await, etcd.client());
    filled(&relay).await;
    for round in 0..200 {
        let writer = if round % 2 == 0 { &direct } else { &client };
        let put = writer.put("k", round.to_string()).await;
        let read = client.range(get("k")).await.unwrap();
        assert_eq!(read.kvs[0].mod_revision, put);
        assert!(read.header.unwrap().revision >= put);
    }
}

// How far the cluster has come is known sooner than what is large and on its way.
#[tokio::test]
async fn a_linearizable_read_waits_for_what_is_large() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let relay = Relay::with_flags(&[etcd.endpoint()], &["--cache", "k"]).await;
    let (client, direct) = (relay.connect().await, etcd.client());
    filled(&relay).await;
    for round in 0..20 {
        let put = direct.put("k", vec![round; 1 << 20]).await;
        let counted = RangeRequest {
            count_only: true,
            ..get("k")
        };
        let read = client.range(counted).await.unwrap();
        assert!(read.header.unwrap().revision >= put);
        let read = client.range(get("k")).await.unwrap();
        assert_eq!(read.kvs[0].mod_revision, put);
    }
}

// Members of different ages tell the lease of a key without its value, or do not.
#[tokio::test]
async fn a_read_of_the_keys_alone_is_the_clusters_where_they_have_leases() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let wire = Wire::to(etcd.endpoint()).await;
    let direct = etcd.client();
    let grant = LeaseGrantRequest { id: 7, ttl: 600 };
    let mut leases = LeaseClient::new(direct.channel());
    leases.lease_grant(grant).await.unwrap();
    let put = PutRequest {
        key: "k/leased".into(),
        lease: 7,
        ..PutRequest::default()
    };
    direct.try_put(put).await.unwrap();
    let relay = Relay::with_flags(&[wire.endpoint()], &["--cache", "k/"]).await;
    let client = relay.connect().await;
    filled(&relay).await;
    let whole = serializable(get_prefix("k/"));
    let keys = RangeRequest {
        keys_only: true,
        ..whole.clone()
    };
    assert_eq!(client.range(keys.clone()).await.unwrap().count, 1);
    wire.cut();
    let read = client.range(whole).await.unwrap();
    assert_eq!(read.kvs[0].lease, 7);
    let refused = client.range(keys).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}

// Who asks for a leader wants to hear that there is none, and memory knows of none.
#[tokio::test]
async fn a_read_that_asks_for_a_leader_is_the_clusters() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let wire = Wire::to(etcd.endpoint()).await;
    etcd.client().put("k/1", "v").await;
    let relay = Relay::with_flags(&[wire.endpoint()], &["--cache", "k/"]).await;
    let client = relay.connect().await;
    filled(&relay).await;
    let read = serializable(get("k/1")).encode_to_vec();
    let asks = [("hasleader", "true")];
    let asked = async || call_with(client.channel(), RANGE, read.clone(), &asks).await;
    let known = call(client.channel(), RANGE, read.clone()).await;
    assert_eq!(asked().await, known);
    wire.cut();
    assert_eq!(asked().await.unwrap_err().0, Code::Unavailable);
    assert_eq!(call(client.channel(), RANGE, read.clone()).await, known);
}

// What is longer than a read of a cache can be is not held to be looked at.
#[tokio::test]
async fn a_read_of_any_length_is_answered_by_the_cluster() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let relay = Relay::with_flags(&[etcd.endpoint()], &["--cache", "k/"]).await;
    let (client, direct) = (relay.connect().await, etcd.client());
    filled(&relay).await;
    for bytes in [10 << 10, 100 << 10, 1 << 20, 7 << 18, 2 << 20, 3 << 20] {
        let key = format!("k/{}", "k".repeat(bytes));
        let message = get(key).encode_to_vec();
        let ours = call(client.channel(), RANGE, message.clone()).await;
        let theirs = call(direct.channel(), RANGE, message).await;
        assert_eq!(ours, theirs, "{bytes}");
    }
}
