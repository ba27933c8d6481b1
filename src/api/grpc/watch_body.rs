//! The response body of a watch stream: takes items from the stream's outbox and encodes them as the client reads.
//!
//! It holds what one piece needs and no more, so that a client which does not read fills the outbox and not the memory.
//! It never reorders items, and nothing comes between the fragments of one response.

use super::encode::{self, Chunks};
use super::watch::Conductor;
use crate::api::convert;
use crate::api::pb::etcdserverpb::WatchResponse;
use crate::api::status;
use crate::backend::{Batch, Identity, Next, OutboxReader, Room, StreamItem};
use crate::model::{Revision, WatchId};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;

/// A message may have no more, in bytes: its length is a 32-bit number. Leaves room for the head.
const MESSAGE_BYTES_MAX: usize = (u32::MAX as usize) - 4096;

/// The response body of one watch stream. Dropping it ends the stream and its watchers.
#[derive(Debug)]
pub(super) struct WatchBody {
    /// Where responses come from; `None` once the stream has ended.
    outbox: Option<OutboxReader>,
    /// The reading side, which may end the stream too, and ends with it.
    conductor: Conductor,
    identity: Identity,
    /// Responses of at least as many bytes are cut where the watch allows it.
    fragment_bytes: usize,
    /// The response that is being cut.
    train: Option<Train>,
    chunks: Chunks,
    /// How the stream ended, until it was told.
    end: Option<Status>,
}

/// A response that goes out in fragments.
#[derive(Debug)]
struct Train {
    watch_id: WatchId,
    batch: Arc<Batch>,
    /// The first event that was not sent.
    next: usize,
    /// Given back to the outbox with the last fragment.
    _room: Room,
}

impl WatchBody {
    /// The body that encodes what comes out of `outbox`.
    pub(super) fn new(
        outbox: OutboxReader,
        conductor: Conductor,
        identity: Identity,
        fragment_bytes: usize,
    ) -> Self {
        Self {
            outbox: Some(outbox),
            conductor,
            identity,
            fragment_bytes,
            train: None,
            chunks: Chunks::default(),
            end: None,
        }
    }

