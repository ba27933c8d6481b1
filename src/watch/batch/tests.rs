//! What a cut must hold: nothing lost, nothing out of order, no revision split, limits kept.

use super::*;
use crate::model::KeyRange;
use crate::watch::test_support::{
    any_commits, big_put, class_of, commits, no_limits, put, revisions_max, told,
};
use proptest::prelude::*;

fn limits(delivery_bytes_max: usize, revisions_per_batch_max: usize) -> BatchLimits {
    BatchLimits {
        delivery_bytes_max,
        revisions_per_batch_max,
    }
}

#[test]
fn nothing_is_cut_into_no_batch() {
    assert!(cut(Vec::new(), false, &no_limits()).is_empty());
}

#[test]
fn cut_never_splits_a_revision_even_above_the_limits() {
    let events = vec![
        put(2, b"a"),
        put(2, b"b"),
        big_put(3, b"c", 100),
        big_put(3, b"d", 100),
        put(4, b"e"),
    ];
    let batches = cut(events, false, &limits(10, 1000));
    let sizes: Vec<_> = batches.iter().map(|batch| batch.events().len()).collect();
    assert_eq!(sizes, [2, 2, 1]);
}

#[test]
fn cut_counts_distinct_revisions_and_not_events() {
    let events = vec![put(2, b"a"), put(2, b"b"), put(5, b"a"), put(9, b"a")];
    let batches = cut(events, false, &revisions_max(2));
    let spans: Vec<_> = batches
        .iter()
        .map(|batch| (batch.first().0, batch.last().0, batch.revisions()))
        .collect();
    assert_eq!(spans, [(2, 5, 2), (9, 9, 1)]);
}

#[test]
fn limits_of_zero_still_let_everything_through() {
    let events = vec![put(2, b"a"), put(3, b"a")];
    assert_eq!(cut(events, false, &limits(0, 0)).len(), 2);
}

#[test]
fn b2_previous_values_count_where_they_are_carried() {
    let event = put(3, b"a");
    event.set_prev(Some(Arc::new(big_put(2, b"a", 100).kv.clone())));
    let bytes = |with_prev| Batch::new(vec![Arc::clone(&event)], with_prev).map(|it| it.bytes());
    assert_eq!(bytes(false), Some(2));
    assert_eq!(bytes(true), Some(103));
}

#[test]
fn since_shares_the_batch_unless_only_a_part_is_wanted() {
    let batch = cut(vec![put(5, b"a"), put(7, b"a")], false, &no_limits()).remove(0);
    let whole = batch.since(Revision(5)).unwrap();
    assert!(Arc::ptr_eq(&whole, &batch));
    assert_eq!(batch.since(Revision(6)).unwrap().first(), Revision(7));
    assert!(batch.since(Revision(8)).is_none());
}

#[test]
fn select_takes_what_the_class_admits_from_the_start_revision_on() {
    let class = class_of(KeyRange::prefix("a"));
    let history = commits(2, &[b"a", b"b", b"ab", b"c"]);
    assert_eq!(select(&class, &history, Revision(3)).len(), 1);
}

proptest! {
    #[test]
    fn cut_loses_nothing_and_keeps_its_limits(
        history in any_commits(2, 0..20),
        bytes_max in 0_usize..20,
        revisions_max in 0_usize..5,
    ) {
        let events: Vec<_> = history.iter().flat_map(|it| it.events.clone()).collect();
        let limits = limits(bytes_max, revisions_max);
        let batches = cut(events.clone(), false, &limits);
        let joined: Vec<_> = batches.iter().flat_map(|it| it.events().to_vec()).collect();
        prop_assert_eq!(told(&joined), told(&events));
        for pair in batches.windows(2) {
            prop_assert!(pair[0].last() < pair[1].first());
        }
        for batch in &batches {
            prop_assert!(batch.revisions() <= revisions_max.max(1));
            prop_assert!(batch.bytes() <= bytes_max || batch.revisions() == 1);
        }
    }
}
