//! A line of keys under one name, in which whoever came first is at the head: what locks and elections are made of.
//!
//! Whoever stands in it has a key `name/lease` on a lease, and waits until every key that was created before its own is
//! gone. It waits by watching, never by asking again and again; and who gives up waiting leaves no key behind.

use crate::api::status;
use crate::backend::{
    BackendError, Next, OutboxReader, StoreBackend, StreamItem, WatchControl, WatchCreate,
};
use crate::model::{
    Compare, CompareResult, CompareTarget, DeleteRange, Event, EventFilters, EventKind, KeyRange,
    KeyValue, LeaseId, Op, OpBody, Put, RangeQuery, Revision, RevisionBounds, SortOrder,
    SortTarget, Txn, WatchId, Write,
};
use bytes::Bytes;
use futures_util::future::{Either, select};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// How long a lease lives that a caller did not bring, in seconds; etcd's.
const SESSION_TTL_SECONDS: i64 = 60;
/// How often such a lease is kept alive while its caller waits.
const SESSION_KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A place in a line.
#[derive(Debug)]
pub(crate) struct Place<B: StoreBackend> {
    backend: B,
    /// What the keys of the line begin with.
    prefix: Bytes,
    /// The key that stands for whoever holds the place.
    pub(super) key: Bytes,
    /// The lease that the key ends with.
    pub(super) lease: LeaseId,
    /// When the key was created: its number in the line.
    pub(super) created: Revision,
    /// The store's revision when it was joined.
    pub(super) joined: Revision,
    /// What the key says, when it was there already.
    pub(super) found: Option<Bytes>,
    /// The lease is of our making, and nobody else keeps it alive.
    is_session: bool,
    /// The key is deleted when this is dropped.
    leaves: bool,
}

/// What the keys of a line begin with.
fn prefix_of(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The key of whoever stands in the line with this lease.
fn key_of(prefix: &[u8], lease: LeaseId) -> Bytes {
    let sign = if lease.0 < 0 { "-" } else { "" };
    let number = format!("{sign}{:x}", lease.0.unsigned_abs());
    [prefix, number.as_bytes()].concat().into()
}

/// What the backend answered, or what is said of why it did not.
pub(super) fn answered<T>(answer: Result<T, BackendError>) -> Result<T, Status> {
    answer.map_err(|error| status::in_line(&error))
}

impl<B: StoreBackend> Place<B> {
    /// Joins a line at its end, or finds the place that the lease has in it.
    ///
    /// A caller who gives up before the answer has a key all the same. On a lease of our making nobody would know of it, so it is
    /// a task of its own that joins, and leaves when nobody takes the place. On a lease of his own the caller finds it again,
    /// and may be doing so by now.
    pub(crate) async fn join(
        backend: &B,
        name: &[u8],
        lease: LeaseId,
        value: Bytes,
    ) -> Result<Self, Status> {
        let enter = Self::enter(backend.clone(), prefix_of(name), lease, value);
        if lease != LeaseId::NONE {
            return enter.await;
        }
        let joined = tokio::task::spawn_local(enter);
        joined.await.map_err(|_| status::stopped())?
    }

    async fn enter(
        backend: B,
        prefix: Bytes,
        lease: LeaseId,
        value: Bytes,
    ) -> Result<Self, Status> {
        let is_session = lease == LeaseId::NONE;
        let lease = if is_session {
            let granted = backend.grant_lease(lease, SESSION_TTL_SECONDS).await;
            answered(granted)?.id
        } else {
            lease
        };
        let key = key_of(&prefix, lease);
        let put = Put {
            key: key.clone(),
            value,
            lease,
            ..Put::default()
        };
        let find = RangeQuery::latest(KeyRange::single(key.clone()));
        let txn = Txn {
            compares: vec![created_at(key.clone(), 0)],
            success: vec![Op::Put(put)],
            failure: vec![Op::Range(find)],
        };
        let answer = answered(backend.write(Write::Txn(txn)).await)?;
        let found = match answer.body {
            OpBody::Txn(txn) => txn.responses.into_iter().find_map(|op| match op.body {
                OpBody::Range(range) => range.kvs.into_iter().next(),
                _ => None,
            }),
            _ => None,
        };
        Ok(Self {
            backend,
            prefix,
            key,
            lease,
            created: found
                .as_ref()
                .map_or(answer.revision, |kv| kv.create_revision),
            joined: answer.revision,
            found: found.map(|kv| kv.value.clone()),
            is_session,
            leaves: true,
        })
    }

    /// Waits until nobody stands before this place.
    pub(super) async fn wait(&self) -> Result<(), Status> {
        let turn = pin!(self.wait_for_turn());
        if !self.is_session {
            return turn.await;
        }
        match select(turn, pin!(self.keep_alive())).await {
            Either::Left((turn, _)) => turn,
            Either::Right((never, _)) => match never {},
        }
    }

    /// The place is taken: its key stays.
    pub(super) fn keep(mut self) -> (Bytes, LeaseId) {
        self.leaves = false;
        (self.key.clone(), self.lease)
    }

    async fn wait_for_turn(&self) -> Result<(), Status> {
        loop {
            let before = RangeQuery {
                limit: 1,
                sort_target: SortTarget::Create,
                sort_order: SortOrder::Descend,
                bounds: RevisionBounds {
                    create_max: self.created.0 - 1,
                    ..RevisionBounds::default()
                },
                ..RangeQuery::latest(KeyRange::prefix(self.prefix.clone()))
            };
            let (revision, answer) = answered(self.backend.range(before).await)?;
            let Some(kv) = answer.kvs.first() else {
                return Ok(());
            };
            let range = KeyRange::single(kv.key.clone());
            let mut watch = LineWatch::open(&self.backend, range, revision.next()).await?;
            while watch
                .next()
                .await?
                .is_some_and(|event| event.kind != EventKind::Delete)
            {}
        }
    }

    async fn keep_alive(&self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(SESSION_KEEP_ALIVE).await;
            let kept = self.backend.keep_leases_alive(vec![self.lease]).await;
            if let Err(error) = kept {
                log::debug!("the lease of a waiting client is not kept alive: {error}");
            }
        }
    }
}

