//! Which ranges are watched on the cluster for those that clients watch: the rules, which could run on paper.
//!
//! A client's range always lies in one cover. Nothing here knows a watch, a connection or a clock.

use crate::model::KeyRange;
use bytes::Bytes;
use std::cmp::{Ordering, Reverse};

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
    let holds = |cover: &KeyRange| cover.encloses(wanted);
    if let Some(number) = covers.iter().position(holds) {
        return Place::In(number);
    }
    let touches = |cover: &KeyRange| overlap(cover, wanted);
    if let Some(number) = covers.iter().position(touches) {
        let cover = covers.get(number).unwrap_or(wanted);
        return Place::Widened(number, cover.hull(wanted));
    }
    if covers.len() < covers_max.max(1) {
        return Place::New;
    }
    let likeness = |cover: &KeyRange| joint_prefix(&cover.hull(wanted)).len();
    let all = covers.iter().enumerate();
    let Some((number, cover)) = all.min_by_key(|(_, cover)| Reverse(likeness(cover))) else {
        return Place::New;
    };
    // As wide as their joint prefix: keys that come one by one would else widen it each time.
    let hull = cover.hull(wanted);
    let prefix = KeyRange::prefix(joint_prefix(&hull));
    Place::Widened(number, hull.hull(&prefix))
}

/// How narrow a cover may become that is `present` now, when all that is watched in it has this outline; nothing when it stays
/// as it is.
pub(super) fn narrowed(
    present: &KeyRange,
    outline: &KeyRange,
    is_one_range: bool,
) -> Option<KeyRange> {
    // Keys that come and go one by one would else narrow and widen it each time.
    let prefix = KeyRange::prefix(joint_prefix(outline));
    let roomy = outline.hull(&prefix);
    let fits = |range: &KeyRange| present.encloses(range);
    let narrow = if !is_one_range && fits(&roomy) {
        &roomy
    } else {
        outline
    };
    (narrow != present && fits(narrow)).then(|| narrow.clone())
}

/// True when one of the two ends of `inner`, which lies in `outer`, is an end of `outer`.
pub(super) fn touches_an_end(outer: &KeyRange, inner: &KeyRange) -> bool {
    outer.start == inner.start || outer.cmp_end(inner) == Ordering::Equal
}

fn overlap(one: &KeyRange, other: &KeyRange) -> bool {
    let begins_within = |range: &KeyRange, other: &KeyRange| other.contains(&range.start);
    begins_within(one, other) || begins_within(other, one)
}

/// What all keys of a range begin with, as far as its two ends tell.
fn joint_prefix(range: &KeyRange) -> Bytes {
    let Some(past) = range.past() else {
        return Bytes::new();
    };
    let same = range.start.iter().zip(past.iter());
    let same = same.take_while(|(one, other)| one == other).count();
    range.start.slice(..same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RangeEnd;
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
        assert!(range.encloses(&wanted));
    }

    #[test]
    fn a_cover_of_keys_stays_as_wide_as_what_they_have_in_common() {
        let single = |key: &'static str| KeyRange::single(key);
        let of = |ranges: &[KeyRange]| KeyRange::hull_of(ranges.iter()).unwrap();
        let pods = KeyRange::prefix("/pods/");
        let keys = of(&[single("/pods/b"), single("/pods/a"), single("/pods/c")]);
        assert_eq!(keys, until("/pods/a", "/pods/c\0"));
        assert_eq!(narrowed(&pods, &keys, false), None);
        let narrow = narrowed(&KeyRange::everything(), &keys, false);
        assert_eq!(narrow, Some(pods.clone()));
        let one = of(&[single("/pods/b")]);
        assert_eq!(narrowed(&pods, &one, true), Some(single("/pods/b")));
        // What they have in common does not fit in.
        let over = until("/pods/a", "/pods/z");
        assert_eq!(narrowed(&over, &keys, false), Some(keys));
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
                    prop_assert!(range.encloses(&covers[at]) && range.encloses(&wanted));
                }
                Place::New => prop_assert!(covers.len() < covers_max),
            }
        }

        #[test]
        fn what_is_narrowed_holds_all_that_is_watched(
            ranges in proptest::collection::vec(some_range(), 1..6),
            present in some_range(),
        ) {
            let outline = KeyRange::hull_of(ranges.iter()).unwrap();
            prop_assert!(ranges.iter().all(|range| outline.encloses(range)));
            prop_assert!(ranges.iter().any(|range| touches_an_end(&outline, range)));
            let present = present.hull(&outline);
            if let Some(narrow) = narrowed(&present, &outline, ranges.len() == 1) {
                prop_assert!(narrow.encloses(&outline) && present.encloses(&narrow));
                prop_assert!(!narrow.encloses(&present));
            }
        }

        #[test]
        fn containing_is_what_the_keys_say(
            outer in some_range(),
            inner in some_range(),
            key in proptest::collection::vec(0_u8..4, 1..5),
        ) {
            if outer.encloses(&inner) && inner.contains(&key) {
                prop_assert!(outer.contains(&key));
            }
            let hull = outer.hull(&inner);
            prop_assert!(hull.encloses(&outer) && hull.encloses(&inner));
            if outer.encloses(&inner) {
                prop_assert!(hull == outer || outer.encloses(&hull));
            }
        }
    }
}
