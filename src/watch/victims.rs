//! Entries whose watcher was full, each with what it is owed.
//!
//! What the victims pin is bounded in bytes (V2, B2): beyond the limit a victim keeps only its revision, and reads the
//! rest from history again. Nothing is ever lost by that.

use super::{Batch, Entry, WatcherId};
use crate::fault::{self, Fault};
use crate::model::Revision;
use ahash::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// What a victim could not be given.
#[derive(Clone, Debug)]
pub enum Owed {
    /// These events. The entry's cursor stands behind them.
    Events(Arc<Batch>),
    /// The news that its start is compacted (L6), with which it ends.
    Compacted(Revision),
    /// Nothing that is kept: it reads on from its cursor.
    Nothing,
}

/// An entry with what it is owed.
#[derive(Debug)]
pub struct Victim<R> {
    /// The entry.
    pub entry: Entry<R>,
    /// What it is to be given first.
    pub owed: Owed,
}

/// All victims of a group.
#[derive(Debug)]
pub struct Victims<R> {
    victims_bytes_max: usize,
    victims: BTreeMap<WatcherId, Victim<R>>,
    /// How many victims share a batch, by its address, which is its own while it is held.
    pinned: HashMap<usize, usize, RandomState>,
    bytes: usize,
}

impl<R> Victims<R> {
    /// No victims, and at most so many bytes that they may pin.
    pub fn new(victims_bytes_max: usize) -> Self {
        Self {
            victims_bytes_max,
            victims: BTreeMap::new(),
            pinned: HashMap::default(),
            bytes: 0,
        }
    }

    /// How many victims there are.
    pub fn len(&self) -> usize {
        self.victims.len()
    }

    /// True when there is no victim.
    pub fn is_empty(&self) -> bool {
        self.victims.is_empty()
    }

    /// Bytes that the victims pin. A batch that many of them share is pinned once.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a victim in. When its batch is kept its cursor is put behind it; when there is no room for the batch its
    /// cursor is put before it, and the batch is let go (V2). False when a batch was let go.
    pub fn insert(&mut self, mut entry: Entry<R>, owed: Owed) -> bool {
        let mut is_kept = true;
        let owed = match owed {
            Owed::Events(batch) if self.pin(&batch) => {
                entry.next_revision = entry.next_revision.max(batch.last().next());
                Owed::Events(batch)
            }
            Owed::Events(batch) => {
                entry.next_revision = if fault::active(Fault::VictimSkipsUnkeptBatch) {
                    batch.last().next()
                } else {
                    batch.first()
                };
                is_kept = false;
                Owed::Nothing
            }
            other => other,
        };
        let id = entry.id;
        let twice = self.victims.insert(id, Victim { entry, owed });
        debug_assert!(twice.is_none(), "{id:?} is twice");
        if let Some(twice) = twice {
            self.unpin(&twice.owed);
        }
        is_kept
    }

    /// Takes a victim out: it has room, or it is gone.
    pub fn take(&mut self, id: WatcherId) -> Option<Victim<R>> {
        let victim = self.victims.remove(&id)?;
        self.unpin(&victim.owed);
        Some(victim)
    }

    /// Takes all victims out.
    pub fn take_all(&mut self) -> Vec<Victim<R>> {
        let taken = std::mem::replace(self, Self::new(self.victims_bytes_max));
        taken.victims.into_values().collect()
    }

    /// A victim by its watcher.
    pub fn get(&self, id: WatcherId) -> Option<&Victim<R>> {
        self.victims.get(&id)
    }

    /// At most so many victims after this one (from the first, if none is named): a slow look at all of them, in
    /// slices, that does not mind who comes and goes meanwhile.
    pub fn ids_after(&self, id: Option<WatcherId>, victims_max: usize) -> Vec<WatcherId> {
        let after = id.map_or(Bound::Unbounded, Bound::Excluded);
        let victims = self.victims.range((after, Bound::Unbounded));
        victims.map(|(id, _)| *id).take(victims_max).collect()
    }

    /// Counts the batch in, if there is room for it.
    fn pin(&mut self, batch: &Arc<Batch>) -> bool {
        if let Some(sharers) = self.pinned.get_mut(&address(batch)) {
            *sharers += 1;
            return true;
        }
        let bytes = self.bytes.saturating_add(batch.bytes());
        if bytes > self.victims_bytes_max && !fault::active(Fault::PinnedBytesUnbounded) {
            return false;
        }
        self.bytes = bytes;
        self.pinned.insert(address(batch), 1);
        true
    }