impl<B: StoreBackend> Drop for Place<B> {
    /// The caller has gone, or was told that it failed: who stands behind shall not wait for it.
    fn drop(&mut self) {
        if !self.leaves {
            return;
        }
        let (backend, created) = (self.backend.clone(), self.created);
        let leave = delete_created_at(self.key.clone(), created.0);
        tokio::task::spawn_local(async move {
            if let Err(error) = backend.write(leave).await {
                log::debug!("a place in a line ends with its lease only: {error}");
            }
        });
    }
}

/// The condition that a key was created at this revision; 0 is that it does not exist.
pub(super) fn created_at(key: Bytes, revision: i64) -> Compare {
    Compare {
        range: KeyRange::single(key),
        target: CompareTarget::Create(revision),
        result: CompareResult::Equal,
    }
}

/// Deletes a key if it is the one that was created at this revision.
pub(super) fn delete_created_at(key: Bytes, revision: i64) -> Write {
    let delete = DeleteRange {
        range: KeyRange::single(key.clone()),
        prev_kv: false,
    };
    Write::Txn(Txn {
        compares: vec![created_at(key, revision)],
        success: vec![Op::Delete(delete)],
        failure: Vec::new(),
    })
}

/// Who stands at the head of a line, with the store's revision.
pub(super) async fn head<B: StoreBackend>(
    backend: &B,
    name: &[u8],
) -> Result<(Revision, Option<Arc<KeyValue>>), Status> {
    let first = RangeQuery {
        limit: 1,
        sort_target: SortTarget::Create,
        sort_order: SortOrder::Ascend,
        ..RangeQuery::latest(KeyRange::prefix(prefix_of(name)))
    };
    let (revision, answer) = answered(backend.range(first).await)?;
    Ok((revision, answer.kvs.into_iter().next()))
}

/// A watch of keys of a line.
#[derive(Debug)]
pub(super) struct LineWatch<B: StoreBackend> {
    _control: B::Control,
    reader: OutboxReader,
    events: VecDeque<Arc<Event>>,
}

impl<B: StoreBackend> LineWatch<B> {
    /// Watches one key from a revision on.
    pub(super) async fn open(
        backend: &B,
        range: KeyRange,
        start: Revision,
    ) -> Result<Self, Status> {
        let (mut control, reader) = answered(backend.open_stream())?;
        let create = WatchCreate {
            range,
            watch_id: WatchId::AUTO,
            start_revision: start.0,
            filters: EventFilters::default(),
            prev_kv: false,
            fragment: false,
            progress_notify: false,
        };
        control.create(vec![create]).await;
        Ok(Self {
            _control: control,
            reader,
            events: VecDeque::new(),
        })
    }

    /// Watches a whole line from a revision on.
    pub(super) async fn line(backend: &B, name: &[u8], start: Revision) -> Result<Self, Status> {
        Self::open(backend, KeyRange::prefix(prefix_of(name)), start).await
    }

    /// The next event; nothing when it was compacted before it was read, and the caller has to look anew.
    pub(super) async fn next(&mut self) -> Result<Option<Arc<Event>>, Status> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match poll_fn(|cx| self.reader.poll_next(cx)).await {
                Next::Item(StreamItem::Events { batch, .. }) => {
                    self.events.extend(batch.events().iter().cloned());
                }
                Next::Item(StreamItem::Compacted { .. }) => return Ok(None),
                Next::Item(StreamItem::Rejected { reason, .. }) => {
                    return Err(Status::resource_exhausted(status::rejection(&reason)));
                }
                Next::Item(_) => {}
                Next::End(end) => return Err(status::stream_end(end)),
            }
        }
    }
}
