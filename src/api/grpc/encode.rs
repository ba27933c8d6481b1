//! Watch responses as the bytes of gRPC messages, with the events encoded once for everyone who gets them.
//!
//! Written by hand is only what goes round protobuf: the frame header, and the order "head, then events". An event that
//! was encoded once is never encoded again, and a large one is never copied.

use super::BoxError;
use crate::api::convert;
use crate::api::pb::etcdserverpb::{ResponseHeader, WatchResponse};
use crate::backend::Batch;
use crate::model::{Event, WatchId};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::int64;
use std::collections::VecDeque;

/// Bytes that go out as one piece, if there are that many.
const CHUNK_BYTES: usize = 32 << 10;
/// The smallest piece to allocate, in bytes: a progress response or two.
const CHUNK_BYTES_MIN: usize = 128;
/// Encoded bytes above this go out as they are; below, copying them is cheaper than a piece of their own.
const COPY_BYTES_MAX: usize = 4 << 10;
/// A batch of more key and value bytes than this is not put together into one encoded piece: its events are large, or
/// there are so many that the copy would cost more than it saves.
const WHOLE_BYTES_MAX: usize = 1 << 20;
/// The key of field 11, `events`, of a watch response: length-delimited.
const EVENTS_KEY: u8 = 11 << 3 | 2;
/// The number of the field `watch_id` of a watch response.
const WATCH_ID_FIELD: u32 = 2;
/// A frame header, four numbers in a header, and a watch id, each as long as it can be, in bytes: 62 of them.
const EVENTS_HEAD_BYTES_MAX: usize = 64;

/// An event as it stands in a watch response: the field's key, the length, the message.
pub(super) fn encoded_event(event: &Event, with_prev: bool) -> &Bytes {
    event.encoded(with_prev, |event| {
        let message = convert::event(event, with_prev);
        let bytes = message.encoded_len();
        let mut buffer = BytesMut::with_capacity(1 + prost::length_delimiter_len(bytes) + bytes);
        buffer.put_u8(EVENTS_KEY);
        put_delimited(&message, &mut buffer);
        buffer.freeze()
    })
}

fn put_delimited(message: &impl Message, buffer: &mut BytesMut) {
    // The only error there is says that the buffer has no room, and this one grows.
    let _ = message.encode_length_delimited(buffer);
}

/// Encoded bytes of these events together.
pub(super) fn events_len<'a>(
    events: impl IntoIterator<Item = &'a Event>,
    with_prev: bool,
) -> usize {
    events
        .into_iter()
        .map(|event| encoded_event(event, with_prev).len())
        .sum()
}

/// All events of a batch in one encoded piece, put together once and shared by all who get the batch. `None` for a
/// batch that is better sent event by event.
pub(super) fn whole(batch: &Batch) -> Option<&Bytes> {
    let with_prev = batch.with_prev();
    if let [event] = batch.events() {
        return Some(encoded_event(event, with_prev));
    }
    // The batch's own count was made before the previous values of a late watch were looked up.
    let bytes: usize = if batch.with_prev() {
        batch.events().iter().map(|event| event.bytes(true)).sum()
    } else {
        batch.bytes()
    };
    if bytes > WHOLE_BYTES_MAX || bytes / batch.events().len().max(1) > COPY_BYTES_MAX {
        return None;
    }
    let encoded = batch.encoded(|batch| {
        let events = || batch.events().iter().map(AsRef::as_ref);
        let mut buffer = BytesMut::with_capacity(events_len(events(), with_prev));
        for event in events() {
            buffer.put_slice(encoded_event(event, with_prev));
        }
        buffer.freeze()
    });
    Some(encoded)
}

/// The header of a response as the field that it is, encoded once for as long as the stream's watches are told of the same
/// revision.
#[derive(Debug, Default)]
pub(super) struct HeaderField {
    header: ResponseHeader,
    encoded: Vec<u8>,
}

