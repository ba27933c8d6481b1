//! Responses that a client cannot take.
//!
//! The client here takes messages of 4 MiB, which is what gRPC's clients take unless they are told otherwise.

use crate::support::pb::watch_client::WatchClient;
use crate::support::pb::watch_request::RequestUnion;
use crate::support::pb::{WatchCreateRequest, WatchRequest, WatchResponse};
use crate::support::requests::{on_prefix, op_put};
use crate::support::stream::revisions_in;
use crate::support::wait::within;
use crate::support::{History, Peer, PeerKind, Validator, on_both_peers};
use bytes::Bytes;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::{Code, Status};

on_both_peers! {
    etcd_19441_a_client_with_the_usual_limit_catches_up_without_fragments
}

const MESSAGE_BYTES_MAX: usize = 4 << 20;
const TRANSACTIONS: usize = 4;
const KEYS: usize = 12;
const VALUE_BYTES: usize = 100 << 10;

/// Reads a watch from the beginning, with messages of 4 MiB at most, until all was told or the stream breaks.
async fn read_with_the_usual_limit(
    peer: &Peer,
    create: WatchCreateRequest,
) -> Result<Vec<WatchResponse>, Status> {
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let requests = tokio_stream::iter([request]).chain(tokio_stream::pending());
    let mut client =
        WatchClient::new(peer.client().channel()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut responses = client.watch(requests).await?.into_inner();
    let (mut log, mut events) = (Vec::new(), 0);
    while events < TRANSACTIONS * KEYS {
        let response = responses.message().await?.expect("the stream goes on");
        events += response.events.len();
        log.push(response);
    }
    Ok(log)
}

/// Four transactions of 1.2 MB each came to a late watch as one response of 4.8 MB, which its client refused, again and
/// again. etcd answers so to this day; here they would be one response if only revisions were counted, and not bytes.
async fn etcd_19441_a_client_with_the_usual_limit_catches_up_without_fragments(peer: Peer) {
    let (client, history) = (peer.client(), History::default());
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    for number in 0..TRANSACTIONS {
        let put = |key| op_put(format!("large/{number}/{key}"), value.clone());
        history.txn(&client, (0..KEYS).map(put).collect()).await;
    }
    let create = WatchCreateRequest {
        start_revision: 2,
        ..on_prefix("large/")
    };
    let reading = read_with_the_usual_limit(&peer, create.clone());
    let read = within("all events or the end", reading).await;
    match peer.kind() {
        PeerKind::Etcd => {
            let refused = read.expect_err("a message of 4.8 MB");
            assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
        }
        PeerKind::Vigil => {
            let log = read.expect("messages that the client takes");
            for response in &log {
                assert!(response.encoded_len() <= MESSAGE_BYTES_MAX);
                let mut revisions = revisions_in(response);
                let events = revisions.len();
                revisions.dedup();
                assert_eq!(events, KEYS * revisions.len(), "whole revisions");
            }
            let replay = history.replay();
            let mut validator = Validator::new(peer.kind(), &replay, [(0, create)]);
            validator.check_all(&log).expect("what was written");
            validator.complete(history.last()).expect("all of it");
        }
    }
}
