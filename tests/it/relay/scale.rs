//! Ten thousand watchers at the price of a few: the cluster holds a watch for each cover and knows of nobody behind it.

use super::{calls_begun, metric, watches_held};
use crate::support::pb::WatchCreateRequest;
use crate::support::requests::{on, on_prefix};
use crate::support::stream::revision_of;
use crate::support::{Client, Cluster, Peer, PeerKind, Relay, Wire, within};
use futures_util::future::join_all;
use std::collections::BTreeMap;

const CONNECTIONS: usize = 20;
const STREAMS_PER_CONNECTION: usize = 10;
const WATCHES_PER_STREAM: usize = 50;
const ROOMS: usize = 10;
/// What a relay may hold on the cluster for covers, and a little for who reads the past.
const HELD_MAX: u64 = 10;

/// Prefixes, prefixes in them, and keys in those.
fn create(number: usize) -> WatchCreateRequest {
    let (room, shelf) = (number % ROOMS, number / ROOMS % ROOMS);
    match number % 3 {
        0 => on_prefix(&format!("/r/{room}/")),
        1 => on_prefix(&format!("/r/{room}/{shelf}/")),
        _ => on(format!("/r/{room}/{shelf}/k")),
    }
}

/// How many of the keys are in a watch's range, of which there is one in each shelf of each room.
fn due(number: usize) -> usize {
    match number % 3 {
        0 => ROOMS,
        _ => 1,
    }
}

/// Creates the watches of one stream, waits until all streams have theirs, and reads until each was told all it is due.
async fn stream(client: Client, first: usize, all_created: &tokio::sync::Barrier) -> usize {
    let mut stream = client.watch();
    for number in first..first + WATCHES_PER_STREAM {
        stream.create(create(number));
    }
    for at in (0..).take(WATCHES_PER_STREAM) {
        let created = stream.next().await;
        let is_next = created.created && created.watch_id == at;
        assert!(is_next && !created.canceled, "{created:?}");
    }
    // Once when everybody has arrived, and once when the cluster was asked what it holds.
    all_created.wait().await;
    all_created.wait().await;
    let numbers = first..first + WATCHES_PER_STREAM;
    let mut owed: BTreeMap<i64, usize> = (0..).zip(numbers.map(due)).collect();
    let (mut told, mut last) = (0, BTreeMap::new());
    while !owed.is_empty() {
        let response = stream.next_events().await;
        let revision = revision_of(&response);
        let before = last.insert(response.watch_id, revision);
        assert!(before < Some(revision), "once, and in order");
        let left = owed.get_mut(&response.watch_id).expect("it is owed more");
        *left -= response.events.len();
        told += response.events.len();
        if *left == 0 {
            owed.remove(&response.watch_id);
        }
    }
    told
}

#[tokio::test]
async fn ten_thousand_watchers_cost_the_cluster_a_handful() {
    let cluster = Cluster::start().await;
    let relay = Relay::before(&cluster.endpoints()).await;
    let count = CONNECTIONS * STREAMS_PER_CONNECTION;
    let all_created = tokio::sync::Barrier::new(count + 1);
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = relay.connect().await;
        for _ in 0..STREAMS_PER_CONNECTION {
            let first = streams.len() * WATCHES_PER_STREAM;
            streams.push(stream(client.clone(), first, &all_created));
        }
    }
    let writing = async {
        within("all are created", all_created.wait()).await;
        let watchers = (count * WATCHES_PER_STREAM) as u64;
        assert_eq!(watches_held(relay.endpoint()).await, watchers);
        let mut held = 0;
        for member in cluster.endpoints() {
            held += watches_held(member).await;
        }
        assert!((1..=HELD_MAX).contains(&held), "{held} on the cluster");
        all_created.wait().await;
        let writer = relay.connect().await;
        for number in 0..ROOMS * ROOMS {
            let (room, shelf) = (number % ROOMS, number / ROOMS);
            writer.put(format!("/r/{room}/{shelf}/k"), "v").await;
        }
    };
    let (told, ()) = tokio::join!(join_all(streams), writing);
    let owed: usize = (0..count * WATCHES_PER_STREAM).map(due).sum();
    assert_eq!(told.iter().sum::<usize>(), owed);
}

// Each watch begins with a question for the cluster's revision, and those that begin together ask together.
#[tokio::test]
async fn watches_that_begin_at_once_ask_the_cluster_once() {
    const STREAMS: u64 = 200;
    const WATCHES: u64 = 10 * STREAMS;
    /// Those that gathered while the first question was on its way, and what the relay asks for itself meanwhile.
    const QUESTIONS_MAX: u64 = STREAMS / 4;
    let etcd = Peer::start(PeerKind::Etcd).await;
    let wire = Wire::to(etcd.endpoint()).await;
    let relay = Relay::before(&[wire.endpoint()]).await;
    let client = relay.connect().await;
    let mut first = client.watch();
    first.created(on("a")).await;
    let before = calls_begun(etcd.endpoint(), "Range").await;
    wire.stall();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let stream = client.watch();
        stream.create(on("a"));
        streams.push(stream);
    }
    // All of them have come once one has that came after them.
    client
        .watch()
        .rejected(WatchCreateRequest {
            start_revision: -1,
            ..on("b")
        })
        .await;
    wire.open();
    for mut stream in streams {
        assert!(stream.next().await.created);
    }
    let asked = calls_begun(etcd.endpoint(), "Range").await - before;
    assert!(asked < QUESTIONS_MAX, "{asked} for {STREAMS}");

    // One client that asks for many pays for few too.
    let before = calls_begun(etcd.endpoint(), "Range").await;
    let mut many = client.watch();
    for _ in 0..WATCHES {
        many.create(on("a"));
    }
    for _ in 0..WATCHES {
        assert!(many.next().await.created);
    }
    let asked = calls_begun(etcd.endpoint(), "Range").await - before;
    assert!(asked < QUESTIONS_MAX, "{asked} for {WATCHES}");
}

#[tokio::test]
async fn a_late_watch_of_one_key_costs_the_cluster_that_key() {
    const KEYS: i32 = 200;
    const VALUE_BYTES: u16 = 10_000;
    let cluster = Cluster::start().await;
    let relay = Relay::before(&cluster.endpoints()).await;
    let client = relay.connect().await;
    let mut all = client.watch();
    all.created(on_prefix("/r/")).await;
    for number in 0..KEYS {
        client
            .put(
                format!("/r/{number:03}"),
                vec![b'v'; usize::from(VALUE_BYTES)],
            )
            .await;
    }
    all.read_through(|| Some(1 + i64::from(KEYS))).await;
    // The relay's memory begins anew, behind all of that.
    let mut wider = client.watch();
    wider.created(on_prefix("/")).await;
    let sent = async || {
        let mut sent = 0.0;
        for member in cluster.endpoints() {
            let name = "etcd_network_client_grpc_sent_bytes_total";
            sent += metric::<f64>(member, name).await;
        }
        sent
    };
    let before = sent().await;
    for number in [7, 77, 177] {
        let mut late = client.watch();
        let mut create = on(format!("/r/{number:03}"));
        create.start_revision = 1;
        late.created(create).await;
        let response = late.next_events().await;
        assert_eq!(response.events.len(), 1, "{response:?}");
    }
    let cost = sent().await - before;
    let of_all = f64::from(KEYS) * f64::from(VALUE_BYTES);
    assert!(cost < of_all / 4.0, "{cost} bytes of {of_all}");
}
