//! Bugs that other stores have had between memory and disk, re-enacted on this one.
//!
//! A test is named after the project and the number of its bug; `actors/tests/known_bugs.rs` has those of the watches.

use super::super::testing::{Store, delete, history, plain, put, put_op, small, tiny, txn};
use super::super::{Readers, StorageLimits, open};
use crate::model::{EventKind, KeyRange, Op, Revision, Write};

/// A change of the buffer between writers and the database, where a key can lie in both, gave readers of history one
/// change twice, and watches told it twice. Here a block lies in the commit log, on its way into the engine, in the engine,
/// or is rewritten by a compaction, while history is read.
#[test]
fn etcd_17247_history_has_every_change_once_while_it_moves_from_the_log_to_the_engine() {
    for readers in [Readers::Inline, Readers::Threads(2)] {
        let dir = tempfile::tempdir().unwrap();
        let limits = StorageLimits {
            // A generation of the log is a few groups, and nothing is answered from memory.
            log_bytes_max: 8 << 10,
            history_cache_bytes_max: 0,
            value_cache_bytes_max: 0,
            block_bytes_max: 1 << 10,
            compaction_blocks_per_step: 1,
            ..small()
        };
        let (mut writer, view) = open(dir.path(), limits, readers).unwrap();
        let mut written = Vec::new();
        for round in 0..120_usize {
            for number in 0..4 {
                let key = format!("pods/{}", (round * 3 + number) % 10);
                let write = match number {
                    0 => put(&key, &format!("{round:0200}")),
                    // One revision with several changes.
                    1 => txn(vec![
                        Op::Put(put_op(&key, "txn")),
                        Op::Put(put_op(&format!("index/{key}"), &format!("{round}"))),
                    ]),
                    2 => delete(KeyRange::single(key)),
                    _ => put(&key, &format!("{round}")),
                };
                let applied = writer.apply(&write, false);
                assert!(applied.is_ok(), "{write:?}");
            }
            let commits = writer.commit().unwrap();
            written.extend(commits.iter().map(|commit| plain(commit)));
            if round % 40 == 39 {
                let behind = view.revision().0 - 60;
                writer.compact(Revision(behind)).unwrap();
            }
            writer.compaction_step().unwrap();
            let first = view.compact_revision().0.max(2);
            let read = history(&view, first, view.revision().0).unwrap();
            let read: Vec<_> = read.iter().map(|commit| plain(commit)).collect();
            let kept = written
                .iter()
                .filter(|(revision, _)| revision.0 >= first)
                .cloned();
            assert_eq!(read, kept.collect::<Vec<_>>(), "round {round}");
        }
        writer.close().unwrap();
    }
}

/// A store with two deletes in a row, which are their keys' last changes.
fn two_deletes() -> (Store, Revision) {
    let mut store = Store::new(tiny());
    for key in ["a", "b", "c"] {
        store.put(key, "value");
    }
    store.put("c", "value");
    let first = store.delete(KeyRange::single("a"));
    store.delete(KeyRange::single("b"));
    store.put("c", "value");
    (store, first)
}

fn deletes_from(store: &Store, from: Revision) -> Vec<(i64, String)> {
    let commits = history(&store.view, from.0, store.view.revision().0).unwrap();
    let events = commits.iter().flat_map(|commit| &commit.events);
    events
        .filter(|event| event.kind == EventKind::Delete)
        .map(|event| {
            let key = String::from_utf8_lossy(&event.kv.key).into_owned();
            (event.kv.mod_revision.0, key)
        })
        .collect()
}

/// A crash before a compaction was marked as finished: the restart did the rest of it and forgot that the delete at the
/// compact revision is to stay, so that a watch from there began one delete too late. Here the index that is rebuilt, or
/// the compaction that goes on, would drop that tombstone, at whatever step the power goes.
#[test]
fn etcd_19179_a_delete_at_the_compact_revision_outlives_a_crash_in_the_compaction() {
    let mut calls = 0;
    loop {
        let (mut store, first) = two_deletes();
        let expected = [(first.0, "a".to_owned()), (first.0 + 1, "b".to_owned())];
        let (scheduled, finished) = store.compact_failing_after(calls, first);
        for kept in [0, 1] {
            let mut cut = Store::on(store.disk.after_power_cut(kept), tiny());
            assert_eq!(deletes_from(&cut, first), expected, "opened, {calls} calls");
            cut.settle();
            assert_eq!(deletes_from(&cut, first), expected, "done, {calls} calls");
            let again = cut.reopened();
            assert_eq!(
                deletes_from(&again, first),
                expected,
                "again, {calls} calls"
            );
            let write: Write = put("a", "new life");
            cut.apply(write).unwrap();
            cut.commit();
            assert_eq!(cut.get("a", 0).unwrap().version, 1, "it was deleted");
        }
        if scheduled && finished {
            break;
        }
        calls += 1;
    }
    assert!(calls > 3, "the compaction takes several calls");
}
