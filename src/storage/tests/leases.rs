//! Leases and the keys attached to them, across groups, crashes and checkpoints.
//!
//! What a lease holds is compared with what its keys say of themselves, which is written in another place.

use super::super::StorageLimits;
use super::super::testing::{
    MemoryDisk, Store, delete, put_op, read, small, tiny, txn, write_refusal,
};
use crate::model::{EventKind, KeyRange, LeaseGrant, LeaseId, Op, Put, RangeQuery, Refusal, Write};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn grant(id: i64) -> Write {
    Write::LeaseGrant(LeaseGrant {
        id: LeaseId(id),
        ttl_seconds: 60 + id,
    })
}

fn revoke(id: i64) -> Write {
    Write::LeaseRevoke(LeaseId(id))
}

fn leased(key: &str, lease: i64) -> Put {
    Put {
        lease: LeaseId(lease),
        ..put_op(key, "v")
    }
}

fn keys(store: &Store, id: i64) -> Vec<Bytes> {
    store.view.keys_of_lease(LeaseId(id))
}

#[test]
fn a_revoked_lease_takes_its_keys_in_order_in_one_revision() {
    let mut store = Store::new(small());
    for write in [
        grant(7),
        Write::Put(leased("c", 7)),
        Write::Put(leased("a", 7)),
        Write::Put(put_op("b", "stays")),
    ] {
        store.apply(write).unwrap();
    }
    store.commit();
    assert_eq!(keys(&store, 7), ["a", "c"]);
    // One more in the group of the revocation, and one that changes sides in it.
    store.apply(Write::Put(leased("d", 7))).unwrap();
    store.apply(Write::Put(put_op("c", "free"))).unwrap();
    store.apply(revoke(7)).unwrap();
    let commits = store.commit();
    let events = &commits.last().unwrap().events;
    let deleted: Vec<_> = events
        .iter()
        .map(|event| (event.kind, &event.kv.key[..]))
        .collect();
    assert_eq!(
        deleted,
        [(EventKind::Delete, &b"a"[..]), (EventKind::Delete, b"d")]
    );
    assert_eq!(keys(&store, 7), Vec::<Bytes>::new());
    assert_eq!(store.view.leases(), []);
    assert!(store.get("c", 0).is_some() && store.get("b", 0).is_some());
}

#[test]
fn a_lease_without_keys_takes_no_revision_and_is_durable_all_the_same() {
    let mut store = Store::new(small());
    store.apply(grant(-3)).unwrap();
    assert_eq!(write_refusal(store.apply(grant(-3))), Refusal::LeaseExists);
    assert!(store.commit().is_empty());
    let disk = store.disk.after_power_cut(0);
    let mut store = Store::on(disk, small());
    assert_eq!(store.view.leases(), [(LeaseId(-3), 57)]);
    store.apply(revoke(-3)).unwrap();
    assert_eq!(
        write_refusal(store.apply(revoke(-3))),
        Refusal::LeaseNotFound
    );
    assert_eq!(
        write_refusal(store.apply(Write::Put(leased("a", -3)))),
        Refusal::LeaseNotFound
    );
    assert!(store.commit().is_empty());
    assert_eq!(store.reopened().view.leases(), []);
}

#[test]
fn a_refused_transaction_attaches_nothing() {
    let mut store = Store::new(small());
    store.apply(grant(1)).unwrap();
    let ops = vec![Op::Put(leased("a", 1)), Op::Put(leased("b", 2))];
    assert_eq!(write_refusal(store.apply(txn(ops))), Refusal::LeaseNotFound);
    store.commit();
    assert_eq!(keys(&store, 1), Vec::<Bytes>::new());
}

#[test]
fn a_key_that_keeps_its_lease_stays_attached() {
    let mut store = Store::new(small());
    store.apply(grant(1)).unwrap();
    store.apply(Write::Put(leased("a", 1))).unwrap();
    let keep = Put {
        ignore_lease: true,
        ..put_op("a", "new")
    };
    store.apply(Write::Put(keep)).unwrap();
    store.commit();
    assert_eq!(store.get("a", 0).unwrap().lease, LeaseId(1));
    assert_eq!(keys(&store, 1), ["a"]);
}

#[derive(Clone, Debug)]
enum Step {
    Grant(i64),
    Revoke(i64),
    /// In one transaction.
    Put(Vec<(String, i64)>),
    Delete(String),
    Commit,
    Reopen,
    /// Cuts the power after this many more writing calls.
    Crash(usize),
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || "[abc]{1,2}";
    let puts = prop::collection::btree_map(key(), 0..4_i64, 1..6);
    prop_oneof![
        4 => (1..4_i64).prop_map(Step::Grant),
        3 => (1..4_i64).prop_map(Step::Revoke),
        8 => puts.prop_map(|puts| Step::Put(puts.into_iter().collect())),
        2 => key().prop_map(Step::Delete),
        4 => Just(Step::Commit),
        1 => Just(Step::Reopen),
        1 => (0..6_usize).prop_map(Step::Crash),
        1 => Just(Step::Compact),
    ]
}

