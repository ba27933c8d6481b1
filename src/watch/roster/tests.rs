//! The roster against the naive filter, and its entries while they come and go.

use super::*;
use crate::model::{EventFilters, KeyRange, WatchClass};
use crate::watch::test_support::{
    Told, any_class, any_commits, class_of, commit, commits, delete, entry, expected, no_limits,
    put, revisions_max, told,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn roster(entries: impl IntoIterator<Item = Entry<()>>) -> Roster<()> {
    let mut roster = Roster::new(Revision(10));
    for entry in entries {
        roster.insert(entry);
    }
    roster
}

/// Delivers to every entry, in slices of `slice`, and says who was told what.
fn deliver(
    roster: &mut Roster<()>,
    commits: &[Arc<Commit>],
    limits: &BatchLimits,
    slice: usize,
) -> BTreeMap<u64, Vec<Told>> {
    let mut got: BTreeMap<u64, Vec<Told>> = BTreeMap::new();
    for item in roster.matching(commits, limits) {
        for batch in &item.batches {
            let mut cursor = 0;
            while cursor < roster.class_len(item.class) {
                roster.visit(item.class, &mut cursor, slice, |entry| {
                    if let Some(batch) = batch.since(entry.next_revision) {
                        got.entry(entry.id.0)
                            .or_default()
                            .extend(told(batch.events()));
                    }
                    Visit::Keep
                });
            }
        }
    }
    got
}

#[test]
fn entries_of_one_class_share_one_batch_and_one_class_value() {
    let copies = [(); 3].map(|()| class_of(KeyRange::single("a")));
    let roster = roster((0..3).map(|id| entry(id, &copies[usize::try_from(id).unwrap()], 1)));
    assert_eq!((roster.len(), roster.classes()), (3, 1));
    let matches = roster.matching(&commits(11, &[b"a", b"b", b"a"]), &no_limits());
    assert_eq!(matches.len(), 1);
    assert_eq!(matches[0].batches.len(), 1);
    assert_eq!(roster.class_len(matches[0].class), 3);
    assert!(
        roster
            .iter()
            .all(|it| Arc::ptr_eq(&it.class, &roster.get(WatcherId(0)).unwrap().class))
    );
}

#[test]
fn a_class_whose_filters_leave_nothing_is_absent() {
    let filters = EventFilters {
        no_put: true,
        no_delete: false,
    };
    let class = Arc::new(WatchClass {
        filters,
        ..(*class_of(KeyRange::single("a"))).clone()
    });
    let roster = roster([entry(1, &class, 1)]);
    assert!(
        roster
            .matching(&commits(11, &[b"a"]), &no_limits())
            .is_empty()
    );
    let gone = [commit(vec![delete(11, b"a")])];
    assert_eq!(roster.matching(&gone, &no_limits()).len(), 1);
}

#[test]
fn w7_events_without_a_known_previous_value_are_named_for_classes_that_carry_it() {
    let plain = class_of(KeyRange::single("a"));
    let with_prev = Arc::new(WatchClass {
        prev_kv: true,
        ..(*plain).clone()
    });
    let roster = roster([entry(1, &plain, 1), entry(2, &with_prev, 1)]);
    let known = put(11, b"a");
    known.set_prev(None);
    let history = [commit(vec![known]), commit(vec![put(12, b"a")])];
    let mut missing = Vec::new();
    for item in roster.matching(&history, &no_limits()) {
        missing.push((item.batches[0].with_prev(), told(&item.prev_missing)));
    }
    missing.sort_by_key(|(with_prev, _)| *with_prev);
    let unknown = told(&[put(12, b"a")]);
    assert_eq!(missing, [(false, Vec::new()), (true, unknown)]);
}

#[test]
fn w2_slices_visit_every_entry_once_although_some_are_taken() {
    let class = class_of(KeyRange::single("a"));
    let mut roster = roster((0..10).map(|id| entry(id, &class, 1)));
    let item = roster
        .matching(&commits(11, &[b"a"]), &no_limits())
        .remove(0);
    let (mut cursor, mut seen, mut taken) = (0, Vec::new(), Vec::new());
    let mut slices = 0;
    while cursor < roster.class_len(item.class) {
        let mut visited = 0;
        taken.extend(roster.visit(item.class, &mut cursor, 3, |entry| {
            visited += 1;
            seen.push(entry.id.0);
            if entry.id.0.is_multiple_of(3) {
                Visit::Take
            } else {
                Visit::Keep
            }
        }));
        assert!(visited <= 3);
        slices += 1;
    }
    assert_eq!(slices, 4);
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    let mut taken: Vec<_> = taken.iter().map(|it| it.id.0).collect();
    taken.sort_unstable();
    assert_eq!(taken, [0, 3, 6, 9]);
    assert_eq!(roster.len(), 6);
    for id in 0..10_u64 {
        assert_eq!(roster.get(WatcherId(id)).is_some(), !id.is_multiple_of(3));
    }
}

#[test]
fn w2_a_class_that_dies_within_a_turn_is_visited_as_empty() {
    let class = class_of(KeyRange::single("a"));
    let mut roster = roster([entry(1, &class, 1)]);
    let item = roster
        .matching(&commits(11, &[b"a"]), &no_limits())
        .remove(0);
    let mut cursor = 0;
    let taken = roster.visit(item.class, &mut cursor, 512, |_| Visit::Take);
    assert_eq!((taken.len(), roster.classes()), (1, 0));
    // Another class takes its place; the old number must not reach it.
    roster.insert(entry(2, &class_of(KeyRange::single("b")), 1));
    let again = roster.visit(item.class, &mut 0, 512, |_| Visit::Take);
    assert!(again.is_empty() && roster.class_len(item.class) == 0);
    assert_eq!(roster.len(), 1);
}

#[test]
fn w4_every_way_out_writes_the_cursor_into_the_entry() {
    let class = class_of(KeyRange::single("a"));
    let mut roster = roster([
        entry(1, &class, 1),
        entry(2, &class, 1),
        entry(3, &class, 1),
        entry(4, &class, 99),
    ]);
    roster.advance(Revision(20));
    let removed = roster.remove(WatcherId(1)).unwrap();
    assert_eq!(removed.next_revision, Revision(21));
    let id = roster.matching(&commits(21, &[b"a"]), &no_limits())[0].class;
    let taken = roster.visit(id, &mut 0, 1, |_| Visit::Take);
    assert_eq!(taken.len(), 1);
    let mut rest = roster.take_all();
    rest.extend(taken);
    rest.sort_by_key(|it| it.id);
    let cursors: Vec<_> = rest.iter().map(|it| it.next_revision.0).collect();
    assert_eq!(cursors, [21, 21, 99]);
    assert_eq!(roster.revision(), Revision(20));
}

#[test]
fn w5_an_overrun_roster_gives_all_its_entries_at_once_and_is_empty() {
    let (a, b) = (
        class_of(KeyRange::single("a")),
        class_of(KeyRange::prefix("b")),
    );
    let mut roster = roster([entry(1, &a, 1), entry(2, &b, 1), entry(3, &b, 1)]);
    assert_eq!(roster.take_all().len(), 3);
    assert!(roster.is_empty() && roster.iter().next().is_none());
    assert!(
        roster
            .matching(&commits(11, &[b"a"]), &no_limits())
            .is_empty()
    );
}

#[test]
fn w6_many_revisions_are_one_batch() {
    let class = class_of(KeyRange::single("a"));
    let roster = roster([entry(1, &class, 1)]);
    let history = commits(11, &[&b"a"[..]; 100]);
    let item = roster.matching(&history, &no_limits()).remove(0);
    assert_eq!((item.batches.len(), item.batches[0].revisions()), (1, 100));
    let item = roster.matching(&history, &revisions_max(30)).remove(0);
    assert_eq!(item.batches.len(), 4);
}

#[test]
fn an_entry_that_begins_later_gets_the_rest_of_the_batch_only() {
    let class = class_of(KeyRange::single("a"));
    let mut roster = roster([
        entry(1, &class, 1),
        entry(2, &class, 12),
        entry(3, &class, 50),
    ]);
    let got = deliver(
        &mut roster,
        &commits(11, &[b"a", b"a", b"a"]),
        &no_limits(),
        512,
    );
    let lengths: Vec<_> = got.iter().map(|(id, told)| (*id, told.len())).collect();
    assert_eq!(lengths, [(1, 3), (2, 2)]);
}

proptest! {
    #[test]
    fn every_entry_is_told_what_asking_each_event_would_tell_it(
        classes in proptest::collection::vec(any_class(), 1..6),
        entries in proptest::collection::vec(
            (any::<proptest::sample::Index>(), 1_i64..25), 1..30),
        removed in proptest::collection::btree_set(0_u64..30, 0..10),
        history in any_commits(11, 0..15),
        revisions_max_ in 1_usize..20,
        slice in 1_usize..5,
    ) {
        let entries: Vec<_> = (0..)
            .zip(entries)
            .map(|(id, (pick, next))| entry(id, &classes[pick.index(classes.len())], next))
            .collect();
        let mut due = BTreeMap::new();
        for it in entries.iter().filter(|it| !removed.contains(&it.id.0)) {
            let told = expected(&it.class, &history, it.next_revision);
            if !told.is_empty() {
                due.insert(it.id.0, told);
            }
        }
        let ids: BTreeSet<_> = entries.iter().map(|it| it.id.0).collect();
        let mut roster = roster(entries);
        for id in &removed {
            prop_assert_eq!(roster.remove(WatcherId(*id)).is_some(), ids.contains(id));
        }
        let got = deliver(&mut roster, &history, &revisions_max(revisions_max_), slice);
        prop_assert_eq!(got, due);
        for id in ids.difference(&removed) {
            prop_assert!(roster.remove(WatcherId(*id)).is_some());
        }
        prop_assert_eq!((roster.len(), roster.classes()), (0, 0));
    }
}
