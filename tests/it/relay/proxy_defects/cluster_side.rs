//! What etcd's proxy gets wrong towards the cluster: watches that are dead, compacted, refused, or dearer than they need be.
//!
//! Members die for certain or the network does; nothing here waits for luck.

use super::holds;
use crate::relay::{upstream_in_use, watches_held};
use crate::support::pb::{RangeRequest, WatchCreateRequest};
use crate::support::requests::{get, on, on_prefix};
use crate::support::{Client, Cluster, History, Peer, PeerKind, Relay, Wire, eventually};
use bytes::Bytes;

const LARGE_BYTES: usize = 1 << 20;

// The proxy lets later watches join one whose connection to the cluster is dead: they would never be told of anything.
#[tokio::test]
async fn d07_nobody_joins_a_watch_that_is_dead() {
    let (mut cluster, history) = (Cluster::start().await, History::default());
    let relay = Relay::before(&cluster.endpoints()).await;
    let client = relay.connect().await;
    let first = client.revision().await;
    assert_eq!(first, 1);
    let mut earlier = client.watch();
    let mut earlier_log = vec![earlier.created(on_prefix("/a/")).await];
    history.put(&client, "/a/1", "v").await;
    let killed = upstream_in_use(relay.endpoint(), &cluster.endpoints()).await;
    let direct = Client::connect(&cluster.members[(killed + 1) % 3].endpoint).await;
    let direct = direct.expect("a member that lives");
    cluster.members[killed].kill();
    let mut later = client.watch();
    let mut later_log = vec![later.created(on_prefix("/a/")).await];
    put_in_the_end(&direct).await;
    history.record(3, vec![put_of("/a/2")]);
    history.put(&direct, "/a/3", "v").await;
    earlier_log.extend(earlier.read_through(|| Some(history.last())).await);
    later_log.extend(later.read_through(|| Some(history.last())).await);
    holds(&history, &[on_prefix("/a/")], &earlier_log);
    holds(&history, &[on_prefix("/a/")], &later_log);
}

fn put_of(key: &'static str) -> crate::support::Change {
    crate::support::Change::Put {
        key: key.into(),
        value: "v".into(),
    }
}

/// Puts once the cluster has a leader. A try that had failed might have been carried out, so each asks whether it was.
async fn put_in_the_end(client: &Client) {
    eventually("a put is accepted", async || {
        let there = client.range(get("/a/2")).await;
        let there = there.map_err(|status| status.to_string())?;
        if there.count > 0 {
            return Ok(());
        }
        let put = crate::support::pb::PutRequest {
            key: "/a/2".into(),
            value: "v".into(),
            ..Default::default()
        };
        match client.try_put(put).await {
            Ok(_) => Ok(()),
            Err(status) => Err(status.to_string()),
        }
    })
    .await;
}

// When the cluster compacts what a watch of the proxy would go on from, it retries for ever or goes on behind the gap: a
// client would be told nothing, or lose events without a word.
#[tokio::test]
async fn d08_a_compaction_while_away_is_told_or_nothing_is_lost() {
    let (etcd, history) = (Peer::start(PeerKind::Etcd).await, History::default());
    let wire = Wire::to(etcd.endpoint()).await;
    let relay = Relay::before(&[wire.endpoint()]).await;
    let (client, direct) = (relay.connect().await, etcd.client());
    let creates = [on_prefix("/a/"), on("/a/1")];
    let mut stream = client.watch();
    let mut log = Vec::new();
    for create in &creates {
        log.push(stream.created(create.clone()).await);
    }
    history.put(&direct, "/a/0", "seen").await;
    log.extend(stream.events(1).await);
    wire.cut();
    for number in 0..20 {
        let key = format!("/a/{}", number % 3);
        history.put(&direct, key, "unseen").await;
    }
    let compact_revision = history.last() - 5;
    history.compact(&direct, compact_revision).await;
    wire.open();
    for _ in &creates {
        let canceled = stream.next().await;
        assert!(canceled.canceled, "{canceled:?}");
        assert_eq!(canceled.compact_revision, compact_revision);
        log.push(canceled);
    }
    holds(&history, &creates, &log);
    let resumed = creates.map(|create| WatchCreateRequest {
        start_revision: compact_revision,
        ..create
    });
    let mut stream = client.watch();
    let mut log = Vec::new();
    for create in &resumed {
        stream.create(create.clone());
    }
    history.put(&direct, "/a/1", "last").await;
    log.extend(stream.read_through(|| Some(history.last())).await);
    holds(&history, &resumed, &log);
}