    /// Encodes until a piece is complete, the outbox is empty or the stream has ended.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while !self.chunks.is_ready() {
            if let Some(train) = self.train.take() {
                self.put_fragment(train);
                continue;
            }
            let Some(outbox) = &mut self.outbox else {
                return;
            };
            match outbox.poll_next(cx) {
                Poll::Ready(Next::Item(item)) => self.put(item),
                Poll::Ready(Next::End(end)) => self.finish(status::stream_end(end)),
                Poll::Pending => return,
            }
        }
    }

    /// Ends the stream: watchers stop, and what was not begun is not sent.
    fn finish(&mut self, status: Status) {
        self.outbox = None;
        self.train = None;
        self.end = Some(status);
    }

    fn put(&mut self, item: StreamItem) {
        match item {
            StreamItem::Events {
                watch_id,
                batch,
                fragment,
                room,
            } => self.put_events(watch_id, batch, fragment, room),
            StreamItem::Created { watch_id, revision } => {
                self.put_control(&WatchResponse {
                    created: true,
                    ..self.head(watch_id, revision)
                });
            }
            StreamItem::Rejected { revision, reason } => {
                self.put_control(&WatchResponse {
                    created: true,
                    canceled: true,
                    cancel_reason: status::rejection(reason).into_owned(),
                    ..self.head(WatchId::STREAM, revision)
                });
            }
            StreamItem::Progress { watch_id, revision } => {
                self.put_control(&self.head(watch_id, revision));
            }
            StreamItem::Canceled { watch_id, revision } => {
                self.put_control(&WatchResponse {
                    canceled: true,
                    ..self.head(watch_id, revision)
                });
            }
            StreamItem::Compacted {
                watch_id,
                compact_revision,
            } => {
                // As in etcd, the header of this one says no revision.
                self.put_control(&WatchResponse {
                    canceled: true,
                    compact_revision: compact_revision.0,
                    ..self.head(watch_id, Revision(0))
                });
            }
        }
    }

    fn put_events(&mut self, watch_id: WatchId, batch: Arc<Batch>, fragment: bool, room: Room) {
        let whole = encode::whole(&batch);
        let with_prev = batch.with_prev();
        let events = || batch.events().iter().map(AsRef::as_ref);
        let events_bytes =
            whole.map_or_else(|| encode::events_len(events(), with_prev), Bytes::len);
        let head = self.head(watch_id, batch.last());
        let too_large = fragment && message_len(&head, events_bytes) >= self.fragment_bytes;
        if (too_large && batch.events().len() > 1) || events_bytes > MESSAGE_BYTES_MAX {
            self.train = Some(Train {
                watch_id,
                batch,
                next: 0,
                _room: room,
            });
            return;
        }
        if !self.put_head(&head, events_bytes) {
            return;
        }
        if let Some(bytes) = whole {
            return self.chunks.put_shared(bytes);
        }
        for event in events() {
            self.chunks
                .put_shared(encode::encoded_event(event, with_prev));
        }
    }

    /// Sends as many events as stay below the limit, and at least one.
    fn put_fragment(&mut self, mut train: Train) {
        let with_prev = train.batch.with_prev();
        let mut head = WatchResponse {
            fragment: true,
            ..self.head(train.watch_id, train.batch.last())
        };
        let left = train.batch.events().get(train.next..).unwrap_or_default();
        let limit = self.fragment_bytes.min(MESSAGE_BYTES_MAX);
        let mut events_bytes = 0;
        let mut count = 0;
        for event in left {
            let bytes = encode::encoded_event(event, with_prev).len();
            if count > 0 && message_len(&head, events_bytes + bytes) >= limit {
                break;
            }
            events_bytes += bytes;
            count += 1;
        }
        head.fragment = count < left.len();
        if !self.put_head(&head, events_bytes) {
            return;
        }
        for event in left.iter().take(count) {
            self.chunks
                .put_shared(encode::encoded_event(event, with_prev));
        }
        if head.fragment {
            train.next += count;
            self.train = Some(train);
        }
    }

    fn put_control(&mut self, response: &WatchResponse) {
        self.put_head(response, 0);
    }

    /// Begins a response; ends the stream, and says so, when nothing can carry it: one event of over 4 GiB.
    fn put_head(&mut self, head: &WatchResponse, events_bytes: usize) -> bool {
        let begun = self.chunks.put_head(head, events_bytes);
        if let Err(error) = &begun {
            log::error!("a watch response cannot be encoded: {error}");
            self.finish(status::response_too_large());
        }
        begun.is_ok()
    }

    fn head(&self, watch_id: WatchId, revision: Revision) -> WatchResponse {
        WatchResponse {
            header: Some(convert::header(self.identity, revision)),
            watch_id: watch_id.0,
            ..WatchResponse::default()
        }
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // The texts in `api::status` are all fit for a header; without one the client sees a broken stream.
        log::error!("the end of a watch stream cannot be told: {status}");
    }
    trailers
}

/// Bytes of a response with this head and so many bytes of events.
fn message_len(head: &WatchResponse, events_bytes: usize) -> usize {
    prost::Message::encoded_len(head).saturating_add(events_bytes)
}

impl Body for WatchBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        // Looked at on every call, so that a stream with much to send hears of its end as well.
        if this.outbox.is_some()
            && let Poll::Ready(status) = this.conductor.poll_end(cx)
        {
            this.finish(status);
        }
        this.fill(cx);
        if !this.chunks.is_ready() {
            this.chunks.cut();
        }
        if let Some(bytes) = this.chunks.next_ready() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let Some(status) = this.end.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
        }
        if this.outbox.is_none() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.outbox.is_none() && self.end.is_none() && !self.chunks.is_ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Outbox, OutboxLimits, StreamEnd};
    use crate::model::{Event, EventKind, KeyValue};
    use http_body_util::BodyExt;
    use prost::Message;
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
        let body = WatchBody::new(reader, conductor, identity, FRAGMENT_BYTES);
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
}
