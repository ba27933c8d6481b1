//! Classes by number: each distinct `WatchClass` once, found by its value, by its number, or by a key that changed.
//!
//! A number outlives its class but never names another one. Whoever uses this table removes a class that has nothing in
//! it any more.

use super::chunked::Chunked;
use super::interval_index::{IntervalIndex, Ranges};
use super::slot_table::Slot;
use crate::model::{Commit, Event, KeyRange, WatchClass};
use std::sync::Arc;

/// The number of a class within one table. Once its class is gone it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId {
    pub(super) slot: Slot,
    generation: u32,
}

/// Classes, each with a body of type `T`.
#[derive(Debug)]
pub(super) struct ClassTable<T> {
    rows: Rows<T>,
    index: IntervalIndex,
    free: Option<Slot>,
    len: usize,
    /// The generation of the latest class: the table's, and not the row's, so that rows can be given back.
    generation: u32,
}

#[derive(Debug)]
struct Rows<T>(Chunked<Row<T>>);

#[derive(Debug)]
struct Row<T> {
    class: Option<Arc<WatchClass>>,
    body: T,
    generation: u32,
    /// The next class of the same range; of a vacant row, the next vacant one. The index knows the first of a range.
    next: Option<Slot>,
}

/// The events that a class is told of, in order.
#[derive(Debug)]
pub(super) struct Hits {
    pub(super) id: ClassId,
    pub(super) class: Arc<WatchClass>,
    pub(super) events: Vec<Arc<Event>>,
}

impl<T> Ranges for Rows<T> {
    fn range(&self, slot: Slot) -> Option<&KeyRange> {
        self.0.get(slot.index())?.class.as_ref().map(|it| &it.range)
    }
}

impl<T: Default> ClassTable<T> {
    pub(super) fn new() -> Self {
        Self {
            rows: Rows(Chunked::new()),
            index: IntervalIndex::new(),
            free: None,
            len: 0,
            generation: 0,
        }
    }

    /// How many classes there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number of a class.
    pub(super) fn find(&self, class: &WatchClass) -> Option<ClassId> {
        let first = self.index.get(&self.rows, &class.range);
        let slot = self.chain(first).find(|slot| {
            let row = self.row(*slot);
            row.and_then(|row| row.class.as_deref()) == Some(class)
        })?;
        self.id(slot)
    }

    /// The number of a class, new or not.
    pub(super) fn find_or_insert(&mut self, class: &Arc<WatchClass>) -> ClassId {
        if let Some(id) = self.find(class) {
            return id;
        }
        self.len += 1;
        let slot = self.occupy(Arc::clone(class));
        match self.index.get(&self.rows, &class.range) {
            Some(first) => {
                let second = self.row_mut(first).and_then(|row| row.next.replace(slot));
                if let Some(row) = self.row_mut(slot) {
                    row.next = second;
                }
            }
            None => self.index.insert(&self.rows, slot),
        }
        self.id(slot).unwrap_or(ClassId {
            slot,
            generation: self.generation,
        })
    }

    /// Takes a class out and gives what it held.
    pub(super) fn remove(&mut self, id: ClassId) -> Option<T> {
        let class = Arc::clone(self.class(id)?);
        let next = self.row(id.slot)?.next;
        let first = self.index.get(&self.rows, &class.range)?;
        if first == id.slot {
            self.index.remove(&self.rows, &class.range);
            if let Some(next) = next {
                self.index.insert(&self.rows, next);
            }
        } else {
            let before = self.chain(Some(first)).find(|slot| {
                let row = self.row(*slot);
                row.is_some_and(|row| row.next == Some(id.slot))
            })?;
            self.row_mut(before)?.next = next;
        }
        self.len = self.len.saturating_sub(1);
        let free = self.free.replace(id.slot);
        let row = self.row_mut(id.slot)?;
        row.next = free;
        row.class = None;
        let body = std::mem::take(&mut row.body);
        if self.len == 0 {
            self.rows.0 = Chunked::new();
            self.free = None;
        }
        Some(body)
    }

