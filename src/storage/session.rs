//! One transaction while it runs: it reads through the overlay, and writes only into it.
//!
//! Whoever runs one closes it or rolls it back; nothing here decides that.

use super::codec::Place;
use super::core::Core;
use super::fetch::fetch;
use super::key_index::{Slot, live_at, newest_at};
use super::overlay::Overlay;
use super::selection::Selection;
use super::{ApplyError, StorageError};
use crate::fault::{self, Fault};
use crate::model::{
    DeleteRange, Event, EventKind, KeyRange, KeyValue, LeaseGrant, LeaseId, Put, RangeAnswer,
    RangeQuery, Refusal, Revision,
};
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A transaction that runs.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    /// The store below the overlay.
    pub core: &'a Core,
    /// The writes that are not durable, this transaction's own included.
    pub overlay: &'a mut Overlay,
    /// Whether every event has to know its previous value.
    pub want_prev: bool,
}

/// A key that exists, and its newest change.
type Live = (Bytes, Slot);

impl Session<'_> {
    /// The revision before the transaction.
    pub(crate) fn begin(&self) -> Revision {
        self.overlay.revision()
    }

    /// The revision of everything that the transaction changes.
    pub(crate) fn main(&self) -> Revision {
        self.begin().next()
    }

    /// A key as it is at a revision, this transaction's own included.
    fn live(&self, key: &[u8], at: Revision) -> Option<Live> {
        if let Some((key, slots)) = self.overlay.get(key)
            && let Some(slot) = newest_at(slots, at)
            && !fault::active(Fault::GroupUnseen)
        {
            return (!slot.is_tombstone()).then(|| (key.clone(), *slot));
        }
        let index = self.core.index();
        let (key, slots) = index.keys.get(key)?;
        live_at(slots, at).map(|slot| (key.clone(), *slot))
    }

    /// The index's own copy of a key, or a copy of our own: a request must not live on by its keys (B2).
    fn shared_key(&self, key: &Bytes) -> Bytes {
        if let Some((known, _)) = self.overlay.get(key) {
            return known.clone();
        }
        match self.core.index().keys.get(key) {
            Some((known, _)) => known.clone(),
            None => Bytes::copy_from_slice(key),
        }
    }

    /// Shows every key of a range that exists at a revision, in order.
    pub(crate) fn walk<E>(
        &self,
        range: &KeyRange,
        at: Revision,
        mut visit: impl FnMut(&Bytes, &Slot) -> Result<(), E>,
    ) -> Result<(), E> {
        let index = self.core.index();
        let mut below = index.keys.range(range, None).peekable();
        let mut above = self.overlay.range(range).peekable();
        loop {
            let order = match (below.peek(), above.peek()) {
                (Some((low, _)), Some((high, _))) => low.cmp(high),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Ok(()),
            };
            let under = below.next_if(|_| order.is_le());
            let over = above.next_if(|_| order.is_ge());
            // The overlay's changes are newer than all of the index's.
            let newest = |(key, slots)| newest_at(slots, at).map(|slot| (key, slot));
            let found = over.and_then(newest).or_else(|| under.and_then(newest));
            if let Some((key, slot)) = found.filter(|(_, slot)| !slot.is_tombstone()) {
                visit(key, slot)?;
            }
        }
    }

    /// The values of these changes, of which none can be compacted: the writer reads and compacts in turn.
    pub(crate) fn values(&self, slots: &[Slot]) -> Result<Vec<Arc<KeyValue>>, StorageError> {
        let stored: Vec<Place> = slots
            .iter()
            .filter(|slot| slot.main <= self.overlay.base())
            .map(Slot::place)
            .collect();
        let mut fetched = fetch(self.core, &stored)?.into_iter();
        let value = |slot: &Slot| {
            let found = if slot.main <= self.overlay.base() {
                fetched.next().flatten()
            } else {
                self.overlay.value(slot).cloned().map(Arc::new)
            };
            found.ok_or_else(|| {
                let at = slot.place().to_string();
                StorageError::corrupt("history", at, "the index has it, the disk has not")
            })
        };
        slots.iter().map(value).collect()
    }

    /// Refuses a put that names a lease, or that keeps what a missing key does not have.
    pub(crate) fn check_put(&self, put: &Put) -> Result<(), Refusal> {
        if put.lease != LeaseId::NONE && !self.is_granted(put.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        let keeps = put.ignore_value || put.ignore_lease;
        if keeps && self.live(&put.key, self.begin()).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        Ok(())
    }

    /// Puts a key; answers what it was before if anybody asked.
    pub(crate) fn put(&mut self, put: &Put) -> Result<Option<Arc<KeyValue>>, ApplyError> {
        let main = self.main();
        let before = self.live(&put.key, main);
        let needs_value = put.prev_kv || put.ignore_value || put.ignore_lease || self.want_prev;
        let prev = match &before {
            Some((_, slot)) if needs_value => self.values(&[*slot])?.pop(),
            _ => None,
        };
        let value = match &prev {
            Some(prev) if put.ignore_value => prev.value.clone(),
            // A cached value must not keep a whole request in memory (B2).
            _ => Bytes::copy_from_slice(&put.value),
        };
        let lease = match &prev {
            Some(prev) if put.ignore_lease => prev.lease,
            _ => put.lease,
        };
        let (create_revision, version) = match &before {
            Some((_, slot)) if !fault::active(Fault::EveryPutLooksNew) => {
                (slot.create_revision, slot.version + 1)
            }
            Some((_, slot)) => (main, slot.version + 1),
            None => (main, 1),
        };
        let key = match before {
            Some((key, _)) => key,
            None => self.shared_key(&put.key),
        };
        let kv = KeyValue {
            key,
            create_revision,
            mod_revision: main,
            version,
            value,
            lease,
        };
        let event = Event::new(EventKind::Put, kv);
        if self.want_prev {
            event.set_prev(
                prev.clone()
                    .filter(|_| !fault::active(Fault::PrevMissingAtCommit)),
            );
        }
        self.overlay.record(event);
        Ok(prev.filter(|_| put.prev_kv))
    }

    /// Deletes every key of a range in order; answers how many, and what they were if anybody asked.
    pub(crate) fn delete(
        &mut self,
        delete: &DeleteRange,
    ) -> Result<(i64, Vec<Arc<KeyValue>>), ApplyError> {
        let main = self.main();
        let bytes_max = self.core.limits.range_answer_bytes_max;
        let (mut bytes, mut keys, mut slots) = (0, Vec::new(), Vec::new());
        self.walk(&delete.range, main, |key, slot| {
            bytes += key.len() + slot.value_bytes as usize;
            if delete.prev_kv && bytes > bytes_max {
                return Err(Refusal::AnswerTooLarge { max: bytes_max });
            }
            keys.push(key.clone());
            slots.push(*slot);
            Ok(())
        })?;
        // Whoever needs what a huge delete took looks it up later, a part at a time.
        let prevs = if delete.prev_kv || (self.want_prev && bytes <= bytes_max) {
            self.values(&slots)?
        } else {
            Vec::new()
        };
        let deleted = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        let mut known = prevs.iter();
        for key in keys {
            let event = Event::new(EventKind::Delete, KeyValue::tombstone(key, main));
            if let Some(prev) = known.next().filter(|_| self.want_prev) {
                event.set_prev(Some(Arc::clone(prev)));
            }
            self.overlay.record(event);
        }
        let prevs = if delete.prev_kv { prevs } else { Vec::new() };
        Ok((deleted, prevs))
    }

    fn is_granted(&self, id: LeaseId) -> bool {
        match self.overlay.leases().granted.get(&id) {
            Some(ttl_seconds) => ttl_seconds.is_some(),
            None => self.core.index().leases.ttl_seconds(id).is_some(),
        }
    }

    /// Grants a lease.
    pub(crate) fn grant(&mut self, grant: LeaseGrant) -> Result<(), Refusal> {
        if self.is_granted(grant.id) {
            return Err(Refusal::LeaseExists);
        }
        self.overlay.set_lease(grant.id, Some(grant.ttl_seconds));
        Ok(())
    }

    /// Ends a lease, and deletes all its keys in order.
    pub(crate) fn revoke(&mut self, id: LeaseId) -> Result<(), ApplyError> {
        if !self.is_granted(id) {
            return Err(Refusal::LeaseNotFound.into());
        }
        let above = &self.overlay.leases().attached;
        let mut keys: BTreeSet<Bytes> = {
            let index = self.core.index();
            let below = index.leases.keys_after(id, None);
            below
                .filter(|key| !above.contains_key(*key))
                .cloned()
                .collect()
        };
        let attached = above.iter().filter(|(_, lease)| **lease == id);
        keys.extend(attached.map(|(key, _)| key.clone()));
        for key in keys {
            self.delete(&DeleteRange {
                range: KeyRange::single(key),
                prev_kv: false,
            })?;
        }
        self.overlay.set_lease(id, None);
        Ok(())
    }

    /// Refuses a read at a revision that a transaction cannot read; a negative one is older than anything.
    pub(crate) fn check_range(&self, query: &RangeQuery) -> Result<(), Refusal> {
        let (at, current) = (Revision(query.revision), self.begin());
        let compact_revision = self.core.compact_revision();
        match query.revision {
            0 => Ok(()),
            _ if at > current => Err(Refusal::FutureRevision { current }),
            _ if at < compact_revision => Err(Refusal::Compacted { compact_revision }),
            _ => Ok(()),
        }
    }

    /// Reads a range; the latest is what this transaction has made of it so far.
    pub(crate) fn range(&self, query: &RangeQuery) -> Result<RangeAnswer, ApplyError> {
        let at = match query.revision {
            at if at > 0 => Revision(at),
            _ if fault::active(Fault::TxnReadsThePast) => self.begin(),
            _ => self.main(),
        };
        let mut selection = Selection::new(query, self.core.limits.range_answer_bytes_max);
        self.walk(&query.range, at, |key, slot| selection.offer(key, slot))?;
        let chosen = selection.choose()?;
        let fetched = self.values(&chosen.slots())?;
        let answer = chosen.answer(fetched.into_iter().map(Some).collect());
        Ok(answer.unwrap_or_default())
    }
}
