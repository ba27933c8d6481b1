//! Progress that claims what was not sent, and clients that believe it.
//!
//! The client here keeps its place as common ones do: behind the last event, or behind a response without events.

use crate::support::pb::{WatchCreateRequest, WatchResponse};
use crate::support::requests::on;
use crate::support::stream::{is_progress, revision_of, revisions_in};
use crate::support::{History, Peer, Validator, on_both_peers};
use bytes::Bytes;
use std::collections::VecDeque;

on_both_peers! {
    etcd_15220_progress_is_in_line_with_the_events_of_its_stream
    etcd_20221_a_watch_of_the_future_hears_of_nothing_before_it
}

/// More than the connection and the server's queue for the stream take: events wait on the server.
const LARGE: usize = 120;
const LARGE_BYTES: usize = 128 << 10;

/// The answer to a request for progress went past events that were already queued. Here the client asks before and after
/// each write and reads nothing until all are written, so that the answers have every occasion to pass.
async fn etcd_15220_progress_is_in_line_with_the_events_of_its_stream(peer: Peer) {
    let (client, history) = (peer.connect().await, History::default());
    let mut stream = peer.watch();
    let mut log = vec![stream.created(on("foo")).await];
    for letter in (b'a'..=b'z').cycle().take(LARGE) {
        stream.progress();
        let value = Bytes::from(vec![letter; LARGE_BYTES]);
        history.put(&client, "foo", value).await;
        stream.progress();
    }
    log.extend(stream.read_through(|| Some(history.last())).await);
    let replay = history.replay();
    let mut validator = Validator::new(peer.kind(), &replay, [(0, on("foo"))]);
    validator.check_all(&log).expect("events, then progress");
    validator.complete(history.last()).expect("all of it");
}

const AHEAD: i64 = 60;

/// Where a client goes on after this response.
pub(super) fn place_after(response: &WatchResponse, place: i64) -> i64 {
    match revisions_in(response).last() {
        Some(last) => last + 1,
        None if is_progress(response) => revision_of(response) + 1,
        None => place,
    }
}

/// A watch of a future revision was told of progress below it; its client moved its place back, came again after a broken
/// connection, and was given events older than it had asked for. Here the client reconnects every few writes until its
/// revision has come.
async fn etcd_20221_a_watch_of_the_future_hears_of_nothing_before_it(peer: Peer) {
    let (client, history) = (peer.client(), History::default());
    history.puts(&client, "k", 20).await;
    let start = history.last() + AHEAD;
    let (mut place, mut seen) = (start, Vec::new());
    for round in 0..10 {
        let connection = peer.connect().await;
        let mut stream = connection.watch();
        let create = WatchCreateRequest {
            start_revision: place,
            progress_notify: true,
            ..on("k")
        };
        stream.created(create).await;
        for _ in 0..10 {
            stream.progress();
            history.put(&client, "k", format!("{round}")).await;
        }
        stream.progress();
        // Whatever has been said by now: a fence says no more than is there. Then all that is owed.
        let mut responses = VecDeque::from(stream.fence().await);
        while place <= history.last() || !responses.is_empty() {
            let response = match responses.pop_front() {
                Some(response) => response,
                None => stream.next().await,
            };
            assert!(
                revision_of(&response) >= start,
                "before the start {start}: {response:?}"
            );
            place = place_after(&response, place);
            seen.extend(revisions_in(&response));
        }
    }
    assert!(history.last() > start + AHEAD / 2);
    let expected: Vec<i64> = (start..=history.last()).collect();
    assert_eq!(seen, expected, "from the start on, once");
}