impl HeaderField {
    /// The field with this header.
    pub(super) fn of(&mut self, header: ResponseHeader) -> &[u8] {
        if self.header != header || self.encoded.is_empty() {
            self.header = header;
            let head = WatchResponse {
                header: Some(header),
                ..WatchResponse::default()
            };
            self.encoded = head.encode_to_vec();
        }
        &self.encoded
    }
}

/// Bytes of a head that says a header and a watch, and nothing else.
pub(super) fn events_head_len(header: &[u8], watch_id: WatchId) -> usize {
    header.len() + watch_id_len(watch_id)
}

fn watch_id_len(WatchId(watch_id): WatchId) -> usize {
    // As everywhere in protobuf, a number that is 0 is not there.
    if watch_id == 0 {
        return 0;
    }
    int64::encoded_len(WATCH_ID_FIELD, &watch_id)
}

/// Bytes on their way out, in pieces.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// The piece being filled.
    chunk: BytesMut,
    /// Pieces that are complete.
    ready: VecDeque<Bytes>,
    /// How large the last piece filled was: the next one begins with as much room.
    last_bytes: usize,
}

impl Chunks {
    /// Begins a gRPC message: the frame header, and `head`, after which `events_bytes` follow.
    pub(super) fn put_head(
        &mut self,
        head: &WatchResponse,
        events_bytes: usize,
    ) -> Result<(), BoxError> {
        let head_bytes = head.encoded_len();
        let length = u32::try_from(head_bytes + events_bytes)?;
        let buffer = self.buffer();
        buffer.put_u8(0);
        buffer.put_u32(length);
        head.encode(buffer)?;
        self.cut_when_full();
        Ok(())
    }

    /// Begins a gRPC message of events whose head says nothing but `header`, which is encoded, and a watch. Nearly all are
    /// such, and a head put together field by field was a sixth of what an event cost.
    pub(super) fn put_events_head(
        &mut self,
        header: &[u8],
        watch_id: WatchId,
        events_bytes: usize,
    ) -> Result<(), BoxError> {
        let length = u32::try_from(events_head_len(header, watch_id) + events_bytes)?;
        let mut head = [0; EVENTS_HEAD_BYTES_MAX];
        let mut rest = head.as_mut_slice();
        rest.put_u8(0);
        rest.put_u32(length);
        rest.put_slice(header);
        if watch_id.0 != 0 {
            int64::encode(WATCH_ID_FIELD, &watch_id.0, &mut rest);
        }
        let bytes = EVENTS_HEAD_BYTES_MAX - rest.len();
        self.buffer()
            .put_slice(head.get(..bytes).unwrap_or_default());
        self.cut_when_full();
        Ok(())
    }