    fn unpin(&mut self, owed: &Owed) {
        let Owed::Events(batch) = owed else { return };
        if let Some(sharers) = self.pinned.get_mut(&address(batch)) {
            *sharers = sharers.saturating_sub(1);
            if *sharers == 0 {
                self.pinned.remove(&address(batch));
                self.bytes = self.bytes.saturating_sub(batch.bytes());
            }
        }
    }
}

fn address(batch: &Arc<Batch>) -> usize {
    Arc::as_ptr(batch).addr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KeyRange;
    use crate::watch::test_support::{big_put, class_of, entry};

    /// A batch of 101 bytes at revision 5.
    fn batch() -> Arc<Batch> {
        Arc::new(Batch::new(vec![big_put(5, b"a", 100)], false).unwrap())
    }

    fn victims(bytes_max: usize) -> Victims<()> {
        Victims::new(bytes_max)
    }

    fn add(victims: &mut Victims<()>, id: u64, batch: &Arc<Batch>) {
        let class = class_of(KeyRange::single("a"));
        victims.insert(entry(id, &class, 3), Owed::Events(Arc::clone(batch)));
    }

    #[test]
    fn v2_a_victim_keeps_its_batch_and_stands_behind_it() {
        let mut victims = victims(101);
        add(&mut victims, 1, &batch());
        let victim = victims.take(WatcherId(1)).unwrap();
        assert!(matches!(victim.owed, Owed::Events(_)));
        assert_eq!(victim.entry.next_revision, Revision(6));
        assert_eq!((victims.bytes(), victims.len()), (0, 0));
    }

    #[test]
    fn v2_beyond_the_limit_a_victim_keeps_only_its_revision() {
        let mut victims = victims(150);
        add(&mut victims, 1, &batch());
        add(&mut victims, 2, &batch());
        assert_eq!(victims.bytes(), 101);
        let victim = victims.take(WatcherId(2)).unwrap();
        assert!(matches!(victim.owed, Owed::Nothing));
        assert_eq!(victim.entry.next_revision, Revision(5));
        victims.take(WatcherId(1));
        add(&mut victims, 3, &batch());
        let victim = victims.get(WatcherId(3)).unwrap();
        assert!(matches!(victim.owed, Owed::Events(_)));
    }

    #[test]
    fn v2_with_a_limit_of_one_nothing_is_pinned_and_nobody_is_lost() {
        let mut victims = victims(1);
        for id in 0..10 {
            add(&mut victims, id, &batch());
        }
        assert_eq!((victims.bytes(), victims.len()), (0, 10));
        let all = victims.take_all();
        assert!(all.iter().all(|it| it.entry.next_revision == Revision(5)));
    }

    #[test]
    fn b2_a_batch_that_many_victims_share_is_pinned_once() {
        let mut victims = victims(150);
        let shared = batch();
        for id in 0..10 {
            add(&mut victims, id, &shared);
        }
        assert_eq!(victims.bytes(), 101);
        for id in 0..9 {
            victims.take(WatcherId(id));
        }
        assert_eq!(victims.bytes(), 101);
        victims.take(WatcherId(9));
        assert_eq!(victims.bytes(), 0);
    }

    #[test]
    fn l6_a_victim_that_is_owed_the_news_of_compaction_keeps_it() {
        let mut victims = victims(1);
        let class = class_of(KeyRange::single("a"));
        victims.insert(entry(1, &class, 3), Owed::Compacted(Revision(9)));
        let victim = victims.take(WatcherId(1)).unwrap();
        assert!(matches!(victim.owed, Owed::Compacted(Revision(9))));
        assert_eq!(victim.entry.next_revision, Revision(3));
    }

    #[test]
    fn a_slow_look_in_slices_sees_every_victim() {
        let mut victims = victims(1000);
        for id in 0..5 {
            add(&mut victims, id, &batch());
        }
        let mut seen = victims.ids_after(None, 2);
        victims.take(WatcherId(1));
        seen.extend(victims.ids_after(seen.last().copied(), 10));
        assert_eq!(seen, (0..5).map(WatcherId).collect::<Vec<_>>());
    }
}
