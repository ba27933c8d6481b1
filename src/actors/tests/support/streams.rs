//! A watch stream read by hand: one response at a time, in short.

use super::{Seen, seen_of, settle};
use crate::actors::outbox::{Next, OutboxReader, StreamItem};
use crate::actors::stream::StreamState;
use crate::actors::watch_stream::{WatchCreate, WatchStream};
use crate::model::{EventFilters, KeyRange, WatchId};
use crate::watch::Batch;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

/// A stream, as the test sees it: one response, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::actors::tests) enum Response {
    Created(i64, i64),
    Rejected(crate::actors::WatchRejection),
    Events(i64, Vec<Seen>),
    Progress(i64, i64),
    Canceled(i64),
    Compacted(i64, i64),
    End(crate::actors::StreamEnd),
}

impl Response {
    /// The revisions of its events.
    pub(in crate::actors::tests) fn revisions(&self) -> Vec<i64> {
        match self {
            Self::Events(_, events) => events.iter().map(|seen| seen.revision).collect(),
            _ => Vec::new(),
        }
    }
}

/// A watch stream driven by hand.
pub(in crate::actors::tests) struct TestStream {
    pub(in crate::actors::tests) control: WatchStream,
    pub(super) reader: OutboxReader,
}

impl TestStream {
    /// The batches that are in the outbox now.
    pub(in crate::actors::tests) async fn batches(&mut self) -> Vec<Arc<Batch>> {
        let mut batches = Vec::new();
        loop {
            let next = poll_fn(|cx| match self.reader.poll_next(cx) {
                Poll::Ready(next) => Poll::Ready(Some(next)),
                Poll::Pending => Poll::Ready(None),
            });
            match next.await {
                Some(Next::Item(StreamItem::Events { batch, .. })) => batches.push(batch),
                Some(Next::Item(_)) => {}
                Some(Next::End(_)) | None => return batches,
            }
        }
    }

    pub(in crate::actors::tests) async fn create(&mut self, create: WatchCreate) {
        self.control.create([create]).await;
    }

    /// Everything that is in the outbox now.
    pub(in crate::actors::tests) async fn drain(&mut self) -> Vec<Response> {
        let mut responses = Vec::new();
        while let Some(response) = self.try_next().await {
            let ended = matches!(response, Response::End(_));
            responses.push(response);
            if ended {
                break;
            }
        }
        responses
    }

    /// What the actors share about the stream.
    pub(in crate::actors::tests) fn state(&self) -> Arc<StreamState> {
        self.control.state_for_test()
    }

    /// Marks a watch as cancelled, as if its watcher had just said so and its `Forget` were on the way.
    pub(in crate::actors::tests) fn cancel_without_forget(&self, watch_id: WatchId) {
        let state = self.state();
        let live = state.watches().get(watch_id).cloned();
        let shared = live.and_then(|live| live.shared.upgrade());
        let cancelled = &shared.expect("a live watch").cancelled;
        cancelled.store(true, std::sync::atomic::Ordering::Release);
    }

    /// Reads on until nothing more comes.
    pub(in crate::actors::tests) async fn read_all(&mut self) -> Vec<Response> {
        let mut responses = Vec::new();
        loop {
            settle().await;
            let more = self.drain().await;
            if more.is_empty() {
                return responses;
            }
            responses.extend(more);
        }
    }

    /// The next response, if there is one now.
    pub(in crate::actors::tests) async fn try_next(&mut self) -> Option<Response> {
        let next = poll_fn(|cx| match self.reader.poll_next(cx) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending => Poll::Ready(None),
        });
        Some(match next.await? {
            Next::End(end) => Response::End(end),
            Next::Item(item) => match item {
                StreamItem::Created { watch_id, revision } => {
                    Response::Created(watch_id.0, revision.0)
                }
                StreamItem::Rejected { reason, .. } => Response::Rejected(reason),
                StreamItem::Events {
                    watch_id, batch, ..
                } => Response::Events(watch_id.0, seen_of(batch.events(), batch.with_prev())),
                StreamItem::Progress { watch_id, revision } => {
                    Response::Progress(watch_id.0, revision.0)
                }
                StreamItem::Canceled { watch_id, .. } => Response::Canceled(watch_id.0),
                StreamItem::Compacted {
                    watch_id,
                    compact_revision,
                } => Response::Compacted(watch_id.0, compact_revision.0),
            },
        })
    }
}

/// A create request for a range, from a revision on (0: from now on).
pub(in crate::actors::tests) fn create(range: KeyRange, start_revision: i64) -> WatchCreate {
    WatchCreate {
        watch_id: WatchId::AUTO,
        range,
        start_revision,
        filters: EventFilters::default(),
        prev_kv: false,
        fragment: false,
        progress_notify: false,
    }
}
