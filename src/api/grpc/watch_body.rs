//! The response body of a watch stream: takes items from the stream's outbox and encodes them as the client reads.
//!
//! It holds what one piece needs and no more, so that a client which does not read fills the outbox and not the memory.
//! It never reorders items, and nothing comes between the fragments of one response.

use super::BoxError;
use super::encode::{self, Chunks, HeaderField};
use super::watch::Conductor;
use crate::api::convert;
use crate::api::pb::etcdserverpb::WatchResponse;
use crate::api::status;
use crate::backend::{Batch, Identity, Next, OutboxReader, Room, StreamItem};
use crate::fault::{self, Fault};
use crate::model::{Event, Revision, WatchId};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use std::cell::OnceCell;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;

/// A message may have no more, in bytes: its length is a 32-bit number. Leaves room for the head.
const MESSAGE_BYTES_MAX: usize = (u32::MAX as usize) - 4096;
/// Many clients take no message of more bytes unless they are told to. A response of several revisions stays below, also
/// for a watch that takes no fragments; only one revision alone may be larger.
const RESPONSE_BYTES_MAX: usize = 4 << 20;

/// The response body of one watch stream. Dropping it ends the stream and its watchers.
#[derive(Debug)]
pub(super) struct WatchBody {
    /// Where responses come from; `None` once the stream has ended.
    outbox: Option<OutboxReader>,
    /// The reading side, which may end the stream too, and ends with it.
    conductor: Conductor,
    who: Who,
    /// Responses of at least as many bytes are cut where the watch allows it.
    fragment_bytes: usize,
    /// The batch that is being cut.
    train: Option<Train>,
    /// The header that most responses share.
    header: HeaderField,
    chunks: Chunks,
    /// The room of what is encoded, given back when a piece is complete: once for many items, each of which would
    /// otherwise lock the outbox for it.
    encoded: Option<Room>,
    /// How the stream ended, until it was told.
    end: Option<Status>,
}

/// Who answers: the same member on the whole stream, asked when there is something to answer, since a relay does not know it
/// before its cluster has spoken; and in which term, which is that of the moment.
struct Who {
    ask: Box<dyn Fn() -> Identity + Send>,
    known: OnceCell<Identity>,
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.known.fmt(f)
    }
}

impl Who {
    fn answers(&self) -> Identity {
        let now = (self.ask)();
        Identity {
            raft_term: now.raft_term,
            ..*self.known.get_or_init(|| now)
        }
    }
}

/// A batch that goes out in several messages: the fragments of one response, or responses of whole revisions.
#[derive(Debug)]
struct Train {
    watch_id: WatchId,
    batch: Arc<Batch>,
    /// Whether they are fragments, and so may be cut anywhere.
    fragment: bool,
    /// The first event that was not sent.
    next: usize,
    /// Given back to the outbox with the last message.
    _room: Room,
}

impl WatchBody {
    /// The body that encodes what comes out of `outbox`.
    pub(super) fn new(
        outbox: OutboxReader,
        conductor: Conductor,
        who: impl Fn() -> Identity + Send + 'static,
        fragment_bytes: usize,
    ) -> Self {
        Self {
            outbox: Some(outbox),
            conductor,
            who: Who {
                ask: Box::new(who),
                known: OnceCell::new(),
            },
            fragment_bytes,
            train: None,
            header: HeaderField::default(),
            chunks: Chunks::default(),
            encoded: None,
            end: None,
        }
    }

    /// Encodes until a piece is complete, the outbox is empty or the stream has ended, and gives the room back.
    fn fill(&mut self, cx: &mut Context<'_>) {
        self.encode(cx);
        self.encoded = None;
    }

