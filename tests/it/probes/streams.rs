//! Streams and calls as such: metadata, ends, and messages that are too large.
//!
//! Streams that are not read are in `backpressure`.

use crate::support::pb::PutRequest;
use crate::support::requests::on;
use crate::support::{Peer, WatchStream};
use bytes::Bytes;
use tonic::Code;
use tonic::metadata::{MetadataMap, MetadataValue};

pub(super) async fn p43_a_stream_may_ask_for_a_leader(peer: &Peer) {
    let client = peer.client();
    let mut metadata = MetadataMap::new();
    metadata.insert("hasleader", MetadataValue::from_static("true"));
    let mut stream = WatchStream::open_with(client.channel(), metadata);
    let id = stream.created(on("a")).await.watch_id;
    client.put("a", "1").await;
    assert_eq!(stream.next_events().await.watch_id, id);
}

/// The status of a stream that its client has dropped never reaches that client; what can be seen is that everyone else
/// on the connection goes on, also when events for the dropped one are on their way.
pub(super) async fn p44_a_stream_that_its_client_drops_leaves_the_others_alone(peer: &Peer) {
    let client = peer.client();
    let mut kept = client.watch();
    kept.created(on("a")).await;
    for round in 0..20 {
        let mut dropped = client.watch();
        dropped.created(on("a")).await;
        let revision = client.put("a", format!("{round}")).await;
        drop(dropped);
        let response = kept.next_events().await;
        let kv = response.events[0].kv.clone().expect("a key");
        assert_eq!(kv.mod_revision, revision);
    }
}

pub(super) async fn p45_a_request_can_be_too_large_in_two_ways(peer: &Peer) {
    let client = peer.client();
    let put = async |bytes: usize| {
        let request = PutRequest {
            key: "a".into(),
            value: Bytes::from(vec![b'v'; bytes]),
            ..PutRequest::default()
        };
        client.try_put(request).await
    };
    // Too large for the store.
    let refused = put(1_600_000).await.expect_err("above 1.5 MiB");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "etcdserver: request is too large");
    // Too large to be read at all.
    let refused = put(2_200_000).await.expect_err("above 2 MiB");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused
            .message()
            .starts_with("grpc: received message larger than max"),
        "{}",
        refused.message()
    );
    put(1_500_000).await.expect("below 1.5 MiB");
    assert_eq!(client.revision().await, 2, "only the last put was made");
}
