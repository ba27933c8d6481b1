//! What a ring must hold: no gap between its first revision and its head, its bytes, and an overrun said as one.

use super::*;
use crate::watch::test_support::{big_put, commit, commits, put};
use proptest::prelude::*;

fn revisions(read: RingRead) -> Vec<i64> {
    match read {
        RingRead::Commits(commits) => commits.iter().map(|it| it.revision.0).collect(),
        other => panic!("no commits: {other:?}"),
    }
}

#[test]
fn a_reader_gets_what_comes_after_its_revision_and_is_level_then() {
    let ring = Ring::new(usize::MAX, Revision(1));
    assert!(matches!(
        ring.read(Revision(1), 1000, 1000),
        RingRead::Level
    ));
    assert_eq!((ring.head(), ring.first()), (Revision(1), Revision(2)));
    ring.append(&commits(2, &[b"a", b"b", b"c"]));
    assert_eq!(revisions(ring.read(Revision(1), 1000, 1000)), [2, 3, 4]);
    assert_eq!(revisions(ring.read(Revision(3), 1000, 1000)), [4]);
    assert!(matches!(
        ring.read(Revision(4), 1000, 1000),
        RingRead::Level
    ));
}

#[test]
fn w2_a_read_is_bounded_by_bytes_and_revisions_but_gives_one_commit_at_least() {
    let ring = Ring::new(usize::MAX, Revision(1));
    ring.append(&[commit(vec![big_put(2, b"a", 100)])]);
    ring.append(&commits(3, &[b"b", b"c"]));
    assert_eq!(revisions(ring.read(Revision(1), 1, 1000)), [2]);
    assert_eq!(revisions(ring.read(Revision(1), 0, 0)), [2]);
    assert_eq!(revisions(ring.read(Revision(2), 4, 1000)), [3, 4]);
    assert_eq!(revisions(ring.read(Revision(2), 3, 1000)), [3]);
    assert_eq!(revisions(ring.read(Revision(2), 1000, 1)), [3]);
}

#[test]
fn eviction_overruns_only_those_who_have_not_read_that_far() {
    let one = commits(2, &[b"a"])[0].memory_bytes();
    let ring = Ring::new(2 * one, Revision(1));
    ring.append(&commits(2, &[b"a", b"b", b"c"]));
    assert_eq!((ring.first(), ring.bytes()), (Revision(3), 2 * one));
    assert!(matches!(
        ring.read(Revision(1), 1000, 1000),
        RingRead::Overrun
    ));
    assert_eq!(revisions(ring.read(Revision(2), 1000, 1000)), [3, 4]);
}

#[test]
fn eviction_goes_by_the_number_of_revisions_too() {
    let ring = Ring::bounded(usize::MAX, 2, Revision(1));
    ring.append(&commits(2, &[b"a", b"b", b"c"]));
    assert_eq!(ring.first(), Revision(3));
    assert_eq!(revisions(ring.read(Revision(2), 1000, 1000)), [3, 4]);
}

#[test]
fn a_ring_that_is_widened_overruns_whoever_comes_anew_and_nobody_who_reads_on() {
    let ring = Ring::new(usize::MAX, Revision(1));
    ring.append(&commits(2, &[b"a", b"b"]));
    ring.widen();
    ring.append(&commits(4, &[b"c"]));
    assert_eq!((ring.head(), ring.first()), (Revision(4), Revision(4)));
    let anew = ring.read(Revision(2), 1000, 1000);
    assert!(matches!(anew, RingRead::Overrun), "{anew:?}");
    assert_eq!(revisions(ring.read(Revision(3), 1000, 1000)), [4]);
    assert_eq!(revisions(ring.read_on(Revision(1), 1000, 1000)), [2, 3, 4]);
    ring.restart(Revision(9));
    let on = ring.read_on(Revision(4), 1000, 1000);
    assert!(matches!(on, RingRead::Overrun), "{on:?}");
}

#[test]
fn a_ring_that_begins_anew_overruns_whoever_was_behind_and_nobody_else() {
    let ring = Ring::new(usize::MAX, Revision(1));
    ring.append(&commits(2, &[b"a", b"b"]));
    ring.restart(Revision(3));
    assert_eq!(
        (ring.head(), ring.first(), ring.bytes()),
        (Revision(3), Revision(4), 0)
    );
    assert!(matches!(
        ring.read(Revision(2), 1000, 1000),
        RingRead::Overrun
    ));
    assert!(matches!(
        ring.read(Revision(3), 1000, 1000),
        RingRead::Level
    ));
    ring.restart(Revision(9));
    assert!(matches!(
        ring.read(Revision(3), 1000, 1000),
        RingRead::Overrun
    ));
    ring.restart(Revision(5));
    assert_eq!(ring.head(), Revision(9), "it never goes back");
    ring.append(&commits(10, &[b"c"]));
    assert_eq!(revisions(ring.read(Revision(9), 1000, 1000)), [10]);
}

