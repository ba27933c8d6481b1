//! One stream that stops reading, beside a hundred that do not: nobody waits for it, and it loses nothing.
//!
//! Memory is bounded and printed; nothing is measured in time.

use crate::support::pb::WatchCreateRequest;
use crate::support::requests::{on, on_prefix};
use crate::support::stream::WatchStream;
use crate::support::{Client, Peer, PeerKind};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::hash::{DefaultHasher, Hash, Hasher};
use tokio::task::JoinSet;

const PUTS: i64 = 20_000;
const READERS: usize = 100;
/// Streams share connections, as they do in clients.
const CONNECTIONS: usize = 10;
/// Watches on the stalled stream. Together they are owed some ten times what may be queued for a stream.
const STALLED_WATCHES: i64 = 8;
const VALUE_BYTES: usize = 200;
const WRITERS: usize = 64;
/// What the caches may take all told, and room to breathe.
const RESIDENT_BYTES_MAX: u64 = 256 << 20;

/// So many puts of this size fill what the store keeps in memory, so that from then on only a queue can grow.
const WARMING_PUTS: usize = 300;
const LARGE_PUTS: usize = 400;
const LARGE_BYTES: usize = 1 << 20;
/// Half of what the stalled stream is owed, and more than the store's memory wanders.
const GROWTH_BYTES_MAX: u64 = 200 << 20;

/// The sum of what one watch was told: order and content.
struct Told {
    next_revision: i64,
    hasher: DefaultHasher,
}

impl Told {
    fn from(next_revision: i64) -> Self {
        Self {
            next_revision,
            hasher: DefaultHasher::new(),
        }
    }

    /// Every put is one revision with one event, so the revisions have to count up by one.
    fn add(&mut self, response: &crate::support::pb::WatchResponse) {
        for event in &response.events {
            let kv = event.kv.as_ref().expect("a key");
            assert_eq!(kv.mod_revision, self.next_revision, "the next in order");
            self.next_revision += 1;
            (&kv.key, &kv.value).hash(&mut self.hasher);
        }
    }

    fn is_complete(&self, first: i64) -> bool {
        self.next_revision == first + PUTS
    }
}

async fn read_all(mut stream: WatchStream, first: i64) -> u64 {
    let mut told = Told::from(first);
    while !told.is_complete(first) {
        told.add(&stream.next_events().await);
    }
    told.hasher.finish()
}

async fn put_all(client: Client) {
    stream::iter(0..PUTS)
        .for_each_concurrent(WRITERS, |number| {
            let client = client.clone();
            async move {
                let mut value = vec![b'v'; VALUE_BYTES];
                value.extend_from_slice(number.to_string().as_bytes());
                client
                    .put(format!("k/{}", number % 100), Bytes::from(value))
                    .await;
            }
        })
        .await;
}

#[tokio::test]
async fn a_stream_that_stops_reading_costs_the_others_nothing_and_loses_nothing() {
    let mut peer = Peer::start(PeerKind::Vigil).await;
    let first = peer.client().revision().await + 1;
    let create = WatchCreateRequest {
        start_revision: first,
        ..on_prefix("k/")
    };
    let stalled_client = peer.connect().await;
    let mut stalled = stalled_client.watch();
    for id in 0..STALLED_WATCHES {
        assert_eq!(stalled.created(create.clone()).await.watch_id, id);
    }
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(peer.connect().await);
    }
    let mut readers = JoinSet::new();
    for client in clients.iter().cycle().take(READERS) {
        let mut stream = client.watch();
        stream.created(create.clone()).await;
        readers.spawn(read_all(stream, first));
    }
    let before = peer.process().resident_bytes();
    put_all(peer.client()).await;
    let sums: Vec<u64> = readers.join_all().await;
    assert!(
        sums.iter().all(|sum| *sum == sums[0]),
        "all were told the same"
    );
    let stalling = peer.process().resident_bytes();

    let mut told: Vec<Told> = (0..STALLED_WATCHES).map(|_| Told::from(first)).collect();
    while !told.iter().all(|told| told.is_complete(first)) {
        let response = stalled.next_events().await;
        let watch = usize::try_from(response.watch_id).expect("one of ours");
        told[watch].add(&response);
    }
    for told in told {
        assert_eq!(
            told.hasher.finish(),
            sums[0],
            "the stalled one was told the same"
        );
    }
    let peak = peer.process().resident_bytes_peak();
    eprintln!(
        "resident MiB: {} before, {} with one stream stalled for {PUTS} puts, {} at most",
        mib(before),
        mib(stalling),
        mib(peak)
    );
    assert!(peak < RESIDENT_BYTES_MAX, "{} MiB", mib(peak));
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

async fn put_large(client: &Client, count: usize) {
    let value = Bytes::from(vec![b'v'; LARGE_BYTES]);
    for _ in 0..count {
        client.put("large", value.clone()).await;
    }
}

/// That it gets everything all the same is asked by the probe of backpressure.
#[tokio::test]
async fn what_a_stalled_stream_is_owed_is_not_kept_in_memory() {
    let mut peer = Peer::start(PeerKind::Vigil).await;
    let client = peer.client();
    put_large(&client, WARMING_PUTS).await;
    let stalled_client = peer.connect().await;
    let mut stalled = stalled_client.watch();
    stalled.created(on("large")).await;
    let warm = peer.process().resident_bytes();
    put_large(&client, LARGE_PUTS).await;
    let stalling = peer.process().resident_bytes();
    eprintln!(
        "resident MiB: {} warm, {} while a stream is owed {}",
        mib(warm),
        mib(stalling),
        mib((LARGE_PUTS * LARGE_BYTES) as u64)
    );
    let growth = stalling.saturating_sub(warm);
    assert!(growth < GROWTH_BYTES_MAX, "{} MiB more", mib(growth));
}
