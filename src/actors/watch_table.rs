//! The live watches of one stream, by id.
//!
//! Most clients leave the ids to the server, which counts; those lie in a run without gaps, where a watch takes no more than
//! itself (B3). Ids that a client chose elsewhere are in a tree. It knows nothing of what a watch is.

use crate::model::WatchId;
use crate::watch::Chunked;
use std::collections::BTreeMap;
use std::mem;

/// Below this length nobody asks how much of the run is in use.
const RUN_SHORT: usize = 64;

/// Watches by id; always gone through in the same order (T5).
#[derive(Debug)]
pub(crate) struct WatchTable<T> {
    /// The id at the front of the run.
    front: i64,
    run: Chunked<Option<T>>,
    /// How many of the run are there.
    run_len: usize,
    others: BTreeMap<WatchId, T>,
}

impl<T> Default for WatchTable<T> {
    fn default() -> Self {
        Self {
            front: 0,
            run: Chunked::new(),
            run_len: 0,
            others: BTreeMap::new(),
        }
    }
}

impl<T> WatchTable<T> {
    /// How many watches there are.
    pub(crate) fn len(&self) -> usize {
        self.run_len + self.others.len()
    }

    /// True when there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The watch of this id.
    pub(crate) fn get(&self, id: WatchId) -> Option<&T> {
        let in_run = self.place(id).and_then(|at| self.run.get(at)?.as_ref());
        in_run.or_else(|| self.others.get(&id))
    }

    /// True when the id is taken.
    pub(crate) fn contains(&self, id: WatchId) -> bool {
        self.get(id).is_some()
    }

    /// Adds a watch; gives the one back that had this id.
    pub(crate) fn insert(&mut self, id: WatchId, watch: T) -> Option<T> {
        if let Some(there) = self.others.get_mut(&id) {
            return Some(mem::replace(there, watch));
        }
        if self.run.is_empty() {
            self.front = id.0;
        }
        let Some(at) = self.place(id).filter(|at| *at <= self.run.len()) else {
            self.others.insert(id, watch);
            return None;
        };
        let before = if let Some(place) = self.run.get_mut(at) {
            place.replace(watch)
        } else {
            self.run.push(Some(watch));
            None
        };
        self.run_len += usize::from(before.is_none());
        before
    }

    /// Takes a watch out.
    pub(crate) fn remove(&mut self, id: WatchId) -> Option<T> {
        let in_run = self.place(id).and_then(|at| self.run.get_mut(at)?.take());
        let Some(watch) = in_run else {
            return self.others.remove(&id);
        };
        self.run_len -= 1;
        if self.run_len == 0 || (self.run.len() > RUN_SHORT && self.run_len * 4 < self.run.len()) {
            self.begin_anew();
        }
        Some(watch)
    }

    /// All watches.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.run.iter().flatten().chain(self.others.values())
    }

    /// All watches, without the table.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.run
            .into_iter()
            .flatten()
            .chain(self.others.into_values())
    }

    /// A stream that creates and cancels all day shall not keep a place for every id that it ever had: the few that are
    /// left move to the tree.
    fn begin_anew(&mut self) {
        let mut id = self.front;
        for watch in mem::take(&mut self.run) {
            if let Some(watch) = watch {
                self.others.insert(WatchId(id), watch);
            }
            // Behind the last id that there is comes nothing more.
            id = id.wrapping_add(1);
        }
        self.run_len = 0;
    }

    fn place(&self, id: WatchId) -> Option<usize> {
        usize::try_from(id.0.checked_sub(self.front)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ids that the server counted, near ones that a client chose, and far ones.
    fn ids() -> impl Strategy<Value = i64> {
        prop_oneof![0_i64..200, 0_i64..20, Just(i64::MAX), Just(1 << 40)]
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(
            counted in 0_i64..300,
            steps in proptest::collection::vec((ids(), 0_u8..4), 0..400),
        ) {
            let mut table = WatchTable::default();
            let mut model = BTreeMap::new();
            for id in 0..counted {
                prop_assert_eq!(table.insert(WatchId(id), id), model.insert(WatchId(id), id));
            }
            for (id, step) in steps {
                let id = WatchId(id);
                if step == 0 {
                    prop_assert_eq!(table.insert(id, id.0), model.insert(id, id.0));
                } else {
                    prop_assert_eq!(table.remove(id), model.remove(&id));
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.is_empty(), model.is_empty());
                prop_assert_eq!(table.get(id), model.get(&id));
                prop_assert_eq!(table.contains(id), model.contains_key(&id));
            }
            let mut values: Vec<_> = table.values().copied().collect();
            values.sort_unstable();
            prop_assert_eq!(&values, &model.into_values().collect::<Vec<_>>());
            let mut owned: Vec<_> = table.into_values().collect();
            owned.sort_unstable();
            prop_assert_eq!(owned, values);
        }
    }

    #[test]
    fn the_highest_id_comes_and_goes_like_any_other() {
        let mut table = WatchTable::default();
        table.insert(WatchId(i64::MAX), ());
        assert!(table.remove(WatchId(i64::MAX)).is_some());
        assert!(table.is_empty());
    }

    #[test]
    fn b3_ids_that_have_come_and_gone_take_no_place() {
        let mut table = WatchTable::default();
        table.insert(WatchId(0), ());
        for id in 1..100_000 {
            table.insert(WatchId(id), ());
            table.remove(WatchId(id));
        }
        assert_eq!(table.len(), 1);
        assert!(table.run.len() <= RUN_SHORT + 1);
        assert!(table.contains(WatchId(0)));
    }
}
