//! Short ways to write commits, classes and entries in the tests of this room.
//!
//! Never used outside tests.

use super::{BatchLimits, Entry, WatcherId};
use crate::model::{
    Commit, Event, EventFilters, EventKind, KeyRange, KeyValue, RangeEnd, Revision, WatchClass,
};
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::Arc;

/// A put of `key` at `revision`; it created nothing, so that nobody knows its previous value.
pub(super) fn put(revision: i64, key: &[u8]) -> Arc<Event> {
    event(EventKind::Put, revision, key, b"v")
}

/// A put with a value of `value_bytes`.
pub(super) fn big_put(revision: i64, key: &[u8], value_bytes: usize) -> Arc<Event> {
    event(EventKind::Put, revision, key, &vec![b'v'; value_bytes])
}

/// A delete of `key` at `revision`.
pub(super) fn delete(revision: i64, key: &[u8]) -> Arc<Event> {
    event(EventKind::Delete, revision, key, b"")
}

fn event(kind: EventKind, revision: i64, key: &[u8], value: &[u8]) -> Arc<Event> {
    let kv = KeyValue {
        key: Bytes::copy_from_slice(key),
        create_revision: Revision(1),
        mod_revision: Revision(revision),
        version: 2,
        value: Bytes::copy_from_slice(value),
        ..KeyValue::default()
    };
    Arc::new(Event::new(kind, kv))
}

/// The commit of these events, which are all of one revision.
pub(super) fn commit(events: Vec<Arc<Event>>) -> Arc<Commit> {
    let revision = events[0].kv.mod_revision;
    Arc::new(Commit { revision, events })
}

/// One commit for each key, a put of it, at the revisions from `first` on.
pub(super) fn commits(first: i64, keys: &[&[u8]]) -> Vec<Arc<Commit>> {
    (first..)
        .zip(keys)
        .map(|(at, key)| commit(vec![put(at, key)]))
        .collect()
}

/// The class of all events of a range.
pub(super) fn class_of(range: KeyRange) -> Arc<WatchClass> {
    Arc::new(WatchClass {
        range,
        filters: EventFilters::default(),
        prev_kv: false,
    })
}

/// An entry without a way to its watcher.
pub(super) fn entry(id: u64, class: &Arc<WatchClass>, next_revision: i64) -> Entry<()> {
    Entry {
        id: WatcherId(id),
        class: Arc::clone(class),
        next_revision: Revision(next_revision),
        link: (),
    }
}

/// Limits with room for everything.
pub(super) fn no_limits() -> BatchLimits {
    BatchLimits {
        delivery_bytes_max: usize::MAX,
        revisions_per_batch_max: usize::MAX,
    }
}

/// Limits of so many revisions.
pub(super) fn revisions_max(revisions: usize) -> BatchLimits {
    BatchLimits {
        revisions_per_batch_max: revisions,
        ..no_limits()
    }
}

/// Revision, key and kind of events: what a test compares.
pub(super) type Told = (i64, Vec<u8>, EventKind);

/// What a watcher that got these events was told.
pub(super) fn told(events: &[Arc<Event>]) -> Vec<Told> {
    events
        .iter()
        .map(|event| (event.kv.mod_revision.0, event.kv.key.to_vec(), event.kind))
        .collect()
}

/// What a watcher of `class` from `from` on must have been told, by asking each event.
pub(super) fn expected(class: &WatchClass, commits: &[Arc<Commit>], from: Revision) -> Vec<Told> {
    let mut all = Vec::new();
    for commit in commits {
        for event in &commit.events {
            let wanted = class.range.contains(&event.kv.key) && class.filters.admit(event.kind);
            if wanted && commit.revision >= from {
                all.extend(told(std::slice::from_ref(event)));
            }
        }
    }
    all
}

/// Short keys of few letters, the awkward ones included, so that ranges and keys meet often.
pub(super) fn any_key() -> impl Strategy<Value = Bytes> {
    let letter = prop_oneof![
        4 => Just(b'a'),
        3 => Just(b'b'),
        1 => Just(0_u8),
        2 => Just(0xff_u8),
    ];
    proptest::collection::vec(letter, 0..4).prop_map(Bytes::from)
}

/// Ranges of all shapes, empty ones included.
pub(super) fn any_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        any_key().prop_map(KeyRange::single),
        any_key().prop_map(KeyRange::prefix),
        any_key().prop_map(|start| KeyRange {
            start,
            end: RangeEnd::Open
        }),
        (any_key(), any_key()).prop_map(|(start, end)| KeyRange {
            start,
            end: RangeEnd::Until(end)
        }),
    ]
}

/// Classes over ranges of all shapes.
pub(super) fn any_class() -> impl Strategy<Value = Arc<WatchClass>> {
    (any_range(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(range, no_put, no_delete, prev_kv)| {
            Arc::new(WatchClass {
                range,
                filters: EventFilters { no_put, no_delete },
                prev_kv,
            })
        },
    )
}

/// A history from `first` on: each commit one to three events, revisions without a gap.
pub(super) fn any_commits(
    first: i64,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<Arc<Commit>>> {
    let changes = proptest::collection::vec((any_key(), any::<bool>()), 1..4);
    proptest::collection::vec(changes, count).prop_map(move |history| {
        (first..)
            .zip(history)
            .map(|(at, changes)| {
                let events = changes
                    .iter()
                    .map(|(key, is_put)| {
                        if *is_put {
                            put(at, key)
                        } else {
                            delete(at, key)
                        }
                    })
                    .collect();
                commit(events)
            })
            .collect()
    })
}
