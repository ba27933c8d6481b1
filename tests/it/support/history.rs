//! The authoritative history: every change that a server has acknowledged, under the revision it acknowledged.
//!
//! It is made from answers to writes alone, never from what a watch said, so that watches can be held against it.

use super::client::Client;
use super::convert;
use super::mvccpb::Event;
use super::pb::request_op::Request as Op;
use super::pb::{RequestOp, TxnRequest};
use super::requests::all_of;
use crate::validator::history_of;
use crate::validator::record::{Answer, Line, Outcome, Range, Request};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// How many puts are on their way at once when many are asked for.
const WRITERS: usize = 64;

/// One change that was asked for.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A put.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// A delete of every key in a range.
    Delete {
        /// The range, as on the wire.
        key: Bytes,
        /// Its end, as on the wire.
        range_end: Bytes,
    },
}

/// What was written and what was compacted, shared by everyone who writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    changes: BTreeMap<i64, Vec<Change>>,
    compactions: Vec<i64>,
}

impl History {
    /// Notes an acknowledged write.
    pub(crate) fn record(&self, revision: i64, changes: Vec<Change>) {
        let mut inner = self.inner.lock().expect("nobody panics while recording");
        let earlier = inner.changes.insert(revision, changes);
        assert!(earlier.is_none(), "revision {revision} was given out twice");
    }

    /// Puts and notes it; returns the revision.
    pub(crate) async fn put(
        &self,
        client: &Client,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> i64 {
        let (key, value) = (key.into(), value.into());
        let revision = client.put(key.clone(), value.clone()).await;
        self.record(revision, vec![Change::Put { key, value }]);
        revision
    }

    /// Puts `count` keys under `prefix`, many at a time, and notes them.
    pub(crate) async fn puts(&self, client: &Client, prefix: &str, count: i64) {
        stream::iter(0..count)
            .for_each_concurrent(WRITERS, |number| async move {
                let key = format!("{prefix}{number:06}");
                self.put(client, key, format!("{number}")).await;
            })
            .await;
    }

    /// Deletes and notes it when there was something to delete.
    pub(crate) async fn delete(
        &self,
        client: &Client,
        key: impl Into<Bytes>,
        range_end: impl Into<Bytes>,
    ) {
        let (key, range_end) = (key.into(), range_end.into());
        let answer = client.delete(key.clone(), range_end.clone()).await;
        if answer.deleted > 0 {
            let revision = answer.header.expect("a header").revision;
            self.record(revision, vec![Change::Delete { key, range_end }]);
        }
    }

    /// Runs puts and deletes in one transaction and notes them. At least one must change something.
    pub(crate) async fn txn(&self, client: &Client, ops: Vec<RequestOp>) -> i64 {
        let txn: TxnRequest = all_of(ops);
        let changes = txn.success.iter().map(change_of).collect();
        let answer = client.txn(txn).await.expect("a txn is accepted");
        let revision = answer.header.expect("a header").revision;
        self.record(revision, changes);
        revision
    }

    /// Compacts and notes it. A compaction that came too late is no error.
    pub(crate) async fn compact(&self, client: &Client, revision: i64) {
        if client.compact(revision).await.is_ok() {
            self.note_compaction(revision);
        }
    }

    /// Notes a compaction that was carried out.
    pub(crate) fn note_compaction(&self, revision: i64) {
        let mut inner = self.inner.lock().expect("nobody panics while recording");
        inner.compactions.push(revision);
    }

    /// The last revision below which everything was acknowledged.
    pub(crate) fn acknowledged(&self) -> i64 {
        let inner = self.inner.lock().expect("nobody panics while recording");
        let unbroken = (2..).zip(inner.changes.keys());
        let last = unbroken
            .take_while(|(expected, revision)| expected == *revision)
            .last();
        last.map_or(1, |(revision, _)| revision)
    }

    /// The last revision.
    pub(crate) fn last(&self) -> i64 {
        let inner = self.inner.lock().expect("nobody panics while recording");
        inner.changes.keys().next_back().copied().unwrap_or(1)
    }

    /// The revisions that were acknowledged.
    pub(crate) fn revisions(&self) -> BTreeSet<i64> {
        let inner = self.inner.lock().expect("nobody panics while recording");
        inner.changes.keys().copied().collect()
    }

    /// All events there have been, as a watch of everything with previous values would tell them.
    pub(crate) fn replay(&self) -> Replay {
        let inner = self.inner.lock().expect("nobody panics while recording");
        let mut lines = Vec::new();
        let mut call = |request: Request, revision: i64, answer: Answer| {
            let call = lines.len() as u64;
            lines.push(Line::Call { call, request });
            let outcome = Outcome::Done { revision, answer };
            lines.push(Line::Return { call, outcome });
        };
        for revision in inner.compactions.iter().copied() {
            call(Request::Compact { revision }, revision, Answer::Compact);
        }
        for (expected, (revision, changes)) in (2..).zip(&inner.changes) {
            assert_eq!(*revision, expected, "the history has no hole");
            let txn = Request::Txn {
                compares: Vec::new(),
                success: changes.iter().map(request_of).collect(),
                failure: Vec::new(),
            };
            // Only that it changed something counts here; what it answered was not noted.
            call(txn, *revision, Answer::Put { prev_kv: None });
        }
        let history = history_of(&lines).without_lines();
        let places = 0..history.place_of(history.last() + 1);
        let events = places.filter_map(|place| history.at(place));
        Replay {
            events: events.map(convert::to_event).collect(),
            compactions: inner.compactions.clone(),
            history,
        }
    }
}

/// A history that is complete.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replay {
    /// Every event, in order, with its previous value.
    pub(crate) events: Vec<Event>,
    /// Every revision that was compacted at.
    pub(crate) compactions: Vec<i64>,
    /// The same for the validator.
    pub(crate) history: crate::validator::history::History,
}

fn request_of(change: &Change) -> Request {
    match change.clone() {
        Change::Put { key, value } => Request::Put {
            key,
            value,
            lease: 0,
            prev_kv: false,
        },
        Change::Delete { key, range_end } => Request::Delete {
            range: Range {
                key,
                end: range_end,
            },
            prev_kv: false,
        },
    }
}

fn change_of(op: &RequestOp) -> Change {
    match op.request.clone().expect("an operation") {
        Op::RequestPut(put) => Change::Put {
            key: put.key,
            value: put.value,
        },
        Op::RequestDeleteRange(delete) => Change::Delete {
            key: delete.key,
            range_end: delete.range_end,
        },
        other => panic!("a recorded transaction writes only: {other:?}"),
    }
}
