//! What a write does: revisions, puts, deletes, transactions.

use super::super::testing::{Store, delete, put, put_op, read, refusal, small, txn, write_refusal};
use super::super::{ApplyError, StorageError};
use crate::model::{
    Compare, CompareResult, CompareTarget, DeleteRange, EventKind, KeyRange, KeyValue, LeaseId, Op,
    OpBody, Put, RangeQuery, Refusal, Revision, Txn, TxnAnswer, Write,
};
use bytes::Bytes;

fn txn_answer(store: &mut Store, txn: Txn) -> TxnAnswer {
    match store.apply(Write::Txn(txn)).unwrap().body {
        OpBody::Txn(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn compare(range: KeyRange, target: CompareTarget, result: CompareResult) -> Compare {
    Compare {
        range,
        target,
        result,
    }
}

#[test]
fn fresh_store_is_at_revision_one_and_its_first_write_at_two() {
    let mut store = Store::new(small());
    assert_eq!(store.view.revision(), Revision(1));
    assert_eq!(store.view.compact_revision(), Revision(-1));
    assert_eq!(store.put("a", "1"), Revision(2));
}

#[test]
fn write_that_changes_nothing_takes_no_revision() {
    let mut store = Store::new(small());
    store.put("a", "1");
    assert_eq!(store.delete(KeyRange::single("b")), Revision(2));
    let answer = store.apply(txn(Vec::new())).unwrap();
    assert_eq!(answer.revision, Revision(2));
    assert!(store.commit().is_empty());
}

#[test]
fn put_counts_versions_and_begins_anew_after_a_delete() {
    let mut store = Store::new(small());
    store.put("a", "1");
    store.put("a", "1");
    let kv = store.get("a", 0).unwrap();
    assert_eq!(
        (kv.create_revision.0, kv.mod_revision.0, kv.version),
        (2, 3, 2)
    );
    store.delete(KeyRange::single("a"));
    store.put("a", "2");
    let kv = store.get("a", 0).unwrap();
    assert_eq!(
        (kv.create_revision.0, kv.mod_revision.0, kv.version),
        (5, 5, 1)
    );
    assert_eq!(store.get("a", 4), None);
    assert_eq!(store.get("a", 3).unwrap().version, 2);
}

#[test]
fn write_sees_earlier_writes_of_its_group() {
    let mut store = Store::new(small());
    store.apply(put("a", "1")).unwrap();
    let answer = store.apply(Write::Put(Put {
        prev_kv: true,
        ..put_op("a", "2")
    }));
    let OpBody::Put { prev: Some(prev) } = answer.unwrap().body else {
        panic!("no previous value");
    };
    assert_eq!((&prev.value[..], prev.version), (&b"1"[..], 1));
    assert_eq!(store.writer.revision(), Revision(3));
    assert_eq!(store.view.revision(), Revision(1));
    assert_eq!(store.get("a", 0), None);
    assert_eq!(store.commit().len(), 2);
    assert_eq!(store.get("a", 0).unwrap().version, 2);
}

#[test]
fn put_keeps_what_it_is_told_to_keep() {
    let mut store = Store::new(small());
    let keep = |key: &str| Put {
        ignore_value: true,
        ignore_lease: true,
        ..put_op(key, "")
    };
    assert_eq!(
        write_refusal(store.apply(Write::Put(keep("a")))),
        Refusal::KeyNotFound
    );
    store.put("a", "1");
    store.apply(Write::Put(keep("a"))).unwrap();
    store.commit();
    let kv = store.get("a", 0).unwrap();
    assert_eq!((&kv.value[..], kv.version), (&b"1"[..], 2));
}

#[test]
fn put_with_a_lease_is_refused_while_there_are_none() {
    let mut store = Store::new(small());
    let leased = Put {
        lease: LeaseId(7),
        ..put_op("a", "1")
    };
    assert_eq!(
        write_refusal(store.apply(Write::Put(leased.clone()))),
        Refusal::LeaseNotFound
    );
    let ops = vec![Op::Put(put_op("b", "1")), Op::Put(leased)];
    assert_eq!(write_refusal(store.apply(txn(ops))), Refusal::LeaseNotFound);
    assert!(store.commit().is_empty());
}

#[test]
fn delete_answers_what_it_deleted_in_key_order() {
    let mut store = Store::new(small());
    store.put("b", "2");
    store.put("a", "1");
    store.put("c", "3");
    store.apply(put("b", "4")).unwrap();
    let answer = store.apply(Write::Delete(DeleteRange {
        range: KeyRange::from_wire("a".into(), "c".into()),
        prev_kv: true,
    }));
    let OpBody::Delete { deleted, prevs } = answer.unwrap().body else {
        panic!("not a delete");
    };
    let values: Vec<_> = prevs.iter().map(|kv| kv.value.clone()).collect();
    assert_eq!(
        (deleted, values),
        (2, vec![Bytes::from("1"), Bytes::from("4")])
    );
    let commits = store.commit();
    let events = &commits[1].events;
    assert_eq!(events[0].kv, KeyValue::tombstone("a".into(), Revision(6)));
    assert_eq!(
        (events[1].kind, &events[1].kv.key[..]),
        (EventKind::Delete, &b"b"[..])
    );
}

#[test]
fn w7_events_know_their_previous_values_when_asked_for() {
    let mut store = Store::new(small());
    store.put("a", "1");
    store.apply(put("a", "2")).unwrap();
    store.apply(delete(KeyRange::single("a"))).unwrap();
    store.apply(put("a", "3")).unwrap();
    let commits = store.commit();
    let prevs = commits.iter().map(|commit| {
        let prev = commit.events[0].prev().expect("looked up");
        prev.map(|kv| (kv.value.clone(), kv.mod_revision.0))
    });
    let expected = [Some(("1".into(), 2)), Some(("2".into(), 3)), None];
    assert_eq!(prevs.collect::<Vec<_>>(), expected);
    store.writer.apply(&put("a", "4"), false).unwrap();
    assert_eq!(store.commit()[0].events[0].prev(), None);
}

#[test]
fn cached_value_does_not_keep_its_request_in_memory() {
    let mut store = Store::new(small());
    let request = Bytes::from(vec![b'x'; 100_000]);
    let slice = |at: usize| request.slice(at..at + 3);
    let write = Write::Put(Put {
        key: slice(0),
        value: slice(10),
        ..Put::default()
    });
    store.apply(write).unwrap();
    store.commit();
    assert!(request.is_unique());
}

#[test]
fn transaction_has_one_revision_and_its_reads_see_its_writes() {
    let mut store = Store::new(small());
    store.put("a", "1");
    let range = |key: &str| Op::Range(RangeQuery::latest(KeyRange::prefix(key.to_owned())));
    let old = Op::Range(RangeQuery {
        revision: 2,
        ..RangeQuery::latest(KeyRange::single("a"))
    });
    let deletes = Op::Delete(DeleteRange {
        range: KeyRange::single("a"),
        prev_kv: false,
    });
    let ops = vec![
        range(""),
        Op::Put(put_op("b", "2")),
        range("b"),
        deletes,
        range("a"),
        old,
    ];
    let write = Write::Txn(Txn {
        success: ops,
        ..Txn::default()
    });
    let answer = store.apply(write).unwrap();
    assert_eq!(answer.revision, Revision(3));
    let OpBody::Txn(answer) = answer.body else {
        panic!()
    };
    let revisions: Vec<_> = answer.responses.iter().map(|op| op.revision.0).collect();
    assert_eq!(revisions, [2, 3, 3, 3, 3, 3]);
    let counts = answer.responses.iter().filter_map(|op| match &op.body {
        OpBody::Range(range) => Some(range.count),
        _ => None,
    });
    assert_eq!(counts.collect::<Vec<_>>(), [1, 1, 0, 1]);
    let commits = store.commit();
    assert_eq!((commits.len(), commits[0].events.len()), (1, 2));
}

#[test]
fn transaction_runs_the_branch_that_its_conditions_choose() {
    use CompareResult::{Equal, Greater, Less, NotEqual, Unknown};
    use CompareTarget as T;
    let mut store = Store::new(small());
    store.put("a", "1");
    store.put("a", "m");
    store.put("b", "z");
    let one = || KeyRange::single("a");
    let both = || KeyRange::prefix("");
    let none = || KeyRange::single("missing");
    let empty = || KeyRange::from_wire("b".into(), "a".into());
    let value = |text: &'static str| T::Value(Bytes::from_static(text.as_bytes()));
    let cases = [
        (one(), T::Version(2), Equal, true),
        (one(), T::Version(1), Greater, true),
        (one(), T::Version(2), NotEqual, false),
        (one(), T::Create(2), Equal, true),
        (one(), T::Mod(4), Less, true),
        (one(), value("m"), Equal, true),
        (one(), value("n"), Less, true),
        (one(), T::Lease(0), Equal, true),
        (both(), value("l"), Greater, true),
        (both(), value("m"), Greater, false),
        (both(), T::Version(0), Greater, true),
        (both(), T::Version(2), Equal, false),
        (none(), T::Version(0), Equal, true),
        (none(), T::Mod(0), Greater, false),
        (none(), value(""), Equal, false),
        (none(), value("x"), NotEqual, false),
        (none(), T::Lease(0), Equal, true),
        (empty(), T::Create(0), Equal, true),
        (one(), T::Unknown, Equal, true),
        (one(), T::Unknown, Less, false),
        (one(), value("other"), Unknown, true),
    ];
    for (range, target, result, expected) in cases {
        let case = format!("{range:?} {target:?} {result:?}");
        let txn = Txn {
            compares: vec![compare(range, target, result)],
            ..Txn::default()
        };
        assert_eq!(txn_answer(&mut store, txn).succeeded, expected, "{case}");
    }
}

#[test]
fn all_conditions_see_the_state_before_the_transaction() {
    let mut store = Store::new(small());
    let absent = compare(
        KeyRange::single("a"),
        CompareTarget::Version(0),
        CompareResult::Equal,
    );
    let inner = Txn {
        compares: vec![absent],
        success: vec![Op::Put(put_op("b", "1"))],
        ..Txn::default()
    };
    let outer = Txn {
        success: vec![Op::Put(put_op("a", "1")), Op::Txn(inner)],
        ..Txn::default()
    };
    let answer = txn_answer(&mut store, outer);
    let OpBody::Txn(inner) = &answer.responses[1].body else {
        panic!()
    };
    assert!(answer.succeeded && inner.succeeded);
    assert_eq!(store.commit()[0].events.len(), 2);
}

#[test]
fn failing_check_of_one_operation_undoes_the_whole_transaction() {
    let mut store = Store::new(small());
    store.put("a", "1");
    let future = Op::Range(RangeQuery {
        revision: 3,
        ..RangeQuery::latest(KeyRange::single("a"))
    });
    let current = Revision(2);
    let ops = vec![Op::Put(put_op("b", "1")), future];
    assert_eq!(
        write_refusal(store.apply(txn(ops))),
        Refusal::FutureRevision { current }
    );
    // The check sees only what was there before the transaction.
    let keep = Op::Put(Put {
        ignore_value: true,
        ..put_op("c", "")
    });
    let ops = vec![Op::Put(put_op("b", "1")), keep];
    assert_eq!(write_refusal(store.apply(txn(ops))), Refusal::KeyNotFound);
    assert_eq!(store.writer.revision(), Revision(2));
    assert_eq!(store.get("b", 0), None);
    assert_eq!(store.put("b", "2"), Revision(3));
}

#[test]
fn transaction_refused_while_it_runs_leaves_no_trace() {
    let mut store = Store::new(super::super::StorageLimits {
        range_answer_bytes_max: 10,
        ..small()
    });
    store.put("a", "0123456789");
    let range = Op::Range(RangeQuery::latest(KeyRange::single("a")));
    let ops = vec![Op::Put(put_op("b", "1")), Op::Put(put_op("c", "1")), range];
    assert_eq!(
        write_refusal(store.apply(txn(ops))),
        Refusal::AnswerTooLarge { max: 10 }
    );
    assert!(store.commit().is_empty());
    assert_eq!(store.put("b", "2"), Revision(3));
    assert_eq!(store.get("b", 0).unwrap().version, 1);
}

#[test]
fn reads_in_a_transaction_take_negative_revisions_as_etcd_does() {
    let mut store = Store::new(small());
    store.put("a", "1");
    let at = |revision: i64| {
        txn(vec![Op::Range(RangeQuery {
            revision,
            ..RangeQuery::latest(KeyRange::single("a"))
        })])
    };
    store.apply(at(-1)).unwrap();
    let compact_revision = Revision(-1);
    assert_eq!(
        write_refusal(store.apply(at(-2))),
        Refusal::Compacted { compact_revision }
    );
    store.put("a", "2");
    store.compact(3);
    let compact_revision = Revision(3);
    assert_eq!(
        write_refusal(store.apply(at(-1))),
        Refusal::Compacted { compact_revision }
    );
    assert_eq!(
        write_refusal(store.apply(at(2))),
        Refusal::Compacted { compact_revision }
    );
    store.apply(at(3)).unwrap();
}

#[test]
fn compaction_waits_for_the_commit() {
    let mut store = Store::new(small());
    store.put("a", "1");
    store.apply(put("a", "2")).unwrap();
    let error = store.writer.compact(Revision(2)).unwrap_err();
    assert_eq!(error, ApplyError::Failed(StorageError::Uncommitted));
    assert_eq!(store.commit().len(), 1);
    let compacted = RangeQuery {
        revision: 2,
        ..RangeQuery::latest(KeyRange::single("a"))
    };
    store.compact(3);
    let compact_revision = Revision(3);
    assert_eq!(
        refusal(read(&store.view, compacted)),
        Refusal::Compacted { compact_revision }
    );
}
