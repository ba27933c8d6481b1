//! The index against asking every range.

use super::*;
use crate::watch::test_support::{any_key, any_range};
use proptest::prelude::*;

impl Ranges for Vec<KeyRange> {
    fn range(&self, slot: Slot) -> Option<&KeyRange> {
        self.get(slot.index())
    }
}

fn stab(index: &IntervalIndex, ranges: &Vec<KeyRange>, key: &[u8]) -> Vec<usize> {
    let mut hits = Vec::new();
    index.stab(ranges, key, &mut |slot| hits.push(slot.index()));
    hits.sort_unstable();
    hits
}

fn until(start: &'static [u8], end: &'static [u8]) -> KeyRange {
    KeyRange {
        start: Bytes::from_static(start),
        end: RangeEnd::Until(Bytes::from_static(end)),
    }
}

#[test]
fn awkward_bounds_hit_what_their_ranges_contain() {
    let ranges = vec![
        KeyRange {
            start: Bytes::new(),
            end: RangeEnd::Open,
        },
        KeyRange::single(""),
        KeyRange::single(Bytes::from_static(b"\0")),
        KeyRange::prefix(Bytes::from_static(b"\xff")),
        until(b"", b"\0"),
        until(b"a", b"a\0"),
        until(b"b", b"a"),
        until(b"\xff", b"\xff\xff"),
    ];
    let mut index = IntervalIndex::new();
    for at in 0..ranges.len() {
        index.insert(&ranges, Slot::at(at));
    }
    assert_eq!(stab(&index, &ranges, b""), [0, 1, 4]);
    assert_eq!(stab(&index, &ranges, b"\0"), [0, 2]);
    assert_eq!(stab(&index, &ranges, b"a"), [0, 5]);
    assert_eq!(stab(&index, &ranges, b"a\0"), [0]);
    assert_eq!(stab(&index, &ranges, b"\xff"), [0, 3, 7]);
    assert_eq!(stab(&index, &ranges, b"\xff\xff"), [0, 3]);
}

#[test]
fn a_length_that_no_prefix_has_any_more_is_not_looked_at() {
    let ranges = vec![KeyRange::prefix("ab")];
    let mut index = IntervalIndex::new();
    index.insert(&ranges, Slot::at(0));
    assert_eq!(index.remove(&ranges, &ranges[0]), Some(Slot::at(0)));
    assert!(index.prefixes.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_index_answers_as_asking_every_range_would(
        wanted in proptest::collection::vec(any_range(), 1..40),
        steps in proptest::collection::vec((any::<proptest::sample::Index>(), any::<bool>()), 0..120),
        keys in proptest::collection::vec(any_key(), 1..10),
    ) {
        let mut ranges = wanted;
        ranges.sort();
        ranges.dedup();
        let mut present = vec![false; ranges.len()];
        let mut index = IntervalIndex::new();
        for (pick, insert) in steps {
            let at = pick.index(ranges.len());
            if insert && !present[at] {
                index.insert(&ranges, Slot::at(at));
                present[at] = true;
            } else if !insert {
                let removed = index.remove(&ranges, &ranges[at]);
                prop_assert_eq!(removed.is_some(), present[at]);
                present[at] = false;
            }
        }
        for at in 0..ranges.len() {
            let found = index.get(&ranges, &ranges[at]).map(Slot::index);
            prop_assert_eq!(found, present[at].then_some(at));
        }
        for key in keys {
            let naive: Vec<_> = (0..ranges.len())
                .filter(|at| present[*at] && ranges[*at].contains(&key))
                .collect();
            prop_assert_eq!(stab(&index, &ranges, &key), naive);
        }
    }
}