    /// The class of a number.
    pub(super) fn class(&self, id: ClassId) -> Option<&Arc<WatchClass>> {
        self.live(id)?.class.as_ref()
    }

    /// What a class holds.
    pub(super) fn get(&self, id: ClassId) -> Option<&T> {
        self.live(id).map(|row| &row.body)
    }

    /// What a class holds, to be changed.
    pub(super) fn get_mut(&mut self, id: ClassId) -> Option<&mut T> {
        let row = self.row_mut(id.slot)?;
        let alive = row.generation == id.generation && row.class.is_some();
        alive.then_some(&mut row.body)
    }

    /// What the class of a slot holds.
    pub(super) fn at(&self, slot: Slot) -> Option<&T> {
        self.row(slot).map(|row| &row.body)
    }

    /// The number of the class in a slot.
    pub(super) fn id(&self, slot: Slot) -> Option<ClassId> {
        let row = self.row(slot)?;
        row.class.as_ref()?;
        Some(ClassId {
            slot,
            generation: row.generation,
        })
    }

    /// All classes with what they hold.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<WatchClass>, &T)> {
        let rows = self.rows.0.iter();
        rows.filter_map(|row| Some((row.class.as_ref()?, &row.body)))
    }

    /// What all classes hold.
    pub(super) fn into_bodies(self) -> impl Iterator<Item = T> {
        self.rows.0.into_iter().map(|row| row.body)
    }

    /// Which of the classes that `wanted` says yes to are told of which events.
    pub(super) fn hits(&self, commits: &[Arc<Commit>], wanted: impl Fn(&T) -> bool) -> Vec<Hits> {
        let mut events = Vec::new();
        let mut pairs: Vec<(Slot, usize)> = Vec::new();
        for event in commits.iter().flat_map(|commit| &commit.events) {
            self.index.stab(&self.rows, &event.kv.key, &mut |first| {
                for slot in self.chain(Some(first)) {
                    if self.tells(slot, event, &wanted) {
                        pairs.push((slot, events.len()));
                    }
                }
            });
            events.push(event);
        }
        // By class, and by order within it: the pairs differ, so that this sort is as good as a stable one.
        pairs.sort_unstable();
        let by_class = pairs.chunk_by(|a, b| a.0 == b.0);
        by_class
            .filter_map(|pairs| {
                let id = self.id(pairs.first()?.0)?;
                let hit = pairs.iter().filter_map(|(_, at)| events.get(*at).copied());
                Some(Hits {
                    id,
                    class: Arc::clone(self.class(id)?),
                    events: hit.map(Arc::clone).collect(),
                })
            })
            .collect()
    }

    /// Asked of a class whose range is known to contain the key.
    fn tells(&self, slot: Slot, event: &Event, wanted: impl Fn(&T) -> bool) -> bool {
        self.row(slot).is_some_and(|row| {
            let class = row.class.as_ref();
            class.is_some_and(|class| class.filters.admit(event.kind)) && wanted(&row.body)
        })
    }

    fn chain(&self, first: Option<Slot>) -> impl Iterator<Item = Slot> {
        std::iter::successors(first, |slot| self.row(*slot)?.next)
    }

    fn occupy(&mut self, class: Arc<WatchClass>) -> Slot {
        self.generation = self.generation.wrapping_add(1);
        let new = Row {
            class: Some(class),
            body: T::default(),
            generation: self.generation,
            next: None,
        };
        let vacant = self
            .free
            .and_then(|slot| Some((slot, self.rows.0.get_mut(slot.index())?)));
        if let Some((slot, row)) = vacant {
            self.free = row.next;
            *row = new;
            return slot;
        }
        self.rows.0.push(new);
        Slot::at(self.rows.0.len() - 1)
    }

    fn live(&self, id: ClassId) -> Option<&Row<T>> {
        let row = self.row(id.slot)?;
        (row.generation == id.generation && row.class.is_some()).then_some(row)
    }

    fn row(&self, slot: Slot) -> Option<&Row<T>> {
        self.rows.0.get(slot.index())
    }

    fn row_mut(&mut self, slot: Slot) -> Option<&mut Row<T>> {
        self.rows.0.get_mut(slot.index())
    }
}
