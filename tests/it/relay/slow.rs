//! A client that does not read harms nobody: not the calls beside its own, and not the relay's memory.

use crate::support::pb::SnapshotRequest;
use crate::support::pb::maintenance_client::MaintenanceClient;
use crate::support::requests::get;
use crate::support::{Client, Peer, PeerKind, Relay, within};

/// Clients that stop reading.
const READERS: usize = 24;
/// What is in the store, in keys of a MiB each.
const KEYS: usize = 24;
/// What one of them may pin: what the relay's upstream may send ahead on a call, and what waits for the client's socket.
const BYTES_PER_READER_MAX: u64 = 3 << 20;

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
