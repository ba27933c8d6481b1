//! Catching up against the naive filter, and each of its rules alone.

use super::*;
use crate::model::{KeyRange, WatchClass};
use crate::watch::test_support::{
    Told, any_class, any_commits, class_of, commit, commits, entry, expected, no_limits, put,
    revisions_max, told,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

mod crowds;
mod outline;

/// Stretches of ten revisions, and room for everything else.
fn limits() -> CatchUpLimits {
    CatchUpLimits {
        stretch_revisions_max: 10,
        batch: no_limits(),
        ..CatchUpLimits::default()
    }
}

fn catch_up(entries: impl IntoIterator<Item = Entry<()>>) -> CatchUp<()> {
    let mut catch_up = CatchUp::new(limits());
    for entry in entries {
        catch_up.insert(entry);
    }
    catch_up
}

fn key(key: &'static str) -> Arc<WatchClass> {
    class_of(KeyRange::single(key))
}

fn dense(_: &KeyRange, _: Revision, _: Revision) -> Option<Vec<Revision>> {
    None
}

fn scan_from(plan: &Plan) -> i64 {
    match plan {
        Plan::Scan { from, .. } => from.0,
        other => panic!("no scan: {other:?}"),
    }
}

fn span(handouts: &[Handout]) -> Vec<(i64, i64, Vec<u64>)> {
    let span = |it: &Handout| {
        let watchers = it.watchers.iter().map(|id| id.0).collect();
        (it.batch.first().0, it.batch.last().0, watchers)
    };
    handouts.iter().map(span).collect()
}

fn ids(entries: &[Entry<()>]) -> Vec<u64> {
    entries.iter().map(|it| it.id.0).collect()
}

#[test]
fn l1_nothing_beyond_what_was_covered_is_handed_out() {
    let mut catch_up = catch_up([entry(1, &key("a"), 2)]);
    let handouts = catch_up.absorb(
        &commits(2, &[b"a"; 9].map(|it| &it[..])),
        covered(2, 5),
        None,
    );
    assert_eq!(span(&handouts), [(2, 4, vec![1])]);
    catch_up.delivered(WatcherId(1));
    let plan = catch_up.plan(Revision(5), dense);
    assert_eq!(scan_from(&plan), 5);
    assert!(matches!(catch_up.plan(Revision(4), dense), Plan::Idle));
}

#[test]
fn l2_who_has_everything_up_to_the_hand_off_is_given_back_even_with_a_delivery_outstanding() {
    let a = key("a");
    let mut catch_up = catch_up([entry(1, &a, 2), entry(2, &a, 9), entry(3, &a, 5)]);
    catch_up.absorb(&commits(2, &[b"a", b"b"]), covered(2, 4), None);
    assert_eq!(catch_up.ready_len(), 2);
    assert!(catch_up.level(Revision(8), 0).is_empty());
    assert_eq!(ids(&catch_up.level(Revision(8), 100)), [2]);
    let mut back = catch_up.level(Revision(3), 100);
    back.sort_by_key(|it| it.id);
    let back: Vec<_> = back
        .iter()
        .map(|it| (it.id.0, it.next_revision.0))
        .collect();
    assert_eq!(back, [(1, 4), (3, 5)]);
    assert!(catch_up.is_empty());
}

#[test]
fn l3_an_entry_with_a_delivery_outstanding_is_not_planned_for_and_not_handed_more() {
    let mut catch_up = catch_up([entry(1, &key("a"), 2)]);
    let history = commits(2, &[b"a", b"a", b"a"]);
    assert_eq!(catch_up.absorb(&history, covered(2, 3), None).len(), 1);
    assert!(matches!(catch_up.plan(Revision(4), dense), Plan::Idle));
    assert!(catch_up.absorb(&history, covered(2, 5), None).is_empty());
    catch_up.delivered(WatcherId(1));
    catch_up.delivered(WatcherId(1));
    let handouts = catch_up.absorb(&history, covered(2, 5), None);
    assert_eq!(span(&handouts), [(3, 4, vec![1])]);
}

#[test]
fn l3_of_a_stretch_above_the_batch_limits_an_entry_gets_the_first_batch_only() {
    let mut catch_up = CatchUp::new(CatchUpLimits {
        batch: revisions_max(2),
        ..limits()
    });
    catch_up.insert(entry(1, &key("a"), 2));
    let history = commits(2, &[b"a", b"b", b"a", b"a"]);
    let handouts = catch_up.absorb(&history, covered(2, 9), None);
    assert_eq!(span(&handouts), [(2, 4, vec![1])]);
    assert_eq!(
        catch_up.get(WatcherId(1)).unwrap().next_revision,
        Revision(5)
    );
    catch_up.delivered(WatcherId(1));
    catch_up.absorb(&history, covered(2, 9), None);
    assert_eq!(
        catch_up.get(WatcherId(1)).unwrap().next_revision,
        Revision(9)
    );
}

#[test]
fn l4_one_key_over_a_long_gap_is_one_question_and_one_pick() {
    let mut catch_up = catch_up([entry(1, &key("a"), 2)]);
    let mut questions = 0;
    let plan = catch_up.plan(Revision(10_000_000), |_, from, through| {
        questions += 1;
        assert_eq!((from, through), (Revision(2), Revision(10_000_000)));
        Some(vec![Revision(77), Revision(5_000_000)])
    });
    let Plan::Pick(pick) = plan else {
        panic!("no pick: {plan:?}")
    };
    assert_eq!(pick.revisions, [Revision(77), Revision(5_000_000)]);
    let read = [
        commit(vec![put(77, b"a")]),
        commit(vec![put(5_000_000, b"a")]),
    ];
    let handouts = catch_up.absorb_pick(&pick, &read, pick.next);
    assert_eq!(span(&handouts), [(77, 5_000_000, vec![1])]);
    assert_eq!(questions, 1);
    assert_eq!(catch_up.level(Revision(10_000_000), 100).len(), 1);
}

#[test]
fn l4_an_idle_key_is_level_without_a_read() {
    let classes = ["a", "b", "c"].map(key);
    let mut catch_up = catch_up((0..).zip(&classes).map(|(id, it)| entry(id, it, 2)));
    let plan = catch_up.plan(Revision(1000), |_, _, _| Some(Vec::new()));
    assert!(matches!(plan, Plan::Again));
    assert_eq!(catch_up.level(Revision(1000), 100).len(), 3);
    assert!(matches!(catch_up.plan(Revision(1000), dense), Plan::Idle));
}

#[test]
fn l4_a_key_that_is_dense_over_the_whole_gap_is_asked_for_nearby_before_it_is_scanned() {
    let mut catch_up = catch_up([entry(1, &key("a"), 2)]);
    let sparse_nearby = |_: &KeyRange, from: Revision, through: Revision| {
        (through.0 - from.0 <= 640).then(|| vec![Revision(9)])
    };
    let plan = catch_up.plan(Revision(10_000_000), sparse_nearby);
    let Plan::Pick(pick) = plan else {
        panic!("no pick: {plan:?}")
    };
    assert_eq!(pick.next, Revision(643));
}

#[test]
fn l4_a_class_known_to_be_dense_is_scanned_for_without_asking_again_at_each_stretch() {
    let mut catch_up = catch_up([entry(1, &key("a"), 2)]);
    let mut questions = 0;
    let mut at = 2;
    for _ in 0..8 {
        let plan = catch_up.plan(Revision(10_000), |_, _, _| {
            questions += 1;
            None
        });
        assert_eq!(scan_from(&plan), at);
        catch_up.absorb(&[], covered(at, at + 10), None);
        at += 10;
    }
    assert_eq!(questions, 2);
}

#[test]
fn l4_a_narrow_class_is_found_behind_a_dense_one() {
    let mut catch_up = catch_up([entry(1, &key("a"), 2), entry(2, &key("b"), 2)]);
    let plan = catch_up.plan(Revision(1000), |range, _, _| {
        (range.start == "b").then(|| vec![Revision(9)])
    });
    let Plan::Pick(pick) = plan else {
        panic!("no pick: {plan:?}")
    };
    assert_eq!(pick.class, key("b"));
}

#[test]
fn l5_the_stretch_that_most_wait_for_comes_first_and_the_oldest_of_equals() {
    let (a, b) = (key("a"), key("b"));
    let starts = [3, 21, 22, 29, 41, 42, 48];
    let mut catch_up = catch_up((0..).zip(starts).map(|(id, at)| entry(id, &a, at)));
    catch_up.insert(entry(50, &b, 22));
    let target = catch_up.next_target(Revision(99)).unwrap();
    assert_eq!(
        (target.from, target.entries, target.classes),
        (Revision(21), 4, 2)
    );
    catch_up.remove(WatcherId(50));
    let target = catch_up.next_target(Revision(99)).unwrap();
    assert_eq!((target.from, target.classes), (Revision(21), 1));
    // Who waits beyond what may be read does not count.
    let target = catch_up.next_target(Revision(20)).unwrap();
    assert_eq!(target.from, Revision(3));
}

#[test]
fn l5_many_late_watchers_of_a_stretch_are_one_read_and_share_batches() {
    let a = key("a");
    let mut catch_up = catch_up((0..1000).map(|id| entry(id, &a, 2 + i64::from(id >= 500))));
    let handouts = catch_up.absorb(&commits(2, &[b"a", b"b", b"a"]), covered(2, 5), None);
    let shares: Vec<_> = handouts
        .iter()
        .map(|it| (it.batch.first().0, it.watchers.len()))
        .collect();
    assert_eq!(shares, [(2, 500), (4, 500)]);
}

#[test]
fn l5_an_old_watcher_does_not_wait_for_ever_behind_a_crowd_that_is_always_renewed() {
    let a = key("a");
    let mut catch_up = catch_up((0..10).map(|id| entry(id, &a, 95)));
    catch_up.insert(entry(77, &key("b"), 2));
    let served = (0..4).any(|_| scan_from(&catch_up.plan(Revision(100), dense)) == 2);
    assert!(served);
}

#[test]
fn l6_entries_below_the_compact_revision_are_taken_out_ready_or_not() {
    let a = key("a");
    let mut catch_up = catch_up([entry(1, &a, 2), entry(2, &a, 4), entry(3, &a, 5)]);
    let handouts = catch_up.absorb(&commits(2, &[b"a"]), covered(2, 3), None);
    assert_eq!(handouts.len(), 1);
    let mut told = catch_up.compacted(Revision(5), 1);
    assert_eq!(told.len(), 1);
    told.extend(catch_up.compacted(Revision(5), 10));
    let mut told = ids(&told);
    told.sort_unstable();
    assert_eq!(told, [1, 2]);
    assert!(catch_up.compacted(Revision(5), 10).is_empty());
    assert_eq!(catch_up.len(), 1);
    // What was read for them before is nobody's now.
    let handouts = catch_up.absorb(&commits(3, &[b"a", b"a"]), covered(3, 5), None);
    assert!(handouts.is_empty());
}

#[test]
fn w7_events_whose_previous_value_has_to_be_read_are_named() {
    let class = Arc::new(WatchClass {
        prev_kv: true,
        ..(*key("a")).clone()
    });
    let mut catch_up = catch_up([entry(1, &class, 2)]);
    let history = commits(2, &[b"a", b"a"]);
    history[0].events[0].set_prev(None);
    let handouts = catch_up.absorb(&history, covered(2, 4), None);
    assert_eq!(told(&handouts[0].prev_missing), told(&[put(3, b"a")]));
}

#[test]
fn a_pass_moves_a_bounded_number_of_entries_and_the_next_one_the_rest() {
    let mut catch_up = CatchUp::new(CatchUpLimits {
        watchers_per_pass_max: 1,
        ..limits()
    });
    let a = key("a");
    (0..3).for_each(|id| catch_up.insert(entry(id, &a, 2)));
    let history = commits(2, &[b"a"]);
    for left in [2, 1, 0] {
        assert_eq!(catch_up.absorb(&history, covered(2, 3), None).len(), 1);
        assert_eq!(catch_up.ready_len(), left);
    }
}

#[test]
fn a_pass_makes_a_bounded_number_of_batches_and_the_next_one_the_rest() {
    let mut catch_up = CatchUp::new(CatchUpLimits {
        batched_events_per_pass_max: 1,
        ..limits()
    });
    let a = key("a");
    (2..5_i64).for_each(|at| catch_up.insert(entry(at.unsigned_abs(), &a, at)));
    let history = commits(2, &[b"a", b"a", b"a"]);
    for (watcher, first) in [(2, 2), (3, 3), (4, 4)] {
        let handouts = catch_up.absorb(&history, covered(2, 5), None);
        assert_eq!(span(&handouts), [(first, 4, vec![watcher])]);
    }
}

#[test]
fn a_pick_for_a_class_that_is_gone_is_nobodys() {
    let mut catch_up = catch_up([entry(1, &key("a"), 2)]);
    let plan = catch_up.plan(Revision(1000), |_, _, _| Some(vec![Revision(5)]));
    let Plan::Pick(pick) = plan else {
        panic!("no pick: {plan:?}")
    };
    catch_up.remove(WatcherId(1));
    catch_up.insert(entry(2, &key("b"), 2));
    let read = [commit(vec![put(5, b"a")])];
    assert!(catch_up.absorb_pick(&pick, &read, pick.next).is_empty());
    assert_eq!(ids(&catch_up.take_all()), [2]);
}

fn covered(from: i64, next: i64) -> Range<Revision> {
    Revision(from)..Revision(next)
}

/// A Sync without an actor: reads what it is told to, and lets chance decide how much, and who is slow.
struct Desk {
    catch_up: CatchUp<()>,
    history: Vec<Arc<Commit>>,
    got: BTreeMap<WatcherId, Vec<Told>>,
    outstanding: Vec<WatcherId>,
    starts: BTreeMap<WatcherId, Revision>,
    level: Vec<Entry<()>>,
    chances: Vec<u8>,
    drawn: usize,
}

impl Desk {
    fn draw(&mut self, below: u8) -> u8 {
        self.drawn += 1;
        self.chances[self.drawn % self.chances.len()] % below
    }

    /// One step towards `through`; false when there is nothing left to do.
    fn step(&mut self, through: Revision) -> bool {
        for entry in self.catch_up.level(through, usize::MAX) {
            let start = self.starts[&entry.id];
            assert_eq!(entry.next_revision, start.max(through.next()));
            self.outstanding.retain(|id| *id != entry.id);
            self.level.push(entry);
        }
        let countable = usize::from(self.draw(4));
        let history = self.history.clone();
        let plan = self.catch_up.plan(through, |range, from, through| {
            let touched = |it: &&Arc<Commit>| {
                let mut keys = it.events.iter().map(|event| &event.kv.key);
                (from..=through).contains(&it.revision) && keys.any(|key| range.contains(key))
            };
            let revisions: Vec<_> = history
                .iter()
                .filter(touched)
                .map(|it| it.revision)
                .collect();
            (revisions.len() <= countable).then_some(revisions)
        });
        let handouts = match plan {
            Plan::Again => return true,
            Plan::Idle => {
                let Some(id) = self.outstanding.pop() else {
                    return false;
                };
                self.catch_up.delivered(id);
                return true;
            }
            Plan::Scan { from, through } => {
                let next = Revision(from.0 + 1 + i64::from(self.draw(7))).min(through.next());
                self.catch_up.absorb(&history, from..next, None)
            }
            Plan::Pick(pick) => {
                let read = usize::from(self.draw(3)) + 1;
                let next = pick.revisions.get(read).copied().unwrap_or(pick.next);
                let mut found = history;
                found.retain(|it| {
                    pick.revisions
                        .iter()
                        .take(read)
                        .any(|at| *at == it.revision)
                });
                self.catch_up.absorb_pick(&pick, &found, next)
            }
        };
        self.deliver(handouts, through);
        true
    }

    fn deliver(&mut self, handouts: Vec<Handout>, through: Revision) {
        for handout in handouts {
            assert!(handout.batch.last() <= through);
            for id in handout.watchers {
                assert!(!self.outstanding.contains(&id), "two at once");
                let events = told(handout.batch.events());
                self.got.entry(id).or_default().extend(events);
                match self.draw(4) {
                    // It stalls, gets its batch as a victim, and comes back.
                    0 => {
                        let entry = self.catch_up.remove(id).unwrap();
                        assert!(entry.next_revision > handout.batch.last());
                        self.catch_up.insert(entry);
                    }
                    1 => self.catch_up.delivered(id),
                    _ => self.outstanding.push(id),
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn l3_every_entry_is_handed_all_it_asked_for_in_order_and_once(
        classes in proptest::collection::vec(any_class(), 1..6),
        entries in proptest::collection::vec(
            (any::<proptest::sample::Index>(), 1_i64..40), 1..30),
        history in any_commits(2, 0..35),
        sizes in (1_usize..12, 1_usize..4, 1_usize..4, 1_usize..9, 1_usize..5, 1_usize..9),
        chances in proptest::collection::vec(any::<u8>(), 1..50),
    ) {
        let mut desk = Desk {
            catch_up: CatchUp::new(CatchUpLimits {
                stretch_revisions_max: sizes.0,
                revisions_per_pick_max: sizes.1,
                classes_per_plan_max: sizes.2,
                watchers_per_pass_max: sizes.3,
                batched_events_per_pass_max: sizes.5,
                batch: revisions_max(sizes.4),
            }),
            history,
            got: BTreeMap::new(),
            outstanding: Vec::new(),
            starts: (0..).map(WatcherId).zip(entries.iter().map(|it| Revision(it.1))).collect(),
            level: Vec::new(),
            chances,
            drawn: 0,
        };
        let end = i64::try_from(desk.history.len()).unwrap() + 1;
        let mut due = BTreeMap::new();
        for (id, (pick, at)) in (0..).zip(&entries) {
            let class = &classes[pick.index(classes.len())];
            let events = expected(class, &desk.history, Revision(*at));
            if !events.is_empty() {
                due.insert(WatcherId(id), events);
            }
        }
        // Half of them come while the group is still on its way; level then means level with that.
        let middle = Revision(end / 2);
        let mut ahead = Vec::new();
        for (id, (pick, at)) in (0..).zip(&entries) {
            let entry = entry(id, &classes[pick.index(classes.len())], *at);
            if id % 2 == 0 && *at <= middle.0 {
                desk.catch_up.insert(entry);
            } else {
                ahead.push(entry);
            }
        }
        for (through, late) in [(middle, Vec::new()), (Revision(end), ahead)] {
            // The group gives back who was level with the middle.
            for entry in std::mem::take(&mut desk.level).into_iter().chain(late) {
                desk.catch_up.insert(entry);
            }
            let mut steps = 0;
            while desk.step(through) {
                steps += 1;
                prop_assert!(steps < 10_000, "no end in sight");
            }
            prop_assert!(desk.catch_up.is_empty());
        }
        prop_assert_eq!(desk.got, due);
        prop_assert_eq!(desk.level.len(), entries.len());
    }
}
