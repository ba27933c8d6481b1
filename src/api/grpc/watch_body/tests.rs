//! The body of a watch stream, item by item: what is cut, where, and how it ends.

use super::*;
use crate::backend::{Outbox, OutboxLimits, StreamEnd};
use crate::model::{EventKind, KeyValue};
use http_body_util::BodyExt;
use prost::Message;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

const FRAGMENT_BYTES: usize = 1000;

fn stream() -> (Arc<Outbox>, WatchBody, tokio::sync::oneshot::Sender<Status>) {
    let outbox = Arc::new(Outbox::new(OutboxLimits::default()));
    let reader = OutboxReader::detached(Arc::clone(&outbox));
    let identity = Identity {
        cluster_id: 1,
        member_id: 2,
        raft_term: 3,
    };
    let (conductor, end) = Conductor::scripted();
    let body = WatchBody::new(reader, conductor, move || identity, FRAGMENT_BYTES);
    (outbox, body, end)
}

async fn send(outbox: &Arc<Outbox>, watch_id: i64, values: &[usize]) {
    let events = values.iter().map(|bytes| {
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            mod_revision: Revision(5),
            value: vec![b'v'; *bytes].into(),
            ..KeyValue::default()
        };
        Arc::new(Event::new(EventKind::Put, kv))
    });
    let batch = Arc::new(Batch::new(events.collect(), false).unwrap());
    let room = Arc::clone(outbox).room(Arc::clone(&batch)).await.unwrap();
    outbox.push(StreamItem::Events {
        watch_id: WatchId(watch_id),
        batch,
        fragment: true,
        room,
    });
}

fn progress(watch_id: i64) -> StreamItem {
    StreamItem::Progress {
        watch_id: WatchId(watch_id),
        revision: Revision(5),
    }
}

