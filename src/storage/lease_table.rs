//! Which leases there are, and which keys are attached to which: what the store has to know of leases, in memory.
//!
//! It knows no time: when a lease ends is not the store's business. A key is attached to one lease at most.

use crate::model::LeaseId;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The leases of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaseTable {
    /// The leases that were granted and not revoked, with how long each lives, in seconds.
    granted: BTreeMap<LeaseId, i64>,
    /// The lease of each key that has one.
    lease_of: BTreeMap<Bytes, LeaseId>,
    /// The same, by lease.
    keys_of: BTreeSet<(LeaseId, Bytes)>,
}

impl LeaseTable {
    /// How long a lease lives without being kept alive, in seconds; nothing when it does not exist.
    pub(crate) fn ttl_seconds(&self, id: LeaseId) -> Option<i64> {
        self.granted.get(&id).copied()
    }

    /// The leases behind this one, with how long they live.
    pub(crate) fn granted_after(
        &self,
        after: Option<LeaseId>,
    ) -> impl Iterator<Item = (LeaseId, i64)> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let granted = self.granted.range((after, Bound::Unbounded));
        granted.map(|(id, ttl_seconds)| (*id, *ttl_seconds))
    }

    /// Grants a lease.
    pub(crate) fn grant(&mut self, id: LeaseId, ttl_seconds: i64) {
        self.granted.insert(id, ttl_seconds);
    }

    /// Ends a lease. Its keys were detached when they were deleted.
    pub(crate) fn revoke(&mut self, id: LeaseId) {
        self.granted.remove(&id);
    }

    /// The lease that a key is attached to.
    pub(crate) fn lease_of(&self, key: &[u8]) -> Option<LeaseId> {
        self.lease_of.get(key).copied()
    }

    /// Attaches a key to a lease, or with [`LeaseId::NONE`] to none, in place of the one it had.
    pub(crate) fn attach(&mut self, key: &Bytes, lease: LeaseId) {
        if lease == LeaseId::NONE {
            if let Some((key, before)) = self.lease_of.remove_entry(key) {
                self.keys_of.remove(&(before, key));
            }
            return;
        }
        if let Some(before) = self.lease_of.insert(key.clone(), lease) {
            self.keys_of.remove(&(before, key.clone()));
        }
        self.keys_of.insert((lease, key.clone()));
    }

    /// The keys of a lease behind this one, in order.
    pub(crate) fn keys_after(
        &self,
        id: LeaseId,
        after: Option<&Bytes>,
    ) -> impl Iterator<Item = &Bytes> {
        let from = match after {
            None => Bound::Included((id, Bytes::new())),
            Some(after) => Bound::Excluded((id, after.clone())),
        };
        let behind = self.keys_of.range((from, Bound::Unbounded));
        let own = behind.take_while(move |(lease, _)| *lease == id);
        own.map(|(_, key)| key)
    }

    /// The attached keys behind this one with their leases, in order.
    pub(crate) fn attached_after(
        &self,
        after: Option<&Bytes>,
    ) -> impl Iterator<Item = (&Bytes, LeaseId)> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let attached = self.lease_of.range::<Bytes, _>((after, Bound::Unbounded));
        attached.map(|(key, lease)| (key, *lease))
    }

    /// Detaches every key whose lease does not exist: such a key has to live on without one, as in etcd.
    pub(crate) fn detach_strays(&mut self) {
        let strays: Vec<_> = self
            .lease_of
            .iter()
            .filter(|(_, lease)| !self.granted.contains_key(lease))
            .map(|(key, _)| key.clone())
            .collect();
        for key in strays {
            self.attach(&key, LeaseId::NONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: LeaseId = LeaseId(1);
    const OTHER: LeaseId = LeaseId(-2);

    fn keys(table: &LeaseTable, id: LeaseId) -> Vec<&Bytes> {
        table.keys_after(id, None).collect()
    }

    #[test]
    fn a_key_belongs_to_the_last_lease_it_was_attached_to() {
        let mut table = LeaseTable::default();
        let (a, b) = (Bytes::from("a"), Bytes::from("b"));
        table.attach(&b, ONE);
        table.attach(&a, ONE);
        assert_eq!(keys(&table, ONE), [&a, &b]);
        assert_eq!(table.keys_after(ONE, Some(&a)).collect::<Vec<_>>(), [&b]);
        table.attach(&a, OTHER);
        assert_eq!(
            (keys(&table, ONE), keys(&table, OTHER)),
            (vec![&b], vec![&a])
        );
        assert_eq!(table.lease_of(b"a"), Some(OTHER));
        table.attach(&a, LeaseId::NONE);
        table.attach(&b, LeaseId::NONE);
        assert_eq!(table, LeaseTable::default());
    }

    #[test]
    fn keys_of_leases_that_do_not_exist_are_let_go() {
        let mut table = LeaseTable::default();
        let (a, b) = (Bytes::from("a"), Bytes::from("b"));
        table.grant(ONE, 5);
        table.attach(&a, ONE);
        table.attach(&b, OTHER);
        table.detach_strays();
        assert_eq!(table.attached_after(None).collect::<Vec<_>>(), [(&a, ONE)]);
        assert_eq!(table.ttl_seconds(ONE), Some(5));
        assert_eq!(table.ttl_seconds(OTHER), None);
    }
}
