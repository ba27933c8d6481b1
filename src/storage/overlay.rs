//! Writes that are applied but not durable: what the writer sees and nobody else does (D4).
//!
//! It is thrown away whole or merged whole, and one transaction of it can be taken back without a trace.

use super::key_index::{Slot, Slots};
use super::lease_table::LeaseTable;
use crate::fault::{self, Fault};
use crate::model::{Event, EventKind, KeyRange, KeyValue, LeaseId, Revision};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// The events of one revision, in the order in which they were made.
pub(crate) type Events = Vec<Arc<Event>>;

/// A whole group: its revisions, its changes by key, and what it does to leases.
pub(crate) type Taken = (
    Vec<(Revision, Events)>,
    BTreeMap<Bytes, Slots>,
    LeaseChanges,
);

/// What a group does to leases, seen from its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaseChanges {
    /// The leases that were granted, with how many seconds each lives, and those that were revoked.
    pub granted: BTreeMap<LeaseId, Option<i64>>,
    /// Which lease keys have now, [`LeaseId::NONE`] being none.
    pub attached: BTreeMap<Bytes, LeaseId>,
}

/// The applied writes of one group.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// The last revision that is durable.
    base: Revision,
    /// The revisions after it, without gaps.
    commits: Vec<Events>,
    /// The events of the transaction that runs.
    open: Events,
    keys: BTreeMap<Bytes, Slots>,
    leases: LeaseChanges,
}

impl Overlay {
    /// Nothing over the store at this revision.
    pub(crate) fn new(base: Revision) -> Self {
        Self {
            base,
            commits: Vec::new(),
            open: Vec::new(),
            keys: BTreeMap::new(),
            leases: LeaseChanges::default(),
        }
    }

    /// True when nothing waits for a commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.leases.granted.is_empty()
    }

    /// What the applied writes do to leases.
    pub(crate) fn leases(&self) -> &LeaseChanges {
        &self.leases
    }

    /// Grants a lease that lives so many seconds, or revokes one. The transaction that runs is not taken back after this.
    pub(crate) fn set_lease(&mut self, id: LeaseId, ttl_seconds: Option<i64>) {
        self.leases.granted.insert(id, ttl_seconds);
    }

    /// The last revision that is durable.
    pub(crate) fn base(&self) -> Revision {
        self.base
    }

    /// The last applied revision; the transaction that runs is not in it.
    pub(crate) fn revision(&self) -> Revision {
        let applied = i64::try_from(self.commits.len()).unwrap_or(i64::MAX);
        Revision(self.base.0.saturating_add(applied))
    }

    /// The revision that an answer of the transaction that runs carries.
    pub(crate) fn running_revision(&self) -> Revision {
        if self.open.is_empty() {
            self.revision()
        } else {
            self.revision().next()
        }
    }

    /// Adds a change to the transaction that runs and answers its slot's place in it.
    pub(crate) fn record(&mut self, event: Event) {
        let kv = &event.kv;
        let slot = Slot {
            main: kv.mod_revision,
            create_revision: kv.create_revision,
            version: match event.kind {
                EventKind::Put => kv.version,
                EventKind::Delete => 0,
            },
            sub: u32::try_from(self.open.len()).unwrap_or(u32::MAX),
            value_bytes: u32::try_from(kv.value.len()).unwrap_or(u32::MAX),
        };
        match self.keys.get_mut(&kv.key) {
            Some(slots) => slots.push(slot),
            None => {
                self.keys.insert(kv.key.clone(), Slots::from_buf([slot]));
            }
        }
        self.open.push(Arc::new(event));
    }

    /// Ends the transaction that runs, over these leases of the store below. One that changed nothing takes no revision.
    pub(crate) fn close(&mut self, below: &LeaseTable) {
        for event in &self.open {
            let (key, lease) = (&event.kv.key, event.kv.lease);
            let detaches =
                || below.lease_of(key).is_some() && !fault::active(Fault::DetachForgotten);
            let is_known = self.leases.attached.contains_key(key);
            if lease != LeaseId::NONE || is_known || detaches() {
                self.leases.attached.insert(key.clone(), lease);
            }
        }
        if !self.open.is_empty() || fault::active(Fault::EmptyCommitTakesRevision) {
            self.commits.push(std::mem::take(&mut self.open));
        }
    }

    /// Takes the transaction that runs back.
    pub(crate) fn roll_back(&mut self) {
        if fault::active(Fault::RefusedTxnLeavesTrace) {
            return;
        }
        for event in self.open.drain(..).rev() {
            if let Some(slots) = self.keys.get_mut(&event.kv.key) {
                slots.pop();
                if slots.is_empty() {
                    self.keys.remove(&event.kv.key);
                }
            }
        }
    }

    /// A key that was changed here, and its changes.
    pub(crate) fn get(&self, key: &[u8]) -> Option<(&Bytes, &[Slot])> {
        self.keys
            .get_key_value(key)
            .map(|(key, slots)| (key, slots.as_slice()))
    }

    /// The keys of a range that were changed here, in order.
    pub(crate) fn range<'a>(
        &'a self,
        range: &KeyRange,
    ) -> impl Iterator<Item = (&'a Bytes, &'a [Slot])> {
        let bounds = if range.is_empty() {
            (Bound::Excluded(&[][..]), Bound::Included(&[][..]))
        } else {
            range.bounds()
        };
        self.keys
            .range::<[u8], _>(bounds)
            .map(|(key, slots)| (key, slots.as_slice()))
    }

    /// A change that was made here.
    pub(crate) fn value(&self, slot: &Slot) -> Option<&KeyValue> {
        let number = slot.main.0.checked_sub(self.base.0)?.checked_sub(1)?;
        let number = usize::try_from(number).ok()?;
        let events = if number == self.commits.len() {
            &self.open
        } else {
            self.commits.get(number)?
        };
        events.get(slot.sub as usize).map(|event| &event.kv)
    }

    /// The applied revisions in order.
    pub(crate) fn commits(&self) -> impl Iterator<Item = (Revision, &Events)> {
        (self.base.0 + 1..).map(Revision).zip(&self.commits)
    }

    /// Takes everything out: the revisions, the changes by key, and what happened to leases. The base moves up behind them.
    pub(crate) fn take(&mut self) -> Taken {
        let first = self.base.0 + 1;
        self.base = self.revision();
        let commits = std::mem::take(&mut self.commits);
        let numbered = (first..).map(Revision).zip(commits).collect();
        let leases = std::mem::take(&mut self.leases);
        (numbered, std::mem::take(&mut self.keys), leases)
    }
}
