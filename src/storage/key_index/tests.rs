//! The key index against a list of all changes.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the numbers of a test are small"
)]

use super::*;
use crate::model::RangeEnd;
use proptest::prelude::*;

/// What every revision left of every key, kept forever.
#[derive(Debug, Default)]
struct Naive(Vec<(Bytes, Slot)>);

fn slot(main: i64, version: i64) -> Slot {
    Slot {
        main: Revision(main),
        create_revision: Revision(if version == 0 { 0 } else { main - version + 1 }),
        version,
        sub: 0,
        value_bytes: 10,
    }
}

impl Naive {
    fn live(&self, key: &[u8], at: i64) -> Option<Slot> {
        let changes = self
            .0
            .iter()
            .filter(|(changed, slot)| changed == key && slot.main.0 <= at);
        changes
            .last()
            .map(|(_, slot)| *slot)
            .filter(|slot| slot.version > 0)
    }

    /// The keys of a range at a revision.
    fn range(&self, range: &KeyRange, at: i64) -> Vec<(Bytes, Slot)> {
        let mut keys: Vec<&Bytes> = self.0.iter().map(|(key, _)| key).collect();
        keys.sort();
        keys.dedup();
        let found = keys.into_iter().filter(|key| range.contains(key));
        found
            .filter_map(|key| Some((key.clone(), self.live(key, at)?)))
            .collect()
    }

    /// What a compaction has to keep of a key, by the rule in words.
    fn kept(&self, key: &[u8], through: i64) -> Vec<Slot> {
        let changes: Vec<Slot> = self
            .0
            .iter()
            .filter(|(changed, _)| changed == key)
            .map(|(_, slot)| *slot)
            .collect();
        let newest_old = changes.iter().rfind(|slot| slot.main.0 <= through).copied();
        let keeps = |slot: &Slot| {
            let newest = Some(*slot) == newest_old;
            slot.main.0 > through || (newest && (slot.version > 0 || slot.main.0 == through))
        };
        changes.into_iter().filter(keeps).collect()
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop::sample::select(&b"ab\xff"[..]), 1..4).prop_map(Bytes::from)
}

fn key_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        key().prop_map(KeyRange::single),
        key().prop_map(KeyRange::prefix),
        (key(), key()).prop_map(|(start, end)| KeyRange {
            start,
            end: RangeEnd::Until(end),
        }),
        Just(KeyRange::everything()),
    ]
}

fn built(changes: &[(Bytes, bool)]) -> (KeyIndex, Naive) {
    let (mut index, mut naive) = (KeyIndex::default(), Naive::default());
    for ((key, is_put), main) in changes.iter().zip(2..) {
        let before = naive.live(key, i64::MAX);
        let version = match (is_put, before) {
            (true, before) => before.map_or(1, |slot| slot.version + 1),
            (false, Some(_)) => 0,
            // A key that does not exist is not deleted.
            (false, None) => continue,
        };
        index.push(key, slot(main, version));
        naive.0.push((key.clone(), slot(main, version)));
    }
    (index, naive)
}

fn prune_all(index: &mut KeyIndex, through: i64, portion: Portion) -> Vec<Place> {
    let (mut from, mut dead) = (None::<Bytes>, Vec::new());
    loop {
        let (start, before) = (from.as_deref(), dead.len());
        from = index.prune(start, Revision(through), portion, |place| dead.push(place));
        assert!(dead.len() - before <= portion.changes);
        if from.is_none() {
            return dead;
        }
    }
}

proptest! {
    #[test]
    fn index_answers_like_a_list(
        changes in prop::collection::vec((key(), prop::bool::weighted(0.7)), 0..40),
        range in key_range(),
        after in prop::option::of(key()),
    ) {
        let (index, naive) = built(&changes);
        for at in 0..=changes.len() as i64 + 2 {
            let live = |(key, slots): (&Bytes, &[Slot])| {
                Some((key.clone(), *live_at(slots, Revision(at))?))
            };
            let found: Vec<_> = index.range(&range, None).filter_map(live).collect();
            prop_assert_eq!(&found, &naive.range(&range, at));
            if let Some(after) = after.as_ref().filter(|after| range.contains(after)) {
                let rest: Vec<_> = index.range(&range, Some(after)).filter_map(live).collect();
                let expected = found.iter().filter(|(key, _)| key > after).cloned();
                prop_assert_eq!(rest, expected.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn prune_keeps_exactly_what_a_compaction_has_to_keep(
        changes in prop::collection::vec((key(), prop::bool::weighted(0.6)), 0..40),
        through in 0..45_i64,
        keys in 1..5_usize,
        changes_max in 1..5_usize,
    ) {
        let (mut index, naive) = built(&changes);
        let portion = Portion { keys, changes: changes_max };
        let dead = prune_all(&mut index, through, portion);
        for (key, _) in &changes {
            let kept = index.get(key).map_or(Vec::new(), |(_, slots)| slots.to_vec());
            prop_assert_eq!(kept, naive.kept(key, through));
        }
        let mut bytes = 0;
        for (key, slots) in index.range(&KeyRange::everything(), None) {
            prop_assert!(!slots.is_empty());
            bytes += slots.iter().map(|slot| slot.stored_bytes(key)).sum::<u64>();
            prop_assert!(slots.iter().all(|slot| index.holds(key, slot.place())));
            prop_assert!(slots.iter().all(|slot| !dead.contains(&slot.place())));
        }
        prop_assert_eq!(index.live_bytes(), bytes);
        prop_assert!(prune_all(&mut index, through, portion).is_empty());
    }

    #[test]
    fn slots_between_bounds_are_those_within(
        from in 0..30_i64,
        through in 0..30_i64,
        count in 0..25_i64,
    ) {
        let slots: Vec<Slot> = (0..count).map(|number| slot(number * 2, number + 1)).collect();
        let found = slots_between(&slots, Revision(from), Revision(through));
        let within = |slot: &&Slot| slot.main.0 >= from && slot.main.0 <= through;
        prop_assert_eq!(found, slots.iter().filter(within).copied().collect::<Vec<_>>());
    }
}

#[test]
fn slot_takes_thirty_two_bytes_and_one_is_kept_inline() {
    assert_eq!(size_of::<Slot>(), 32);
    assert!(!Slots::from_buf([slot(2, 1)]).spilled());
}
