//! Watch streams, as a client sees them.
//!
//! The test plays the watchers: it puts items into the stream's outbox itself.

use super::fake::{Fake, IDENTITY};
use super::{endpoint, eventually, run, serve, watch};
use crate::api::pb::etcdserverpb as pb;
use crate::api::pb::etcdserverpb::watch_request::RequestUnion;
use crate::backend::{Batch, Outbox, StreamEnd, StreamItem, WatchRejection};
use crate::model::{Event, EventKind, KeyValue, Revision, WatchId};
use crate::server::{Server, ServerLimits};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::{Code, Request, Status, Streaming};

/// Both ends of an open stream.
struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl Stream {
    async fn open(server: &Server) -> Self {
        Self::over(watch(server).await).await
    }

    async fn over(client: pb::watch_client::WatchClient<tonic::transport::Channel>) -> Self {
        Self::try_over(client, &[]).await.unwrap()
    }

    /// A stream with metadata, if it is let in.
    async fn with(server: &Server, metadata: &[(&'static str, &str)]) -> Result<Self, Status> {
        Self::try_over(watch(server).await, metadata).await
    }

    async fn try_over(
        mut client: pb::watch_client::WatchClient<tonic::transport::Channel>,
        metadata: &[(&'static str, &str)],
    ) -> Result<Self, Status> {
        let (requests, mut queued) = mpsc::channel(64);
        let outgoing = futures_util::stream::poll_fn(move |cx| queued.poll_recv(cx));
        let mut call = Request::new(outgoing);
        for (name, value) in metadata {
            call.metadata_mut().append(*name, value.parse().unwrap());
        }
        let responses = client.watch(call).await?.into_inner();
        Ok(Self {
            requests,
            responses,
        })
    }

    async fn ask(&self, union: Option<RequestUnion>) {
        let request = pb::WatchRequest {
            request_union: union,
        };
        self.requests.send(request).await.unwrap();
    }

    async fn create(&self, watch_id: i64) {
        let create = pb::WatchCreateRequest {
            key: Bytes::from_static(b"k"),
            watch_id,
            ..pb::WatchCreateRequest::default()
        };
        self.ask(Some(RequestUnion::CreateRequest(create))).await;
    }

    async fn next(&mut self) -> pb::WatchResponse {
        self.responses.message().await.unwrap().expect("a response")
    }
}

fn event(revision: i64, value: impl Into<Bytes>) -> Arc<Event> {
    let kv = KeyValue {
        key: Bytes::from_static(b"k"),
        create_revision: Revision(2),
        mod_revision: Revision(revision),
        version: revision - 1,
        value: value.into(),
        ..KeyValue::default()
    };
    Arc::new(Event::new(EventKind::Put, kv))
}

fn batch(events: Vec<Arc<Event>>) -> Arc<Batch> {
    Arc::new(Batch::new(events, false).unwrap())
}

async fn send(outbox: &Arc<Outbox>, watch_id: i64, batch: &Arc<Batch>, fragment: bool) {
    let room = Arc::clone(outbox).room(Arc::clone(batch)).await.unwrap();
    outbox.push(StreamItem::Events {
        watch_id: WatchId(watch_id),
        batch: Arc::clone(batch),
        fragment,
        room,
    });
}

#[test]
fn p4_every_response_carries_its_own_revision_and_a_compacted_one_none() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut stream = Stream::open(&server).await;
        stream.create(7).await;
        let created = stream.next().await;
        let header = created.header.unwrap();
        assert_eq!(
            (header.cluster_id, header.member_id),
            (IDENTITY.cluster_id, IDENTITY.member_id)
        );
        assert_eq!((header.raft_term, header.revision), (IDENTITY.raft_term, 1));
        assert!(created.created && !created.canceled && created.watch_id == 7);
        let outbox = fake.outbox();
        let sent = batch(vec![event(3, "a"), event(3, "b"), event(4, "c")]);
        send(&outbox, 7, &sent, false).await;
        let events = stream.next().await;
        assert_eq!((events.watch_id, events.header.unwrap().revision), (7, 4));
        let values: Vec<_> = events
            .events
            .iter()
            .map(|event| &event.kv.as_ref().unwrap().value[..])
            .collect();
        assert_eq!(values, [b"a", b"b", b"c"]);
        stream
            .ask(Some(RequestUnion::ProgressRequest(
                pb::WatchProgressRequest {},
            )))
            .await;
        let progress = stream.next().await;
        assert_eq!(
            (progress.watch_id, progress.header.unwrap().revision),
            (-1, 1)
        );
        assert!(progress.events.is_empty() && !progress.created && !progress.canceled);
        outbox.push(StreamItem::Compacted {
            watch_id: WatchId(7),
            compact_revision: Revision(9),
        });
        let compacted = stream.next().await;
        assert_eq!(
            (
                compacted.compact_revision,
                compacted.header.unwrap().revision
            ),
            (9, 0)
        );
        assert!(compacted.canceled && compacted.cancel_reason.is_empty());
        outbox.push(StreamItem::Rejected {
            revision: Revision(5),
            reason: WatchRejection::EmptyRange,
        });
        let rejected = stream.next().await;
        assert!(rejected.created && rejected.canceled);
        assert_eq!(
            (rejected.watch_id, rejected.header.unwrap().revision),
            (-1, 5)
        );
        assert_eq!(rejected.cancel_reason, "mvcc: watcher range is empty");
        let cancel = pb::WatchCancelRequest { watch_id: 7 };
        stream.ask(Some(RequestUnion::CancelRequest(cancel))).await;
        let canceled = stream.next().await;
        assert!(canceled.canceled && !canceled.created && canceled.cancel_reason.is_empty());
        assert_eq!((canceled.watch_id, canceled.compact_revision), (7, 0));
    });
}

// Clients match on the text, and give up on what they watch instead of trying again.
#[test]
fn who_asks_for_a_leader_is_told_when_there_is_none_and_nobody_else() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let asks = [("hasleader", "true")];
        // The first value counts, and no other word than this.
        let others: [&[_]; 3] = [
            &[],
            &[("hasleader", "yes")],
            &[("hasleader", "false"), ("hasleader", "true")],
        ];
        let mut asking = Stream::with(&server, &asks).await.unwrap();
        asking.create(1).await;
        assert!(asking.next().await.created);
        let mut content = Vec::new();
        for metadata in others {
            content.push(Stream::with(&server, metadata).await.unwrap());
        }
        let lost = Arc::clone(&fake.state().leader_lost);
        lost.notify_waiters();
        let told = |status: Status| {
            let told = (status.code(), status.message());
            assert_eq!(told, (Code::Unavailable, "etcdserver: no leader"));
        };
        told(asking.responses.message().await.unwrap_err());
        fake.state().leaderless = true;
        told(Stream::with(&server, &asks).await.err().unwrap());
        for metadata in others {
            content.push(Stream::with(&server, metadata).await.unwrap());
        }
        for stream in &mut content {
            stream.create(1).await;
            assert!(stream.next().await.created);
        }
    });
}