#[test]
fn d3_a_commit_larger_than_the_ring_is_an_overrun_and_what_follows_is_not() {
    let ring = Ring::new(1000, Revision(1));
    ring.append(&[commit(vec![big_put(2, b"a", 1000)])]);
    assert_eq!((ring.head(), ring.first()), (Revision(2), Revision(3)));
    assert_eq!(ring.bytes(), 0);
    assert!(matches!(
        ring.read(Revision(1), 1000, 1000),
        RingRead::Overrun
    ));
    ring.append(&commits(3, &[b"b"]));
    assert_eq!(revisions(ring.read(Revision(2), 1000, 1000)), [3]);
}

#[test]
fn an_advanced_ring_tells_its_readers_that_nothing_happened() {
    let ring = Ring::new(usize::MAX, Revision(1));
    ring.append(&[commit(vec![put(5, b"a")]), commit(vec![put(9, b"a")])]);
    ring.advance(Revision(20));
    ring.advance(Revision(7));
    assert_eq!(ring.head(), Revision(20));
    assert_eq!(revisions(ring.read(Revision(6), 1000, 1000)), [9]);
    assert!(matches!(
        ring.read(Revision(9), 1000, 1000),
        RingRead::Quiet(Revision(20))
    ));
    assert!(matches!(
        ring.read(Revision(20), 1000, 1000),
        RingRead::Level
    ));
}

#[test]
fn b2_what_eviction_takes_off_is_what_was_added_although_slots_have_filled() {
    let ring = Ring::new(1000, Revision(1));
    let first = commit(vec![put(2, b"a")]);
    ring.append(&[Arc::clone(&first)]);
    first.events[0].set_prev(Some(Arc::new(big_put(1, b"a", 500).kv.clone())));
    for at in 3..10 {
        ring.append(&[commit(vec![put(at, b"a")])]);
    }
    let one = commits(2, &[b"a"])[0].memory_bytes();
    assert_eq!(ring.bytes(), 1000 / one * one);
}

#[test]
fn readers_on_other_threads_see_every_commit_in_order() {
    let ring = Arc::new(Ring::new(usize::MAX, Revision(1)));
    let reader = {
        let ring = Arc::clone(&ring);
        std::thread::spawn(move || {
            let mut at = Revision(1);
            while at < Revision(500) {
                if let RingRead::Commits(commits) = ring.read(at, 100, 10) {
                    for commit in commits {
                        assert_eq!(commit.revision, at.next());
                        at = commit.revision;
                    }
                }
            }
        })
    };
    for at in 2..=500 {
        ring.append(&[commit(vec![put(at, b"a")])]);
    }
    reader.join().unwrap();
}

proptest! {
    #[test]
    fn a_reader_sees_all_after_its_revision_or_hears_of_the_overrun(
        sizes in proptest::collection::vec((0_usize..300, 1_i64..4), 1..30),
        ring_bytes_max in 200_usize..3000,
        bytes_max in 0_usize..500,
        revisions_max in 0_usize..4,
        stride in 1_usize..6,
    ) {
        let ring = Ring::new(ring_bytes_max, Revision(1));
        let mut at = Revision(1);
        let mut seen = Vec::new();
        let mut due = Vec::new();
        let mut head = 1;
        for chunk in sizes.chunks(stride) {
            for (value_bytes, gap) in chunk {
                head += gap;
                due.push(head);
                ring.append(&[commit(vec![big_put(head, b"k", *value_bytes)])]);
            }
            prop_assert!(ring.bytes() <= ring_bytes_max);
            prop_assert_eq!(ring.head(), Revision(head));
            loop {
                match ring.read(at, bytes_max, revisions_max) {
                    RingRead::Commits(commits) => {
                        prop_assert!(commits.len() <= revisions_max.max(1));
                        let bytes: usize = commits.iter().map(|it| it.bytes()).sum();
                        prop_assert!(bytes <= bytes_max || commits.len() == 1);
                        for commit in commits {
                            seen.push(commit.revision.0);
                            at = commit.revision;
                        }
                    }
                    RingRead::Quiet(to) => at = to,
                    RingRead::Level => break,
                    RingRead::Overrun => {
                        prop_assert!(at < ring.first().previous());
                        at = ring.first().previous();
                        due.retain(|it| seen.contains(it) || *it > at.0);
                    }
                }
            }
            prop_assert_eq!(&seen, &due);
        }
    }
}