/// Reads what there is, without waiting for more.
fn drain(body: &mut WatchBody) -> (Vec<WatchResponse>, Option<HeaderMap>) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut wire = Vec::new();
    let mut trailers = None;
    while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *body).poll_frame(&mut cx) {
        match frame.into_data() {
            Ok(data) => wire.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let mut responses = Vec::new();
    let mut rest = &wire[..];
    while let [0, a, b, c, d, after @ ..] = rest {
        let (message, next) = after.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        responses.push(WatchResponse::decode(message).unwrap());
        rest = next;
    }
    assert!(rest.is_empty());
    (responses, trailers)
}

#[tokio::test]
async fn p3_nothing_comes_between_the_fragments_of_one_response() {
    let (outbox, mut body, _end) = stream();
    outbox.push(progress(1));
    send(&outbox, 7, &[300; 7]).await;
    outbox.push(progress(2));
    send(&outbox, 8, &[10; 3]).await;
    let (responses, _) = drain(&mut body);
    let shape: Vec<_> = responses
        .iter()
        .map(|response| (response.watch_id, response.events.len(), response.fragment))
        .collect();
    let train = [(7, 3, true), (7, 3, true), (7, 1, false)];
    assert_eq!(
        shape,
        [
            &[(1, 0, false)],
            &train[..],
            &[(2, 0, false), (8, 3, false)]
        ]
        .concat()
    );
    for response in &responses {
        assert!(response.encoded_len() < FRAGMENT_BYTES);
        assert_eq!(response.header.unwrap().revision, 5);
    }
}

#[tokio::test]
async fn p3_an_event_too_large_for_a_fragment_is_one_of_its_own() {
    let (outbox, mut body, _end) = stream();
    send(&outbox, 7, &[10, 5000, 10]).await;
    let (responses, _) = drain(&mut body);
    let shape: Vec<_> = responses
        .iter()
        .map(|r| (r.events.len(), r.fragment))
        .collect();
    assert_eq!(shape, [(1, true), (1, true), (1, false)]);
}

#[tokio::test]
async fn a_train_is_cut_as_it_is_read_and_gives_its_room_back_at_its_end() {
    let (outbox, mut body, _end) = stream();
    // 40 events of 30 KB: more than the outbox holds, so that it is full.
    send(&outbox, 7, &[30_000; 40]).await;
    let small = Arc::new(
        Batch::new(
            vec![Arc::new(Event::new(EventKind::Put, KeyValue::default()))],
            false,
        )
        .unwrap(),
    );
    let first = body.frame().await.unwrap().unwrap();
    assert!(
        first.into_data().unwrap().len() < 100,
        "the head of the first fragment"
    );
    let second = body.frame().await.unwrap().unwrap();
    assert!(second.into_data().unwrap().len() < 31_000);
    assert!(
        body.chunks.next_ready().is_none(),
        "the second fragment is not made yet"
    );
    assert!(outbox.try_room(&small).unwrap().is_none());
    drain(&mut body);
    assert!(outbox.try_room(&small).unwrap().is_some());
}

#[tokio::test]
async fn b2_the_room_of_many_items_is_given_back_with_the_piece_that_holds_them() {
    let (outbox, mut body, _end) = stream();
    let one = || vec![Arc::new(Event::new(EventKind::Put, KeyValue::default()))];
    let batch = Arc::new(Batch::new(one(), false).unwrap());
    let mut items = 0;
    while let Some(room) = outbox.try_room(&batch).unwrap() {
        outbox.push(StreamItem::Events {
            watch_id: WatchId(7),
            batch: Arc::clone(&batch),
            fragment: false,
            room,
        });
        items += 1;
    }
    assert!(body.frame().await.unwrap().unwrap().is_data());
    assert!(outbox.try_room(&batch).unwrap().is_some());
    // Pieces end where they are full, so what is left does not begin with a message.
    let mut cx = Context::from_waker(Waker::noop());
    while Pin::new(&mut body).poll_frame(&mut cx).is_ready() {}
    let rooms: Vec<_> = std::iter::from_fn(|| outbox.try_room(&batch).unwrap()).collect();
    assert!(rooms.len() >= items);
}

#[tokio::test]
async fn p6_the_end_comes_as_trailers_and_ends_the_outbox() {
    let (outbox, mut body, end) = stream();
    outbox.push(progress(1));
    end.send(status::stopped()).unwrap();
    let (responses, trailers) = drain(&mut body);
    assert!(responses.is_empty());
    assert_eq!(trailers.unwrap().get("grpc-status").unwrap(), "14");
    assert!(body.is_end_stream() && outbox.is_ended());
    let (outbox, mut body, _end) = stream();
    outbox.push(progress(1));
    let (responses, trailers) = drain(&mut body);
    assert_eq!((responses.len(), trailers), (1, None));
    outbox.end(StreamEnd::Unavailable("gone"));
    let (_, trailers) = drain(&mut body);
    assert_eq!(trailers.unwrap().get("grpc-message").unwrap(), "gone");
    // A reading side that died without a word.
    let (outbox, mut body, end) = stream();
    drop(end);
    let (_, trailers) = drain(&mut body);
    assert_eq!(trailers.unwrap().get("grpc-status").unwrap(), "14");
    assert!(outbox.is_ended());
}

#[tokio::test]
async fn dropping_the_body_ends_the_outbox_and_the_reading() {
    let (outbox, body, end) = stream();
    drop(body);
    assert!(outbox.is_ended());
    assert!(end.is_closed());
}

/// Events of one revision each, with values and previous values of so many bytes. The previous ones are looked up after
/// the batch was made, as they are for a watch that catches up.
async fn send_revisions(outbox: &Arc<Outbox>, values: &[usize], fragment: bool, late_prev: usize) {
    let mut revision = 4;
    let events: Vec<_> = values
        .iter()
        .map(|bytes| {
            revision += 1;
            let kv = KeyValue {
                key: Bytes::from_static(b"k"),
                mod_revision: Revision(revision),
                value: vec![b'v'; *bytes].into(),
                ..KeyValue::default()
            };
            Arc::new(Event::new(EventKind::Put, kv))
        })
        .collect();
    let batch = Arc::new(Batch::new(events, late_prev > 0).unwrap());
    for event in batch.events() {
        let value = vec![b'p'; late_prev].into();
        let prev = KeyValue {
            value,
            ..event.kv.clone()
        };
        event.set_prev((late_prev > 0).then(|| Arc::new(prev)));
    }
    let room = Arc::clone(outbox).room(Arc::clone(&batch)).await.unwrap();
    outbox.push(StreamItem::Events {
        watch_id: WatchId(7),
        batch,
        fragment,
        room,
    });
}

/// The responses' events, header revisions and fragment flags.
fn shape(responses: &[WatchResponse]) -> Vec<(usize, i64, bool)> {
    let shape = |r: &WatchResponse| (r.events.len(), r.header.unwrap().revision, r.fragment);
    responses.iter().map(shape).collect()
}

// A batch is cut by the bytes of its keys and values, which are less than what goes over the wire, and before the
// previous values of a late watch are known. So responses to watches without fragments could pass the 4 MiB that many
// clients take at most, though no revision was that large. The body cuts them too, between revisions.
#[tokio::test]
async fn a_response_without_fragments_stays_below_4_mib_unless_one_revision_is_larger() {
    const MIB: usize = 1 << 20;
    let (outbox, mut body, _end) = stream();
    send_revisions(&outbox, &[1; 6], false, MIB).await;
    let (responses, _) = drain(&mut body);
    assert_eq!(shape(&responses), [(3, 7, false), (3, 10, false)]);
    let limit = 4 * MIB;
    assert!(responses.iter().all(|r| r.encoded_len() < limit));
    // One revision above the limit goes alone and whole.
    send_revisions(&outbox, &[1, 5 * MIB, 1], false, 0).await;
    let (responses, _) = drain(&mut body);
    assert_eq!(
        shape(&responses),
        [(1, 5, false), (1, 6, false), (1, 7, false)]
    );
    // All of one revision is one response, however large.
    send(&outbox, 7, &[3 * MIB; 2]).await;
    let (responses, _) = drain(&mut body);
    assert_eq!(shape(&responses), [(1, 5, true), (1, 5, false)]);
    // What stays below is not touched.
    send_revisions(&outbox, &[MIB; 3], false, 0).await;
    let (responses, _) = drain(&mut body);
    assert_eq!(shape(&responses), [(3, 7, false)]);
}

#[tokio::test]
async fn headers_name_one_member_and_the_term_of_the_moment() {
    let outbox = Arc::new(Outbox::new(OutboxLimits::default()));
    let reader = OutboxReader::detached(Arc::clone(&outbox));
    let elections = Arc::new(AtomicU64::new(3));
    let (conductor, _end) = Conductor::scripted();
    let ask = {
        let elections = Arc::clone(&elections);
        move || Identity {
            cluster_id: 1,
            // Another member may be used after an election.
            member_id: elections.load(Ordering::Relaxed),
            raft_term: elections.load(Ordering::Relaxed),
        }
    };
    let mut body = WatchBody::new(reader, conductor, ask, FRAGMENT_BYTES);
    let mut said = Vec::new();
    for term in [3, 3, 5] {
        elections.store(term, Ordering::Relaxed);
        outbox.push(progress(7));
        let (responses, _) = drain(&mut body);
        let header = responses[0].header.unwrap();
        said.push((header.member_id, header.raft_term));
    }
    assert_eq!(said, [(3, 3), (3, 3), (3, 5)]);
}