#[test]
fn an_empty_request_is_ignored_and_a_create_arrives_with_all_its_fields() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut stream = Stream::open(&server).await;
        stream.ask(None).await;
        let create = pb::WatchCreateRequest {
            start_revision: -3,
            progress_notify: true,
            filters: vec![0, 1],
            prev_kv: true,
            watch_id: 5,
            fragment: true,
            ..pb::WatchCreateRequest::default()
        };
        stream.ask(Some(RequestUnion::CreateRequest(create))).await;
        assert!(stream.next().await.created);
        let state = fake.state();
        let [seen] = &state.creates[..] else {
            panic!("{:?}", state.creates);
        };
        assert_eq!(seen.range.start, Bytes::from_static(b"\0"));
        assert_eq!((seen.start_revision, seen.watch_id), (-3, WatchId(5)));
        assert!(seen.progress_notify && seen.prev_kv && seen.fragment);
        assert!(seen.filters.no_put && seen.filters.no_delete);
    });
}

#[test]
fn a_stream_goes_on_after_the_client_has_said_its_last_word() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut stream = Stream::open(&server).await;
        stream.create(1).await;
        stream.next().await;
        let (unused, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut stream.requests, unused));
        for revision in 2..5 {
            send(&fake.outbox(), 1, &batch(vec![event(revision, "v")]), false).await;
            assert_eq!(stream.next().await.header.unwrap().revision, revision);
        }
        assert!(!fake.outbox().is_ended());
    });
}

#[test]
fn a_client_that_goes_away_ends_its_stream() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut stream = Stream::open(&server).await;
        stream.create(1).await;
        stream.next().await;
        let outbox = fake.outbox();
        drop(stream);
        eventually(|| outbox.is_ended()).await;
    });
}

