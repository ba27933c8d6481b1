//! A hash table of small numbers whose keys live elsewhere: what a million idle watchers cost per table is one cell.
//!
//! The table never sees a key. Its owner hashes, compares and, when cells move, hashes again; whatever the cells point
//! at must therefore still be there while the table changes.

use std::num::NonZeroU32;

/// Fewest cells of a table that is not empty.
const CELLS_MIN: usize = 8;

/// A place in a slab, in four bytes even when it is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(NonZeroU32);

impl Slot {
    /// No slot sorts before it.
    pub(super) const FIRST: Self = Self(NonZeroU32::MIN);

    /// The slot of a place. Memory ends long before the four billion places that a slot can name.
    pub(super) fn at(index: usize) -> Self {
        let number = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        Self(NonZeroU32::new(number).unwrap_or(NonZeroU32::MAX))
    }

    /// The slot that sorts next.
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The place.
    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Open addressing with linear probing, at most three quarters full, and no tombstones: a removal moves what follows
/// back, so that a table which has seen a billion keys is as good as new.
#[derive(Debug)]
pub(super) struct SlotTable<T> {
    /// A power of two of them, or none.
    cells: Vec<Option<T>>,
    len: usize,
}

impl<T: Copy> SlotTable<T> {
    pub(super) const fn new() -> Self {
        Self {
            cells: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value with this hash that `is_it` says yes to.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(T) -> bool) -> Option<T> {
        let at = self.position(hash, is_it)?;
        self.cell(at)
    }

    /// The same, to be changed into a value of the same hash.
    pub(super) fn find_mut(&mut self, hash: u64, is_it: impl Fn(T) -> bool) -> Option<&mut T> {
        let at = self.position(hash, is_it)?;
        self.cells.get_mut(at)?.as_mut()
    }

    /// Adds a value that is not there yet. `hash_of` answers for every value that is.
    pub(super) fn insert(&mut self, hash: u64, value: T, hash_of: impl Fn(T) -> u64) {
        if (self.len + 1) * 4 > self.cells.len() * 3 {
            self.resize((self.cells.len() * 2).max(CELLS_MIN), &hash_of);
        }
        self.place(hash, value);
        self.len += 1;
    }

    /// Takes the value out. `hash_of` answers for every value that is there, this one included.
    pub(super) fn remove(
        &mut self,
        hash: u64,
        is_it: impl Fn(T) -> bool,
        hash_of: impl Fn(T) -> u64,
    ) -> Option<T> {
        let mut hole = self.position(hash, is_it)?;
        let removed = self.cells.get_mut(hole)?.take();
        self.len = self.len.saturating_sub(1);
        let mut at = self.after(hole);
        while let Some(value) = self.cell(at) {
            // A value moves back into the hole unless that would put it before its home.
            let home = self.home(hash_of(value));
            if self.distance(home, at) >= self.distance(hole, at) {
                self.cells.swap(hole, at);
                hole = at;
            }
            at = self.after(at);
        }
        if self.cells.len() > CELLS_MIN && self.len * 8 < self.cells.len() {
            self.resize(self.cells.len() / 4, &hash_of);
        }
        removed
    }

    fn position(&self, hash: u64, is_it: impl Fn(T) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        // There is always an empty cell, so this ends.
        while let Some(value) = self.cell(at) {
            if is_it(value) {
                return Some(at);
            }
            at = self.after(at);
        }
        None
    }

    fn place(&mut self, hash: u64, value: T) {
        let mut at = self.home(hash);
        while self.cell(at).is_some() {
            at = self.after(at);
        }
        if let Some(cell) = self.cells.get_mut(at) {
            *cell = Some(value);
        }
    }

    fn resize(&mut self, cells: usize, hash_of: &impl Fn(T) -> u64) {
        let cells = cells.max(CELLS_MIN);
        let old = std::mem::replace(&mut self.cells, vec![None; cells]);
        for value in old.into_iter().flatten() {
            self.place(hash_of(value), value);
        }
    }

    fn cell(&self, at: usize) -> Option<T> {
        self.cells.get(at).copied().flatten()
    }

    fn mask(&self) -> usize {
        self.cells.len().wrapping_sub(1)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low bits of a hash are as good as all"
    )]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask()
    }

    fn after(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.mask()
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.mask()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Few homes, so that runs are long and wrap around the end.
    fn hash(value: u32) -> u64 {
        u64::from(value % 7).wrapping_sub(3)
    }

    proptest! {
        #[test]
        fn a_table_holds_what_a_set_holds(
            steps in proptest::collection::vec((0_u32..40, any::<bool>()), 0..200),
        ) {
            let mut table = SlotTable::new();
            let mut model = BTreeSet::new();
            for (value, insert) in steps {
                if insert && model.insert(value) {
                    table.insert(hash(value), value, hash);
                } else if !insert {
                    let removed = table.remove(hash(value), |it| it == value, hash);
                    prop_assert_eq!(removed, model.take(&value));
                }
                prop_assert_eq!(table.is_empty(), model.is_empty());
                for value in 0..40 {
                    let found = table.find(hash(value), |it| it == value);
                    prop_assert_eq!(found, model.get(&value).copied());
                }
            }
        }
    }

    #[test]
    fn an_optional_slot_takes_four_bytes_and_names_its_place() {
        assert_eq!(size_of::<Option<Slot>>(), 4);
        assert_eq!(Slot::at(7).index(), 7);
    }

    #[test]
    fn an_emptied_table_gives_its_memory_back() {
        let mut table = SlotTable::new();
        for value in 0..1000_u32 {
            table.insert(u64::from(value), value, u64::from);
        }
        for value in 0..1000_u32 {
            table.remove(u64::from(value), |it| it == value, u64::from);
        }
        assert!(table.cells.len() <= 2 * CELLS_MIN);
    }
}
