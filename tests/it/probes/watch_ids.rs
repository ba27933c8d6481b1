//! The ids of watches on one stream: who picks them, when they are taken and when they are free.
//!
//! The ids of compacted watches are in `watch_replay`, beside the compaction.

use crate::support::pb::{WatchCreateRequest, WatchResponse};
use crate::support::requests::on;
use crate::support::stream::{is_progress, revision_of};
use crate::support::{Peer, PeerKind};

fn with_id(watch_id: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        watch_id,
        ..on("a")
    }
}

pub(super) async fn p03_automatic_ids_count_from_zero(peer: &Peer) {
    let mut stream = peer.watch();
    for id in 0..3 {
        assert_eq!(stream.created(with_id(0)).await.watch_id, id);
    }
    // Ids belong to a stream.
    assert_eq!(peer.watch().created(with_id(0)).await.watch_id, 0);
}

pub(super) async fn p04_an_id_in_use_is_refused(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    assert_eq!(stream.created(with_id(7)).await.watch_id, 7);
    let refusal = stream.rejected(with_id(7)).await;
    assert_eq!(
        refusal.cancel_reason,
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
    // The one that has the id is not disturbed.
    client.put("a", "1").await;
    assert_eq!(stream.next_events().await.watch_id, 7);
}

pub(super) async fn p05_automatic_ids_pass_over_those_in_use(peer: &Peer) {
    let mut stream = peer.watch();
    for id in [1, 2, 4] {
        assert_eq!(stream.created(with_id(id)).await.watch_id, id);
    }
    for id in [0, 3, 5] {
        assert_eq!(stream.created(with_id(0)).await.watch_id, id);
    }
}

pub(super) async fn p07_cancelling_an_unknown_id_is_silent(peer: &Peer) {
    let mut stream = peer.watch();
    stream.created(on("a")).await;
    stream.cancel(99);
    stream.progress();
    let next = stream.next().await;
    assert!(is_progress(&next) && next.watch_id == -1, "{next:?}");
    assert_eq!(stream.fence().await, vec![]);
}

pub(super) async fn p08_cancelling_twice_is_answered_once(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    let cancelled = stream.created(on("a")).await.watch_id;
    let kept = stream.created(on("a")).await.watch_id;
    stream.cancel(cancelled);
    stream.cancel(cancelled);
    let answers = stream.fence().await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    let answer = &answers[0];
    assert_eq!(answer.watch_id, cancelled);
    assert!(answer.canceled && !answer.created && answer.events.is_empty());
    assert_eq!(
        (answer.cancel_reason.as_str(), answer.compact_revision),
        ("", 0)
    );
    assert_eq!(revision_of(answer), 1, "the current revision");
    client.put("a", "1").await;
    assert_eq!(stream.next_events().await.watch_id, kept);
}

/// etcd takes any negative id; on -1 the client can no longer tell its watch from the stream. Vigil refuses them.
pub(super) async fn p48_a_negative_id_is_not_for_clients(peer: &Peer) {
    let mut stream = peer.watch();
    for id in [-1, -2] {
        match peer.kind() {
            PeerKind::Etcd => assert_eq!(stream.created(with_id(id)).await.watch_id, id),
            PeerKind::Vigil => {
                let refusal = stream.rejected(with_id(id)).await;
                assert_ne!(refusal.cancel_reason, "", "clients go by the reason");
            }
        }
    }
    assert_eq!(stream.created(with_id(0)).await.watch_id, 0);
}

pub(super) async fn p49_a_cancelled_id_can_be_taken_again(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    for round in 0..3 {
        assert_eq!(stream.created(with_id(5)).await.watch_id, 5);
        let revision = client.put("a", format!("{round}")).await;
        let response = stream.next_events().await;
        assert_eq!((response.watch_id, revision_of(&response)), (5, revision));
        stream.cancel(5);
        let answer: WatchResponse = stream.next().await;
        assert!(answer.canceled && answer.watch_id == 5, "{answer:?}");
    }
}
