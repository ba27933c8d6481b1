//! Which ranges are watched on the cluster for those that clients watch: the rules, which could run on paper.
//!
//! A client's range always lies in one cover. Nothing here knows a watch, a connection or a clock.

use crate::model::{KeyRange, RangeEnd};
use bytes::Bytes;
use std::cmp::{Ordering, Reverse};
use std::iter::repeat_n;

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
    outer.start <= inner.start && ends(outer, inner) != Ordering::Less
}

/// The narrowest range with all keys of both.
pub(super) fn hull(one: &KeyRange, other: &KeyRange) -> KeyRange {
    if one == other {
        return one.clone();
    }
    let last = if ends(one, other) == Ordering::Less {
        other
    } else {
        one
    };
    KeyRange {
        start: one.start.clone().min(other.start.clone()),
        end: past(last).map_or(RangeEnd::Open, RangeEnd::Until),
    }
}

/// The narrowest range with all keys of all of them.
pub(super) fn hull_of<'a>(ranges: impl Iterator<Item = &'a KeyRange> + Clone) -> Option<KeyRange> {
    let first = ranges.clone().min_by_key(|range| &range.start)?;
    let last = ranges.max_by(|one, other| ends(one, other))?;
    Some(hull(first, last))
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
    let roomy = hull(outline, &prefix);
    let fits = |range: &KeyRange| contains(present, range);
    let narrow = if !is_one_range && fits(&roomy) {
        &roomy
    } else {
        outline
    };
    (narrow != present && fits(narrow)).then(|| narrow.clone())
}

/// True when one of the two ends of `inner`, which lies in `outer`, is an end of `outer`.
pub(super) fn touches_an_end(outer: &KeyRange, inner: &KeyRange) -> bool {
    outer.start == inner.start || ends(outer, inner) == Ordering::Equal
}

/// Which of the two ends later.
fn ends(one: &KeyRange, other: &KeyRange) -> Ordering {
    match (last_bytes(one), last_bytes(other)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(one), Some(other)) => one.cmp(other),
    }
}

/// The bytes of the first key that is no longer in the range, of which nothing is copied: there may be a million ranges.
fn last_bytes(range: &KeyRange) -> Option<impl Iterator<Item = &u8>> {
    let (key, zeros) = match &range.end {
        RangeEnd::Single => (&range.start, 1),
        RangeEnd::Until(end) => (end, 0),
        RangeEnd::Open => return None,
    };
    Some(key.iter().chain(repeat_n(&0, zeros)))
}

fn overlap(one: &KeyRange, other: &KeyRange) -> bool {
    let begins_within = |range: &KeyRange, other: &KeyRange| other.contains(&range.start);
    begins_within(one, other) || begins_within(other, one)
}

/// The first key that is no longer in the range; `None` when it has no end.
fn past(range: &KeyRange) -> Option<Bytes> {
    last_bytes(range).map(|bytes| bytes.copied().collect())
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
    fn a_cover_of_keys_stays_as_wide_as_what_they_have_in_common() {
        let single = |key: &'static str| KeyRange::single(key);
        let of = |ranges: &[KeyRange]| hull_of(ranges.iter()).unwrap();
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
                    prop_assert!(contains(&range, &covers[at]) && contains(&range, &wanted));
                }
                Place::New => prop_assert!(covers.len() < covers_max),
            }
        }

        #[test]
        fn what_is_narrowed_holds_all_that_is_watched(
            ranges in proptest::collection::vec(some_range(), 1..6),
            present in some_range(),
        ) {
            let outline = hull_of(ranges.iter()).unwrap();
            prop_assert!(ranges.iter().all(|range| contains(&outline, range)));
            prop_assert!(ranges.iter().any(|range| touches_an_end(&outline, range)));
            let present = hull(&present, &outline);
            if let Some(narrow) = narrowed(&present, &outline, ranges.len() == 1) {
                prop_assert!(contains(&narrow, &outline) && contains(&present, &narrow));
                prop_assert!(!contains(&narrow, &present));
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
            if contains(&outer, &inner) {
                prop_assert!(hull == outer || contains(&outer, &hull));
            }
        }
    }
}
