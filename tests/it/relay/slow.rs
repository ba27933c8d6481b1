//! A client that does not read, and a cluster that does not, harm nobody: not the calls beside theirs, and not the relay's
//! memory.

use crate::support::pb::maintenance_client::MaintenanceClient;
use crate::support::pb::{PutRequest, SnapshotRequest};
use crate::support::requests::get;
use crate::support::{Client, Peer, PeerKind, Relay, Wire, within};
use bytes::Bytes;
use futures_util::future::join_all;
use tonic::Code;

/// Clients that stop reading.
const READERS: usize = 24;
/// What is in the store, in keys of a MiB each.
const KEYS: usize = 24;
/// What one of them may pin: what the relay's upstream may send ahead on a call, and what waits for the client's socket.
const BYTES_PER_READER_MAX: u64 = 3 << 20;
/// Clients that write to a cluster which has stopped reading.
const WRITERS: usize = 8;
/// What each of them writes.
const VALUE_BYTES: usize = 24 << 20;
/// What one of them may pin: what it may send ahead, and what is on its way to the cluster.
const BYTES_PER_WRITER_MAX: u64 = 3 << 20;

#[tokio::test]
async fn snapshots_that_nobody_reads_hold_nothing_up() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    for n in 0..KEYS {
        etcd.client()
            .put(format!("k{n}"), vec![b'v'; 1 << 20])
            .await;
    }
    let mut relay = Relay::before(&[etcd.endpoint()]).await;
    let client = relay.connect().await;
    client.put("a", "1").await;
    let before = relay.process().resident_bytes();
    let mut unread = Vec::new();
    for _ in 0..READERS {
        let reader = Client::connect(relay.endpoint()).await.unwrap();
        let mut snapshots = MaintenanceClient::new(reader.channel());
        let stream = snapshots.snapshot(SnapshotRequest {});
        let mut stream = within("a head", stream).await.unwrap().into_inner();
        let first = within("a part", stream.message()).await.unwrap().unwrap();
        assert!(first.remaining_bytes > 0);
        unread.push((reader, stream));
    }
    for n in 0..100 {
        client.put("a", format!("{n}")).await;
    }
    assert_eq!(client.range(get("a")).await.unwrap().kvs[0].value, "99");
    let grown = relay.process().resident_bytes().saturating_sub(before);
    let allowed = READERS as u64 * BYTES_PER_READER_MAX;
    assert!(grown < allowed, "{grown} of {allowed}");

    // One that reads gets all of it, whatever the others do.
    let mut snapshots = MaintenanceClient::new(client.channel());
    let whole = snapshots.snapshot(SnapshotRequest {});
    let mut whole = within("a head", whole).await.unwrap().into_inner();
    let (mut bytes, mut left) = (0, u64::MAX);
    while let Some(part) = within("a part", whole.message()).await.unwrap() {
        bytes += part.blob.len();
        left = part.remaining_bytes;
    }
    assert_eq!(left, 0);
    assert!(bytes > KEYS << 20, "{bytes}");
}

// What is passed on has no bound here but the cluster's, and so it must not be kept.
#[tokio::test]
async fn large_writes_that_the_cluster_does_not_take_are_not_kept() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let wire = Wire::to(etcd.endpoint()).await;
    let mut relay = Relay::before(&[wire.endpoint()]).await;
    relay.connect().await.put("a", "1").await;
    let before = relay.process().resident_bytes_peak();
    wire.stall();
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let mut clients = Vec::new();
    for _ in 0..WRITERS {
        clients.push(relay.connect().await);
    }
    let put = PutRequest {
        key: "a".into(),
        value,
        ..PutRequest::default()
    };
    // They end when the relay takes the cluster's silence for its end.
    let ended = join_all(clients.iter().map(|client| client.try_put(put.clone()))).await;
    for ended in ended {
        assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    }
    let grown = relay.process().resident_bytes_peak() - before;
    let allowed = WRITERS as u64 * BYTES_PER_WRITER_MAX;
    assert!(grown < allowed, "{grown} of {allowed}");
}