    /// Goes on with bytes that others may have too.
    pub(super) fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() > COPY_BYTES_MAX {
            self.cut();
            self.ready.push_back(bytes.clone());
        } else {
            self.buffer().put_slice(bytes);
            self.cut_when_full();
        }
    }

    /// True when a piece is complete.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next complete piece.
    pub(super) fn next_ready(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// Completes the piece being filled.
    pub(super) fn cut(&mut self) {
        if !self.chunk.is_empty() {
            let chunk = std::mem::take(&mut self.chunk);
            self.last_bytes = chunk.len();
            self.ready.push_back(chunk.freeze());
        }
    }

    fn cut_when_full(&mut self) {
        if self.chunk.len() >= CHUNK_BYTES {
            self.cut();
        }
    }

    /// The piece being filled. An idle stream holds none.
    fn buffer(&mut self) -> &mut BytesMut {
        if self.chunk.capacity() == 0 {
            let bytes = self.last_bytes.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES);
            self.chunk = BytesMut::with_capacity(bytes);
        }
        &mut self.chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb::mvccpb;
    use crate::model::{EventKind, KeyValue, Revision};
    use std::sync::Arc;

    fn batch(count: usize, value_bytes: usize) -> Batch {
        let events = (0..count).map(|_| {
            let kv = KeyValue {
                key: Bytes::from_static(b"key"),
                create_revision: Revision(2),
                mod_revision: Revision(7),
                version: 3,
                value: vec![b'v'; value_bytes].into(),
                ..KeyValue::default()
            };
            Arc::new(Event::new(EventKind::Put, kv))
        });
        Batch::new(events.collect(), true).unwrap()
    }

    fn pieces(chunks: &mut Chunks) -> Vec<Bytes> {
        chunks.cut();
        std::iter::from_fn(|| chunks.next_ready()).collect()
    }

    #[test]
    fn head_and_shared_events_are_the_bytes_that_protobuf_would_write() {
        let batch = batch(3, 100);
        let events: Vec<mvccpb::Event> = batch
            .events()
            .iter()
            .map(|event| convert::event(event, true))
            .collect();
        let head = WatchResponse {
            watch_id: 300,
            ..WatchResponse::default()
        };
        let full = WatchResponse {
            events,
            ..head.clone()
        };
        let shared = whole(&batch).unwrap();
        let mut chunks = Chunks::default();
        chunks.put_head(&head, shared.len()).unwrap();
        chunks.put_shared(shared);
        let wire = pieces(&mut chunks).concat();
        let message = full.encode_to_vec();
        assert_eq!(
            wire[..5],
            [
                &[0][..],
                &(u32::try_from(message.len()).unwrap()).to_be_bytes()
            ]
            .concat()
        );
        assert_eq!(wire[5..], message);
    }

    #[test]
    fn the_short_way_to_a_head_of_events_writes_what_the_long_one_writes() {
        let largest = ResponseHeader {
            cluster_id: u64::MAX,
            member_id: u64::MAX,
            revision: -1,
            raft_term: u64::MAX,
        };
        let later = ResponseHeader {
            revision: 7,
            ..largest
        };
        let mut field = HeaderField::default();
        for header in [ResponseHeader::default(), largest, later] {
            for watch_id in [0, 1, 300, -1] {
                let head = WatchResponse {
                    header: Some(header),
                    watch_id,
                    ..WatchResponse::default()
                };
                let (mut long, mut short) = (Chunks::default(), Chunks::default());
                long.put_head(&head, 1000).unwrap();
                let (encoded, watch_id) = (field.of(header), WatchId(watch_id));
                short.put_events_head(encoded, watch_id, 1000).unwrap();
                assert_eq!(pieces(&mut long), pieces(&mut short));
                assert_eq!(events_head_len(encoded, watch_id), head.encoded_len());
            }
        }
    }

    #[test]
    fn w6_an_event_and_a_batch_are_encoded_once_and_shared() {
        let batch = batch(4, 10);
        let first = whole(&batch).unwrap().as_ptr();
        assert_eq!(whole(&batch).unwrap().as_ptr(), first);
        let event = &batch.events()[0];
        let encoded = encoded_event(event, true).as_ptr();
        assert_eq!(encoded_event(event, true).as_ptr(), encoded);
        assert_ne!(encoded_event(event, false).as_ptr(), encoded);
    }

    #[test]
    fn large_events_go_out_without_being_copied() {
        let batch = batch(3, 8 << 10);
        assert!(whole(&batch).is_none());
        let mut chunks = Chunks::default();
        chunks
            .put_head(
                &WatchResponse::default(),
                events_len(batch.events().iter().map(AsRef::as_ref), true),
            )
            .unwrap();
        for event in batch.events() {
            chunks.put_shared(encoded_event(event, true));
        }
        let pieces = pieces(&mut chunks);
        assert_eq!(pieces.len(), 4);
        for (piece, event) in pieces[1..].iter().zip(batch.events()) {
            assert_eq!(piece.as_ptr(), encoded_event(event, true).as_ptr());
        }
    }

    #[test]
    fn small_bytes_are_gathered_into_pieces_of_32_kib() {
        let mut chunks = Chunks::default();
        let small = Bytes::from(vec![1; 1000]);
        while !chunks.is_ready() {
            chunks.put_shared(&small);
        }
        let piece = chunks.next_ready().unwrap();
        assert!((CHUNK_BYTES..CHUNK_BYTES + 1000).contains(&piece.len()));
        assert_eq!(chunks.chunk.capacity(), 0, "an idle stream holds no piece");
    }
}
