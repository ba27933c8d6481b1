//! The quota and the alarms: who is refused when, what frees the way again, and what a restart remembers.

use super::super::StorageLimits;
use super::super::testing::{Store, delete, put, put_op, tiny, txn, write_refusal};
use crate::model::{Alarm, AlarmKind, KeyRange, Op, RangeQuery, Refusal, Revision};

fn limited(quota_bytes: u64) -> Store {
    Store::new(StorageLimits {
        quota_bytes,
        ..tiny()
    })
}

fn alarm(store: &Store, kind: AlarmKind) -> Alarm {
    Alarm {
        member_id: store.writer.identity().member_id,
        kind,
    }
}

/// Two changes of a key, 357 bytes each in the store and 557 towards the quota.
fn filled() -> Store {
    let mut store = limited(1000);
    store.put("a", &"x".repeat(300));
    store.put("a", &"y".repeat(300));
    let refused = store.apply(put("a", &"z".repeat(300)));
    assert_eq!(write_refusal(refused), Refusal::NoSpace);
    store
}

#[test]
fn a_put_beyond_the_quota_raises_the_alarm_and_what_frees_space_goes_on() {
    let mut store = filled();
    assert!(store.view.alarms().is_empty(), "it is not durable yet");
    assert!(store.commit().is_empty());
    let no_space = alarm(&store, AlarmKind::NoSpace);
    assert_eq!(*store.view.alarms(), [no_space]);

    // The smallest put is refused now, alone or in a transaction.
    assert_eq!(write_refusal(store.apply(put("b", ""))), Refusal::NoSpace);
    let op = Op::Put(put_op("b", ""));
    assert_eq!(write_refusal(store.apply(txn(vec![op]))), Refusal::NoSpace);
    let read = Op::Range(RangeQuery::latest(KeyRange::single("a")));
    store.apply(txn(vec![read])).unwrap();
    store.delete(KeyRange::single("a"));
    store.compact(4);

    // Room alone takes no alarm back: somebody has to.
    assert_eq!(write_refusal(store.apply(put("b", ""))), Refusal::NoSpace);
    assert!(store.writer.set_alarm(no_space, false).unwrap());
    assert!(store.view.alarms().is_empty());
    assert_eq!(store.put("b", "1"), Revision(5));
}

#[test]
fn an_alarm_that_is_taken_back_without_room_is_raised_by_the_next_put() {
    let mut store = filled();
    store.commit();
    let no_space = alarm(&store, AlarmKind::NoSpace);
    assert!(store.writer.set_alarm(no_space, false).unwrap());
    let refused = store.apply(put("a", &"z".repeat(300)));
    assert_eq!(write_refusal(refused), Refusal::NoSpace);
    store.commit();
    assert_eq!(*store.view.alarms(), [no_space]);
}

#[test]
fn an_alarm_outlives_a_restart_and_so_does_its_end() {
    let mut store = filled();
    store.commit();
    let mut again = store.reopened();
    let no_space = alarm(&again, AlarmKind::NoSpace);
    assert_eq!(*again.view.alarms(), [no_space]);
    assert_eq!(write_refusal(again.apply(put("b", ""))), Refusal::NoSpace);
    again.writer.set_alarm(no_space, false).unwrap();
    assert!(again.reopened().view.alarms().is_empty());
    // The one that nobody was told of was never raised.
    let cut = filled().disk.after_power_cut(0);
    assert!(Store::on(cut, tiny()).view.alarms().is_empty());
}

#[test]
fn the_puts_of_one_group_count_before_they_are_in_the_index() {
    let mut store = limited(1000);
    store.apply(put("a", &"x".repeat(300))).unwrap();
    let refused = store.apply(put("b", &"x".repeat(300)));
    assert_eq!(write_refusal(refused), Refusal::NoSpace);
    assert_eq!(store.commit().len(), 1, "what was admitted is written");
    assert_eq!(store.view.alarms().len(), 1);
}

#[test]
fn of_a_transaction_the_list_that_puts_more_counts() {
    let mut store = limited(700);
    let puts = |count: usize| (0..count).map(|at| Op::Put(put_op(&at.to_string(), "")));
    store.apply(txn(puts(2).collect())).unwrap();
    assert_eq!(
        write_refusal(store.apply(txn(puts(3).collect()))),
        Refusal::NoSpace
    );
}

#[test]
fn damage_refuses_every_change_and_no_read() {
    let mut store = Store::new(tiny());
    store.put("a", "1");
    let corrupt = alarm(&store, AlarmKind::Corrupt);
    assert!(store.writer.set_alarm(corrupt, true).unwrap());
    let read = Op::Range(RangeQuery::latest(KeyRange::single("a")));
    for write in [
        put("a", "2"),
        delete(KeyRange::single("a")),
        txn(vec![Op::Put(put_op("a", "2"))]),
    ] {
        assert_eq!(write_refusal(store.apply(write)), Refusal::CorruptCluster);
    }
    store.apply(txn(vec![read])).unwrap();
    assert!(store.writer.compact(Revision(2)).is_err());
    assert!(store.get("a", 0).is_some());
    // Of another member it is an alarm of its own, and taking back what is not raised tells nothing.
    let other = Alarm {
        member_id: 7,
        ..corrupt
    };
    assert!(!store.writer.set_alarm(other, false).unwrap());
    assert!(store.writer.set_alarm(corrupt, false).unwrap());
    store.put("a", "2");
}

#[test]
fn an_alarm_that_cannot_be_written_ends_all_writing() {
    let mut store = filled();
    store.disk.fail_after(0);
    store.writer.commit().unwrap_err();
    assert!(store.view.alarms().is_empty(), "nobody sees it");
    assert!(store.writer.commit().is_err());
}