#[test]
fn p6_a_dead_watcher_ends_its_stream_with_unavailable() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut stream = Stream::open(&server).await;
        stream.create(1).await;
        stream.next().await;
        fake.outbox().end(StreamEnd::Unavailable("a watcher died"));
        let status = stream.responses.message().await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "a watcher died")
        );
    });
}

#[test]
fn a_watch_request_too_large_ends_the_stream() {
    run(async {
        let fake = Fake::new();
        let limits = ServerLimits {
            request_bytes_max: 1,
            ..ServerLimits::default()
        };
        let server = serve(&fake, limits);
        let mut stream = Stream::open(&server).await;
        let create = pb::WatchCreateRequest {
            key: vec![b'k'; 600 << 10].into(),
            ..pb::WatchCreateRequest::default()
        };
        stream.ask(Some(RequestUnion::CreateRequest(create))).await;
        let status = stream.responses.message().await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(fake.outbox().is_ended());
    });
}

#[test]
fn a_large_response_is_cut_only_where_the_watch_allows_it() {
    run(async {
        let fake = Fake::new();
        // Responses of 512 KiB are large then.
        let limits = ServerLimits {
            request_bytes_max: 0,
            ..ServerLimits::default()
        };
        let server = serve(&fake, limits);
        let mut stream = Stream::open(&server).await;
        stream.create(1).await;
        stream.next().await;
        let outbox = fake.outbox();
        let large = batch((0..5).map(|_| event(9, vec![b'x'; 200 << 10])).collect());
        send(&outbox, 1, &large, true).await;
        outbox.push(StreamItem::Progress {
            watch_id: WatchId::STREAM,
            revision: Revision(9),
        });
        let mut shape = Vec::new();
        for _ in 0..3 {
            let part = stream.next().await;
            assert_eq!((part.watch_id, part.header.unwrap().revision), (1, 9));
            shape.push((part.events.len(), part.fragment));
        }
        assert_eq!(shape, [(2, true), (2, true), (1, false)]);
        assert_eq!(
            stream.next().await.watch_id,
            -1,
            "nothing comes between fragments"
        );
        send(&outbox, 1, &large, false).await;
        let whole = stream.next().await;
        assert_eq!((whole.events.len(), whole.fragment), (5, false));
        let huge = batch(vec![event(10, vec![b'x'; 600 << 10])]);
        send(&outbox, 1, &huge, true).await;
        let alone = stream.next().await;
        assert_eq!((alone.events.len(), alone.fragment), (1, false));
    });
}

#[test]
fn w6_streams_that_get_one_batch_get_bytes_that_were_encoded_once() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let shared = batch((2..200).map(|revision| event(revision, "v")).collect());
        let mut got = Vec::new();
        for _ in 0..2 {
            let mut stream = Stream::open(&server).await;
            stream.create(1).await;
            stream.next().await;
            send(&fake.outbox(), 1, &shared, false).await;
            got.push(stream.next().await.events);
        }
        assert_eq!(got[0].len(), 198);
        assert_eq!(got[0], got[1]);
        shared.encoded(|_| panic!("the batch was not encoded as one"));
        for event in shared.events() {
            event.encoded(false, |_| panic!("an event was not encoded once"));
        }
    });
}

#[test]
fn b2_a_client_that_does_not_read_is_noticed_within_its_window() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let window: u32 = 64 << 10;
        let small = endpoint(&server)
            .initial_stream_window_size(window)
            .initial_connection_window_size(window);
        let client = pb::watch_client::WatchClient::new(small.connect().await.unwrap());
        let stream = Stream::over(client).await;
        stream.create(1).await;
        let outbox = fake.outbox();
        let value = Bytes::from(vec![b'x'; 1 << 10]);
        let mut accepted = 0_usize;
        loop {
            let next = batch(vec![event(2, value.clone())]);
            let room = Arc::clone(&outbox).room(Arc::clone(&next));
            let room = tokio::time::timeout(std::time::Duration::from_millis(300), room).await;
            let Ok(room) = room else { break };
            outbox.push(StreamItem::Events {
                watch_id: WatchId(1),
                batch: next,
                fragment: false,
                room: room.unwrap(),
            });
            accepted += value.len();
        }
        // The outbox has 1 MiB and counts 256 bytes more for each event than are counted here. Beyond it: the window,
        // and a piece or two on their way.
        let outbox_bytes = (1 << 20) / (value.len() + 256) * value.len();
        let bound = outbox_bytes + window as usize + (64 << 10);
        assert!(
            accepted < bound,
            "{accepted} bytes went in, more than {bound}"
        );
        drop(stream);
    });
}