/// Every lease holds exactly the keys that say they are its own, and no key speaks of a lease that is gone.
fn check(store: &Store) {
    let all = read(&store.view, RangeQuery::latest(KeyRange::everything())).unwrap();
    let mut said: BTreeMap<LeaseId, Vec<Bytes>> = BTreeMap::new();
    for kv in &all.1.kvs {
        if kv.lease != LeaseId::NONE {
            said.entry(kv.lease).or_default().push(kv.key.clone());
        }
    }
    for (id, _) in store.view.leases() {
        let held = store.view.keys_of_lease(id);
        assert_eq!(held, said.remove(&id).unwrap_or_default(), "{id:?}");
    }
    assert_eq!(said, BTreeMap::new(), "keys of leases that do not exist");
}

fn run(limits: &StorageLimits, steps: Vec<Step>) {
    let mut store = Store::new(limits.clone());
    for step in steps {
        match step {
            Step::Grant(id) => drop(store.apply(grant(id))),
            Step::Revoke(id) => drop(store.apply(revoke(id))),
            Step::Put(puts) => {
                let puts = puts.iter().map(|(key, lease)| Op::Put(leased(key, *lease)));
                // It may name a lease that does not exist.
                drop(store.apply(txn(puts.collect())));
            }
            Step::Delete(key) => drop(store.apply(delete(KeyRange::prefix(key)))),
            Step::Commit => drop(store.commit()),
            Step::Reopen => {
                store.commit();
                let before = store.view.leases();
                store = store.reopened();
                assert_eq!(store.view.leases(), before);
            }
            Step::Crash(calls) => {
                store.disk.fail_after(calls);
                drop(store.writer.commit());
                let disk = store.disk.after_power_cut(calls % 2);
                store = Store::on(disk, limits.clone());
            }
            Step::Compact => {
                store.commit();
                let revision = store.view.revision();
                if store.view.compact_revision() < revision && revision.0 > 1 {
                    store.compact(revision.0);
                }
            }
        }
        check(&store);
    }
    store.commit();
    check(&store);
    let leases = |store: &Store| store.writer.core.index().leases.clone();
    assert_eq!(leases(&store.reopened()), leases(&store));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn leases_hold_what_their_keys_say_in_tiny_batches(steps in prop::collection::vec(step(), 1..60)) {
        run(&tiny(), steps);
    }

    #[test]
    fn leases_hold_what_their_keys_say_in_large_batches(steps in prop::collection::vec(step(), 1..60)) {
        run(&small(), steps);
    }
}

/// Attachments that the checkpoint has are overtaken by what came after it.
#[test]
fn a_checkpoint_knows_who_is_attached_and_later_changes_win() {
    let dir = tempfile::tempdir().unwrap();
    let limits = StorageLimits {
        checkpoint_revisions: 4,
        ..tiny()
    };
    let on = |disk: &MemoryDisk, dir| {
        let disk_of = std::sync::Arc::new(disk.clone());
        let readers = super::super::Readers::Inline;
        super::super::open_on(disk_of, dir, limits.clone(), readers).unwrap()
    };
    let disk = MemoryDisk::default();
    let (mut writer, view) = on(&disk, Some(dir.path()));
    writer.apply(&grant(1), false).unwrap();
    writer.apply(&grant(2), false).unwrap();
    for key in ["a", "b", "c", "d"] {
        writer.apply(&Write::Put(leased(key, 1)), false).unwrap();
    }
    writer.commit().unwrap();
    assert!(dir.path().join("index.checkpoint").exists());
    let moved = [
        Write::Put(leased("a", 2)),
        Write::Put(put_op("b", "free")),
        delete(KeyRange::single("c")),
    ];
    for write in moved {
        writer.apply(&write, false).unwrap();
    }
    writer.commit().unwrap();
    for place in [Some(dir.path()), None] {
        let (_, reopened) = on(&disk.copy(), place);
        for id in [1, 2] {
            let id = LeaseId(id);
            assert_eq!(reopened.keys_of_lease(id), view.keys_of_lease(id));
        }
        assert_eq!(reopened.keys_of_lease(LeaseId(1)), ["d"]);
        assert_eq!(reopened.keys_of_lease(LeaseId(2)), ["a"]);
    }
}

/// The group of a revocation is many batches, and the power fails between any two of them.
#[test]
fn a_crash_within_the_group_of_a_revocation_leaves_no_key_without_its_lease() {
    for calls in 0..16 {
        let mut store = Store::new(tiny());
        store.apply(grant(1)).unwrap();
        store.apply(Write::Put(leased("a", 1))).unwrap();
        store.commit();
        for key in ["p", "q", "r"] {
            let large = put_op(key, &"v".repeat(900));
            store.apply(Write::Put(large)).unwrap();
        }
        store.apply(revoke(1)).unwrap();
        store.disk.fail_after(calls);
        drop(store.writer.commit());
        check(&Store::on(store.disk.after_power_cut(0), tiny()));
    }
}
