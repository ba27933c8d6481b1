//! Creating watches: which requests are taken, which are refused, and what is read into odd ones.
//!
//! It asks nothing about history; `watch_replay` does.

use crate::support::mvccpb::Event;
use crate::support::pb::{DeleteRangeRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use crate::support::requests::{OPEN, on, on_everything, on_prefix};
use crate::support::stream::{is_progress, revision_of};
use crate::support::{Peer, mvccpb::event::EventType};

fn key_of(event: &Event) -> &[u8] {
    &event.kv.as_ref().expect("an event has a key").key
}

fn only_event(response: &WatchResponse) -> &Event {
    assert_eq!(response.events.len(), 1, "one event: {response:?}");
    &response.events[0]
}

pub(super) async fn p01_an_empty_key_with_an_open_end_is_every_key(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    let everything = WatchCreateRequest {
        range_end: OPEN.into(),
        ..on("")
    };
    stream.created(everything).await;
    for key in [&b"\0"[..], b"a", b"\xff\xff"] {
        client.put(key, "v").await;
        let response = stream.next_events().await;
        assert_eq!(key_of(only_event(&response)), key);
    }
}

pub(super) async fn p02_a_range_that_ends_where_it_starts_is_refused(peer: &Peer) {
    let mut stream = peer.watch();
    for (key, range_end) in [("b", "b"), ("b", "a")] {
        let empty = WatchCreateRequest {
            range_end: range_end.into(),
            ..on(key)
        };
        let refusal = stream.rejected(empty).await;
        assert_eq!(refusal.cancel_reason, "mvcc: watcher range is empty");
        assert_eq!(revision_of(&refusal), 1, "the current revision");
    }
    // The stream lives on, and no id was used up.
    assert_eq!(stream.created(on("b")).await.watch_id, 0);
}

pub(super) async fn p06_a_negative_start_is_refused(peer: &Peer) {
    let mut stream = peer.watch();
    for start_revision in [-1, -7, i64::MIN] {
        let refusal = stream
            .rejected(WatchCreateRequest {
                start_revision,
                ..on("a")
            })
            .await;
        assert_eq!(
            refusal.cancel_reason,
            "etcdserver: mvcc: required revision has been compacted"
        );
    }
    assert_eq!(stream.created(on("a")).await.watch_id, 0);
}

pub(super) async fn p09_a_half_closed_stream_still_gets_events(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    stream.created(on("a")).await;
    stream.half_close();
    for value in ["1", "2", "3"] {
        client.put("a", value).await;
        let response = stream.next_events().await;
        let kv = only_event(&response).kv.clone().expect("a key");
        assert_eq!(kv.value, value);
    }
}

pub(super) async fn p10_a_request_that_asks_for_nothing_is_ignored(peer: &Peer) {
    let mut stream = peer.watch();
    stream.send(WatchRequest {
        request_union: None,
    });
    assert_eq!(stream.created(on("a")).await.watch_id, 0);
    stream.send(WatchRequest {
        request_union: None,
    });
    assert_eq!(stream.fence().await, vec![]);
}

pub(super) async fn p11_an_unknown_filter_is_no_filter(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    stream
        .created(WatchCreateRequest {
            filters: vec![9],
            ..on("a")
        })
        .await;
    client.put("a", "1").await;
    client.delete("a", "").await;
    let kinds: Vec<i32> = stream
        .events(2)
        .await
        .iter()
        .flat_map(|response| response.events.iter().map(|event| event.r#type))
        .collect();
    assert_eq!(kinds, [EventType::Put as i32, EventType::Delete as i32]);
}

pub(super) async fn p12_both_filters_leave_progress_alone(peer: &Peer) {
    let (client, mut stream) = (peer.client(), peer.watch());
    let no_puts_and_no_deletes = WatchCreateRequest {
        filters: vec![0, 1],
        ..on_everything()
    };
    let deaf = stream.created(no_puts_and_no_deletes).await.watch_id;
    let listening = stream.created(on_prefix("a")).await.watch_id;
    client.put("a", "1").await;
    let request = DeleteRangeRequest {
        key: "a".into(),
        ..DeleteRangeRequest::default()
    };
    let deleted = client.try_delete(request).await.expect("a delete");
    let revision = deleted.header.expect("a header").revision;
    for response in stream.events(2).await {
        assert_eq!(response.watch_id, listening, "never {deaf}");
    }
    stream.progress();
    let progress = stream.next().await;
    assert!(is_progress(&progress), "{progress:?}");
    assert_eq!((progress.watch_id, revision_of(&progress)), (-1, revision));
}