// The proxy asks the cluster for previous values whether anybody wants them or not: each event would cost a read more, and
// twice the bytes.
#[tokio::test]
async fn d12_previous_values_are_asked_for_only_when_somebody_wants_them() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let wire = Wire::to(etcd.endpoint()).await;
    let relay = Relay::before(&[wire.endpoint()]).await;
    let (client, direct) = (relay.connect().await, etcd.client());
    let large = Bytes::from(vec![b'v'; LARGE_BYTES]);
    direct.put("a", large.clone()).await;
    let mut stream = client.watch();
    stream.created(on("a")).await;
    let before = wire.bytes_down();
    direct.put("a", "small").await;
    let response = stream.next_events().await;
    assert!(response.events[0].prev_kv.is_none());
    let passed = wire.bytes_down() - before;
    assert!(passed < (LARGE_BYTES / 2) as u64, "{passed} bytes");

    direct.put("a", large.clone()).await;
    stream.next_events().await;
    let with_prev = WatchCreateRequest {
        prev_kv: true,
        ..on("a")
    };
    let mut wanting = client.watch();
    wanting.created(with_prev).await;
    direct.put("a", "small").await;
    let response = wanting.next_events().await;
    let prev = response.events[0].prev_kv.as_ref().expect("it is wanted");
    assert_eq!(prev.value, large);
    let response = stream.next_events().await;
    assert!(response.events[0].prev_kv.is_none());
}

// The proxy answers reads from a cache that other writers do not keep fresh: what was written past it would not be seen.
// This relay keeps no answers, so that each read is the cluster's.
#[tokio::test]
async fn d13_a_read_sees_what_was_written_past_the_relay() {
    let peer = Peer::relayed().await;
    let (relayed, direct) = (peer.client(), peer.behind().client());
    for number in 0..50 {
        let revision = direct.put("a", format!("{number}")).await;
        for serializable in [false, true] {
            let read = RangeRequest {
                serializable,
                ..get("a")
            };
            let answer = relayed.range(read).await.expect("an answer");
            assert_eq!(answer.kvs[0].value, format!("{number}"));
            assert_eq!(answer.header.expect("a header").revision, revision);
        }
    }
    let old = RangeRequest {
        revision: 2,
        ..get("a")
    };
    direct.compact(20).await.expect("a compaction");
    assert!(relayed.range(old).await.is_err());
}

// Watches of the proxy are known to stay behind when their clients have gone, and its memory to grow: the cluster would hold
// a watch for each.
#[tokio::test]
async fn d15_nothing_stays_of_watches_whose_clients_have_gone() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let relay = Relay::before(&[etcd.endpoint()]).await;
    for round in 0..10 {
        let client = relay.connect().await;
        let mut stream = client.watch();
        for number in 0..100 {
            stream.created(on(format!("{round}/{number}"))).await;
        }
        for id in 0..50 {
            stream.cancel(id);
            assert!(stream.next().await.canceled);
        }
        assert!(watches_held(etcd.endpoint()).await <= 20);
    }
    let gone = async |endpoint: &str| {
        eventually("no watch is held", async || {
            let held = watches_held(endpoint).await;
            (held == 0).then_some(()).ok_or(held)
        })
        .await;
    };
    gone(relay.endpoint()).await;
    gone(etcd.endpoint()).await;
    // A stream that stays open without watches is no reason either, nor is one whose watch was compacted away.
    let client = relay.connect().await;
    let last = client.put("open", "1").await;
    let mut open = client.watch();
    for (id, key) in ["a", "m", "z"].into_iter().enumerate() {
        open.created(on(key)).await;
        open.cancel(i64::try_from(id).expect("few"));
        assert!(open.next().await.canceled);
    }
    client.compact(last).await.expect("a compaction");
    let late = WatchCreateRequest {
        start_revision: 1,
        ..on("open")
    };
    open.created(late).await;
    assert!(open.next().await.compact_revision > 0);
    gone(relay.endpoint()).await;
    gone(etcd.endpoint()).await;
    drop(open);
}
