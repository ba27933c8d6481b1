//! The keys of a range at one revision, a page at a time.
//!
//! The first page settles the revision. Pages are of some megabytes, however large the values are.

use crate::api::pb::etcdserverpb::{RangeRequest, RangeResponse};
use crate::api::pb::mvccpb::KeyValue;
use crate::cli::ClientArgs;
use crate::model::KeyRange;
use crate::verbs::{VerbError, kv, within};
use bytes::Bytes;
use std::collections::VecDeque;
use tonic::Code;
use tonic::transport::Channel;

const PAGE_KEYS_FIRST: i64 = 128;
const PAGE_KEYS_MAX: i64 = 4096;
/// A page above it makes the next one smaller, and one far below it larger.
const PAGE_BYTES: usize = 2 << 20;

/// Where reading a range stands.
pub(super) struct Pages<'c> {
    client: &'c ClientArgs,
    channel: Channel,
    /// What is still to be read; `None` when nothing is.
    rest: Option<(Bytes, Bytes)>,
    limit: i64,
    ready: VecDeque<KeyValue>,
    /// The revision that is read; 0 before the first page.
    pub(super) revision: i64,
    /// How many keys there are, once the first page has come.
    pub(super) total: i64,
}

impl<'c> Pages<'c> {
    /// All keys with a prefix, at a revision or at the latest one. Nothing is read yet.
    pub(super) fn new(
        client: &'c ClientArgs,
        channel: Channel,
        prefix: &str,
        revision: i64,
    ) -> Self {
        let range = KeyRange::prefix(Bytes::copy_from_slice(prefix.as_bytes()));
        Self {
            client,
            channel,
            rest: Some(kv::wire(range)),
            limit: PAGE_KEYS_FIRST,
            ready: VecDeque::new(),
            revision,
            total: 0,
        }
    }

    /// The next key, which stays.
    pub(super) async fn peek(&mut self) -> Result<Option<&KeyValue>, VerbError> {
        while self.ready.is_empty() && self.rest.is_some() {
            self.read().await?;
        }
        Ok(self.ready.front())
    }

    /// The next key.
    pub(super) async fn next(&mut self) -> Result<Option<KeyValue>, VerbError> {
        self.peek().await?;
        Ok(self.ready.pop_front())
    }

    async fn read(&mut self) -> Result<(), VerbError> {
        let Some((key, range_end)) = self.rest.clone() else {
            return Ok(());
        };
        let request = RangeRequest {
            key,
            range_end: range_end.clone(),
            limit: self.limit,
            revision: self.revision,
            ..RangeRequest::default()
        };
        let call = kv::range(self.channel.clone(), request);
        let answer = within(self.client, async { Ok(call.await?) }).await;
        match answer {
            Ok(answer) => self.take(answer, range_end),
            // A server may bound its answers.
            Err(VerbError::Status(status))
                if status.code() == Code::ResourceExhausted && self.limit > 1 =>
            {
                self.limit /= 2;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn take(&mut self, answer: RangeResponse, range_end: Bytes) {
        if self.revision == 0 {
            self.revision = answer.header.unwrap_or_default().revision;
        }
        // Later pages count what is left.
        self.total = self.total.max(answer.count);
        let sizes = answer.kvs.iter().map(|kv| kv.key.len() + kv.value.len());
        let bytes: usize = sizes.sum();
        if bytes > PAGE_BYTES {
            self.limit = (self.limit / 2).max(1);
        } else if bytes < PAGE_BYTES / 4 {
            self.limit = (self.limit * 2).min(PAGE_KEYS_MAX);
        }
        self.rest = match answer.kvs.last() {
            // The first key that there can be behind it.
            Some(last) if answer.more => Some(([&last.key, &b"\0"[..]].concat().into(), range_end)),
            _ => None,
        };
        self.ready.extend(answer.kvs);
    }
}