    fn encode(&mut self, cx: &mut Context<'_>) {
        while !self.chunks.is_ready() {
            if let Some(train) = self.train.take() {
                self.put_part(train);
                if !fault::active(Fault::FragmentsInterleaved) {
                    continue;
                }
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
                    cancel_reason: if fault::active(Fault::RejectedWithoutReason) {
                        String::new()
                    } else {
                        status::rejection(&reason).into_owned()
                    },
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
                    compact_revision: if fault::active(Fault::CompactedWithoutRevision) {
                        0
                    } else {
                        compact_revision.0
                    },
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
        let revision = if fault::active(Fault::EventsHeaderStale) {
            batch.first()
        } else {
            batch.last()
        };
        let header = self
            .header
            .of(convert::header(self.who.answers(), revision));
        let message_bytes = encode::events_head_len(header, watch_id).saturating_add(events_bytes);
        // What no message can carry is cut even where the watch does not allow it.
        let fragment = batch.events().len() > 1
            && ((fragment && message_bytes >= self.fragment_bytes)
                || (batch.revisions() == 1 && events_bytes > MESSAGE_BYTES_MAX));
        if fragment || (batch.revisions() > 1 && message_bytes >= RESPONSE_BYTES_MAX) {
            self.train = Some(Train {
                watch_id,
                batch,
                fragment,
                next: 0,
                _room: room,
            });
            return;
        }
        let begun = self.chunks.put_events_head(header, watch_id, events_bytes);
        if !self.has_begun(begun) {
            return;
        }
        if let Some(bytes) = whole {
            self.chunks.put_shared(bytes);
        } else {
            for event in events() {
                self.chunks
                    .put_shared(encode::encoded_event(event, with_prev));
            }
        }
        match &mut self.encoded {
            Some(encoded) => encoded.merge(room),
            None => self.encoded = Some(room),
        }
    }

    /// Sends as many events, or whole revisions, as stay below the limit, and at least one.
    fn put_part(&mut self, mut train: Train) {
        let with_prev = train.batch.with_prev();
        let left = train.batch.events().get(train.next..).unwrap_or_default();
        let mut head = self.head(train.watch_id, train.batch.last());
        head.fragment = train.fragment;
        let limit = if train.fragment {
            self.fragment_bytes.min(MESSAGE_BYTES_MAX)
        } else {
            RESPONSE_BYTES_MAX
        };
        let together = |a: &Arc<Event>, b: &Arc<Event>| {
            !train.fragment && a.kv.mod_revision == b.kv.mod_revision
        };
        let (mut events_bytes, mut count) = (0, 0);
        for events in left.chunk_by(together) {
            let bytes = encode::events_len(events.iter().map(AsRef::as_ref), with_prev);
            if count > 0 && message_len(&head, events_bytes + bytes) >= limit {
                break;
            }
            events_bytes += bytes;
            count += events.len();
        }
        let (now, later) = left.split_at(count);
        let more = !later.is_empty() || fault::active(Fault::FragmentWithoutEnd);
        head.fragment = train.fragment && more;
        if let Some(last) = now.last().filter(|_| !train.fragment) {
            head.header = Some(convert::header(self.who.answers(), last.kv.mod_revision));
        }
        if !self.put_head(&head, events_bytes) {
            return;
        }
        for event in now {
            self.chunks
                .put_shared(encode::encoded_event(event, with_prev));
        }
        if !later.is_empty() {
            train.next += count;
            self.train = Some(train);
        }
    }

    fn put_control(&mut self, response: &WatchResponse) {
        self.put_head(response, 0);
    }

    fn put_head(&mut self, head: &WatchResponse, events_bytes: usize) -> bool {
        let begun = self.chunks.put_head(head, events_bytes);
        self.has_begun(begun)
    }

    /// Ends the stream, and says so, when nothing can carry a response: one event of over 4 GiB.
    fn has_begun(&mut self, begun: Result<(), BoxError>) -> bool {
        if let Err(error) = &begun {
            log::error!("a watch response cannot be encoded: {error}");
            self.finish(status::response_too_large());
        }
        begun.is_ok()
    }

    fn head(&self, watch_id: WatchId, revision: Revision) -> WatchResponse {
        WatchResponse {
            header: Some(convert::header(self.who.answers(), revision)),
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
mod tests;
