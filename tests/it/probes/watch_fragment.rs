//! Responses that are larger than a message should be: who gets them in pieces, and where they are cut.
//!
//! Sizes are those of the encoded responses.

use crate::support::pb::{WatchCreateRequest, WatchResponse};
use crate::support::requests::{on_prefix, prefix_end};
use crate::support::stream::revisions_in;
use crate::support::{History, Peer, PeerKind, Validator};
use bytes::Bytes;
use prost::Message;

/// From this size on a response is cut, if its watch has asked for it.
const CUT_BYTES: usize = 2 << 20;
/// Three of these fit into a message; four do not.
const VALUE_BYTES: usize = 600 << 10;
const VALUES: i64 = 4;

async fn put_large(peer: &Peer, history: &History) {
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    for number in 0..VALUES {
        let key = format!("large/{number}");
        history.put(&peer.client(), key, value.clone()).await;
    }
}

/// A delete of large values is one revision, and with the previous values it is a large one.
pub(super) async fn p28_a_large_response_is_cut_only_for_those_who_asked(peer: &Peer) {
    let history = History::default();
    put_large(peer, &history).await;
    let create = |fragment| WatchCreateRequest {
        prev_kv: true,
        fragment,
        start_revision: history.last() + 1,
        ..on_prefix("large/")
    };
    let (asking, not_asking) = (create(true), create(false));
    let (mut cut, mut whole) = (peer.watch(), peer.watch());
    let mut cut_log = vec![cut.created(asking.clone()).await];
    let mut whole_log = vec![whole.created(not_asking.clone()).await];
    history
        .delete(&peer.client(), "large/", prefix_end("large/"))
        .await;

    let response = whole.next_events().await;
    assert!(!response.fragment && response.encoded_len() > CUT_BYTES);
    assert_eq!(response.events.len(), 4);
    whole_log.push(response);

    let fragments = cut.events(4).await;
    assert!(fragments.len() > 1, "more than one piece");
    for (index, fragment) in fragments.iter().enumerate() {
        assert_eq!(
            fragment.fragment,
            index + 1 < fragments.len(),
            "true on all but the last"
        );
        assert!(
            fragment.encoded_len() < CUT_BYTES,
            "{} bytes",
            fragment.encoded_len()
        );
    }
    cut_log.extend(fragments);

    let replay = history.replay();
    for (log, create) in [(cut_log, asking), (whole_log, not_asking)] {
        let mut validator = Validator::new(peer.kind(), &replay, [(0, create)]);
        validator.check_all(&log).expect("the pieces are the whole");
        validator.complete(history.last()).expect("all of it");
    }
}

/// etcd bounds a response from history by revisions alone. Vigil bounds it by bytes too, and cuts between revisions, so
/// that a client that takes no large messages can still catch up.
pub(super) async fn p50_a_backlog_of_large_values_is_one_response_or_bounded_ones(peer: &Peer) {
    let history = History::default();
    put_large(peer, &history).await;
    let create = WatchCreateRequest {
        start_revision: 1,
        ..on_prefix("large/")
    };
    let mut stream = peer.watch();
    let mut log = vec![stream.created(create.clone()).await];
    let responses: Vec<WatchResponse> = stream.events(4).await;
    match peer.kind() {
        PeerKind::Etcd => {
            assert_eq!(responses.len(), 1);
            assert!(responses[0].encoded_len() > CUT_BYTES);
        }
        PeerKind::Vigil => {
            assert!(responses.len() > 1, "more than one response");
            for response in &responses {
                assert!(!response.fragment, "each stands for itself");
                assert!(response.encoded_len() <= CUT_BYTES || revisions_in(response).len() == 1);
            }
        }
    }
    log.extend(responses);
    let replay = history.replay();
    let mut validator = Validator::new(peer.kind(), &replay, [(0, create)]);
    validator
        .check_all(&log)
        .expect("what was written is what was told");
    validator.complete(history.last()).expect("all of it");
}
