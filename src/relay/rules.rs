//! Which ranges are watched on the cluster for those that clients watch: the rules, which could run on paper.
//!
//! A client's range always lies in one cover. Nothing here knows a watch, a connection or a clock.

use crate::model::{KeyRange, RangeEnd};
use bytes::Bytes;
use std::cmp::Reverse;

/// Where a range that is asked for finds its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In this cover, as it is.
    In(usize),
    /// In this cover, once it is as wide as this.
    Widened(usize, KeyRange),
    /// In a cover of its own.
    New,
}

/// Finds a place for `wanted`. Nested and overlapping ranges share a cover; those that touch nothing get covers of their
/// own until there are `covers_max`, and then share the one whose keys begin most like theirs.
pub(super) fn place(covers: &[KeyRange], wanted: &KeyRange, covers_max: usize) -> Place {
    let holds = |cover: &KeyRange| contains(cover, wanted);
    if let Some(number) = covers.iter().position(holds) {
        return Place::In(number);
    }
    let touches = |cover: &KeyRange| overlap(cover, wanted);
    if let Some(number) = covers.iter().position(touches) {
        let cover = covers.get(number).unwrap_or(wanted);
        return Place::Widened(number, hull(cover, wanted));
    }
    if covers.len() < covers_max.max(1) {
        return Place::New;
    }
    let likeness = |cover: &KeyRange| joint_prefix(&hull(cover, wanted)).len();
    let all = covers.iter().enumerate();
    let Some((number, cover)) = all.min_by_key(|(_, cover)| Reverse(likeness(cover))) else {
        return Place::New;
    };
    // As wide as their joint prefix: keys that come one by one would else widen it each time.
    let hull = hull(cover, wanted);
    let prefix = KeyRange::prefix(joint_prefix(&hull));
    Place::Widened(number, self::hull(&hull, &prefix))
}

/// True when all keys of `inner` are keys of `outer`.
pub(super) fn contains(outer: &KeyRange, inner: &KeyRange) -> bool {
    outer.start <= inner.start
        && match (past(outer), past(inner)) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(outer), Some(inner)) => inner <= outer,
        }
}

/// The narrowest range with all keys of both.
pub(super) fn hull(one: &KeyRange, other: &KeyRange) -> KeyRange {
    if one == other {
        return one.clone();
    }
    let start = one.start.clone().min(other.start.clone());
    let end = match (past(one), past(other)) {
        (Some(one), Some(other)) => RangeEnd::Until(one.max(other)),
        _ => RangeEnd::Open,
    };
    KeyRange { start, end }
}

fn overlap(one: &KeyRange, other: &KeyRange) -> bool {
    let begins_within = |range: &KeyRange, other: &KeyRange| other.contains(&range.start);
    begins_within(one, other) || begins_within(other, one)
}

/// The first key that is no longer in the range; `None` when it has no end.
fn past(range: &KeyRange) -> Option<Bytes> {
    match &range.end {
        RangeEnd::Single => Some([range.start.as_ref(), &[0]].concat().into()),
        RangeEnd::Open => None,
        RangeEnd::Until(end) => Some(end.clone()),
    }
}

/// What all keys of a range begin with, as far as its two ends tell.
fn joint_prefix(range: &KeyRange) -> Bytes {
    let Some(past) = past(range) else {
        return Bytes::new();
    };
    let same = range.start.iter().zip(past.iter());
    let same = same.take_while(|(one, other)| one == other).count();
    range.start.slice(..same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn until(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::from_wire(start.into(), end.into())
    }

    #[test]
    fn nested_and_overlapping_ranges_share_a_cover() {
        let covers = [KeyRange::prefix("/a/"), KeyRange::prefix("/b/")];
        let place = |wanted: &KeyRange| place(&covers, wanted, 8);
        assert_eq!(place(&KeyRange::single("/a/1")), Place::In(0));
        assert_eq!(place(&KeyRange::prefix("/b/c/")), Place::In(1));
        assert_eq!(place(&KeyRange::prefix("/c/")), Place::New);
        let over = until("/a/x", "/az");
        assert_eq!(place(&over), Place::Widened(0, until("/a/", "/az")));
        assert_eq!(
            place(&KeyRange::prefix("/")),
            Place::Widened(0, KeyRange::prefix("/"))
        );
        assert_eq!(
            place(&KeyRange::everything()),
            Place::Widened(0, KeyRange::everything())
        );
    }

    #[test]
    fn single_keys_beyond_the_limit_share_the_prefix_that_they_have_in_common() {
        let covers = [KeyRange::single("/pods/a1"), KeyRange::single("/nodes/b1")];
        let wanted = KeyRange::single("/pods/a7");
        let widened = KeyRange::prefix("/pods/a");
        assert_eq!(place(&covers, &wanted, 2), Place::Widened(0, widened));
        let wanted = KeyRange::single("zzz");
        let Place::Widened(_, range) = place(&covers, &wanted, 2) else {
            panic!("there is no room for one more");
        };
        assert!(contains(&range, &wanted));
    }

    #[test]
    fn many_ranges_are_few_covers_and_few_changes() {
        let mut covers: Vec<KeyRange> = Vec::new();
        let mut changes = 0;
        for number in 0..10_000 {
            let wanted = KeyRange::single(format!("/registry/pods/{number:05}"));
            match place(&covers, &wanted, 4) {
                Place::In(_) => {}
                Place::New => covers.push(wanted),
                Place::Widened(at, range) => {
                    changes += 1;
                    covers[at] = range;
                }
            }
        }
        assert_eq!(covers.len(), 4);
        assert!(changes <= 5, "{changes}");
    }

    fn some_range() -> impl Strategy<Value = KeyRange> {
        let key = || proptest::collection::vec(0_u8..4, 1..4).prop_map(Bytes::from);
        prop_oneof![
            key().prop_map(KeyRange::single),
            key().prop_map(KeyRange::prefix),
            (key(), key()).prop_map(|(a, b)| KeyRange {
                start: a.clone().min(b.clone()),
                end: RangeEnd::Until([a.max(b).as_ref(), &[1]].concat().into()),
            }),
            key().prop_map(|start| KeyRange {
                start,
                end: RangeEnd::Open
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_place_holds_all_keys_that_it_is_for(
            covers in proptest::collection::vec(some_range(), 0..5),
            wanted in some_range(),
            covers_max in 1_usize..6,
            key in proptest::collection::vec(0_u8..4, 1..5),
        ) {
            match place(&covers, &wanted, covers_max) {
                Place::In(at) => prop_assert!(!wanted.contains(&key) || covers[at].contains(&key)),
                Place::Widened(at, range) => {
                    prop_assert!(!wanted.contains(&key) || range.contains(&key));
                    prop_assert!(!covers[at].contains(&key) || range.contains(&key));
                    prop_assert!(contains(&range, &covers[at]) && contains(&range, &wanted));
                }
                Place::New => prop_assert!(covers.len() < covers_max),
            }
        }

        #[test]
        fn containing_is_what_the_keys_say(
            outer in some_range(),
            inner in some_range(),
            key in proptest::collection::vec(0_u8..4, 1..5),
        ) {
            if contains(&outer, &inner) && inner.contains(&key) {
                prop_assert!(outer.contains(&key));
            }
            let hull = hull(&outer, &inner);
            prop_assert!(contains(&hull, &outer) && contains(&hull, &inner));
        }
    }
}
