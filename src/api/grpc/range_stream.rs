//! A range answered in several messages, all at the revision of the first.
//!
//! One chunk is read when the client has room for it and never ahead of that, so a stream holds one chunk at most.

use crate::api::convert::{self, RangeParts};
use crate::api::pb::etcdserverpb::{RangeResponse, RangeStreamResponse};
use crate::api::status;
use crate::backend::{BackendError, StoreBackend};
use crate::model::{KeyRange, RangeAnswer, RangeQuery, Refusal, Revision};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use prost::Message;
use tonic::Status;
use tonic::codegen::BoxStream;

/// How many keys the first chunk may have; as in etcd.
const FIRST_CHUNK_KEYS: i64 = 10;

/// The stream that answers `query` in messages of about `chunk_bytes`.
pub(super) fn open<B: StoreBackend>(
    backend: B,
    query: RangeQuery,
    chunk_bytes: usize,
) -> Result<BoxStream<RangeStreamResponse>, Status> {
    if !query.bounds.is_open() {
        return Err(status::stream_revision_filters());
    }
    if !query.is_plain() {
        return Err(status::stream_sort_order());
    }
    let progress = Progress {
        backend,
        keys_left: (query.limit > 0).then_some(query.limit),
        chunk: ChunkPlan {
            keys: FIRST_CHUNK_KEYS,
            bytes: chunk_bytes,
        },
        first: None,
        query,
    };
    let parts = stream::try_unfold(Some(progress), |progress| async move {
        match progress {
            Some(progress) => progress.step().await.map(Some),
            None => Ok(None),
        }
    });
    Ok(Box::pin(parts))
}

/// How far a streamed range is.
struct Progress<B> {
    backend: B,
    /// What is left to read.
    query: RangeQuery,
    /// How many keys the client still wants, when it set a limit.
    keys_left: Option<i64>,
    chunk: ChunkPlan,
    /// What the first chunk said of the whole: the revision, and how many keys there are.
    first: Option<(Revision, i64)>,
}

impl<B: StoreBackend> Progress<B> {
    /// Reads one chunk; what is left is `None` after the last one.
    async fn step(mut self) -> Result<(RangeStreamResponse, Option<Self>), Status> {
        let (revision, mut answer) = self.read().await.map_err(|e| status::backend(&e))?;
        let (pinned, count) = *self.first.get_or_insert((revision, answer.count));
        if self.query.revision <= 0 {
            self.query.revision = pinned.0;
        }
        let keys = i64::try_from(answer.kvs.len()).unwrap_or(i64::MAX);
        self.keys_left = self.keys_left.map(|left| left.saturating_sub(keys));
        let next = match answer.kvs.last() {
            Some(last) if answer.more && self.keys_left != Some(0) => Some(after(&last.key)),
            _ => None,
        };
        let Some(start) = next else {
            answer.count = count;
            let header = convert::header(self.backend.identity(), pinned);
            let last = convert::range_response(Some(header), answer, RangeParts::All);
            return Ok((part(last), None));
        };
        let response = convert::range_response(None, answer, RangeParts::Keys);
        self.chunk.adapt(response.encoded_len());
        self.query.range = KeyRange {
            start,
            end: self.query.range.end,
        };
        Ok((part(response), Some(self)))
    }

    /// Reads the next chunk, in smaller ones when an answer of that many keys would be too large.
    async fn read(&mut self) -> Result<(Revision, RangeAnswer), BackendError> {
        loop {
            let keys = self
                .keys_left
                .map_or(self.chunk.keys, |left| left.min(self.chunk.keys));
            let query = RangeQuery {
                limit: keys,
                ..self.query.clone()
            };
            match self.backend.range(query).await {
                Err(BackendError::Refused(Refusal::AnswerTooLarge { .. })) if keys > 1 => {
                    self.chunk.keys = keys / 2;
                }
                answer => return answer,
            }
        }
    }
}

/// How large the next chunk is to be.
struct ChunkPlan {
    keys: i64,
    bytes: usize,
}

impl ChunkPlan {
    /// Learns from the bytes of the last chunk: doubles below half of the target, halves above twice of it.
    fn adapt(&mut self, bytes: usize) {
        if bytes < self.bytes / 2 {
            self.keys = self.keys.saturating_mul(2);
        } else if bytes > self.bytes.saturating_mul(2) {
            self.keys = (self.keys / 2).max(1);
        }
    }
}

fn part(response: RangeResponse) -> RangeStreamResponse {
    RangeStreamResponse {
        range_response: Some(response),
    }
}

/// The first key behind `key`.
fn after(key: &Bytes) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_while_small_and_shrink_while_large_and_never_below_one_key() {
        let mut plan = ChunkPlan {
            keys: 10,
            bytes: 1000,
        };
        plan.adapt(499);
        assert_eq!(plan.keys, 20);
        plan.adapt(500);
        plan.adapt(2000);
        assert_eq!(plan.keys, 20);
        for _ in 0..9 {
            plan.adapt(2001);
        }
        assert_eq!(plan.keys, 1);
    }

    #[test]
    fn the_next_chunk_begins_right_behind_the_last_key() {
        assert_eq!(after(&Bytes::from_static(b"k")), Bytes::from_static(b"k\0"));
    }
}
