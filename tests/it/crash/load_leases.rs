//! Leases among the writes of a child: granted, given keys, and revoked with them.
//!
//! Which lease a key has follows from its name, so that a note of the key says it too.

use super::load::{Child, value};
use super::trace::Note;
use vigil::model::{LeaseGrant, LeaseId, Put, Write};
use vigil::storage::Writer;

const TTL_SECONDS: i64 = 600;

/// The lease of a key.
pub(super) fn lease_of(key: &str) -> LeaseId {
    let id = key.strip_prefix('e').and_then(|rest| rest.split_once('/'));
    let id = id.and_then(|(id, _)| id.parse().ok());
    id.map_or(LeaseId::NONE, LeaseId)
}

impl Child {
    /// Something happens to a lease, in the group that is being put together.
    pub(super) fn lease_some(&mut self, writer: &mut Writer) {
        let leases: Vec<i64> = self.leases.iter().copied().collect();
        let any = leases.get(self.lease_dice.below(leases.len().max(1) as u64) as usize);
        match (self.lease_dice.below(16), any) {
            (0 | 1, _) => self.grant(writer),
            (2..5, Some(id)) => self.put_with_lease(*id, writer),
            (5, Some(id)) => self.revoke(*id, writer),
            _ => {}
        }
    }

    /// What was asked of leases is durable.
    pub(super) fn acknowledge_leases(&mut self) {
        if std::mem::take(&mut self.leases_asked) {
            self.notes.add(&Note::LeasesAcknowledged);
        }
    }

    fn ask(&mut self, id: i64, granted: bool) {
        self.notes.add(&Note::LeaseAsked { id, granted });
        self.leases_asked = true;
    }

    fn grant(&mut self, writer: &mut Writer) {
        let id = (self.lease_dice.next() >> 8) as i64 + 1;
        if !self.leases.insert(id) {
            return;
        }
        self.ask(id, true);
        let grant = Write::LeaseGrant(LeaseGrant {
            id: LeaseId(id),
            ttl_seconds: TTL_SECONDS,
        });
        writer.apply(&grant, false).expect("a grant");
    }

    fn put_with_lease(&mut self, id: i64, writer: &mut Writer) {
        let key = format!("e{id}/{}", self.lease_dice.below(4));
        let bytes = self.lease_dice.below(1 << 10) as usize;
        let revision = self.write_down(vec![(key.clone(), Some(bytes))]);
        let put = Write::Put(Put {
            key: key.into(),
            value: value(revision, 0, bytes),
            lease: LeaseId(id),
            ..Put::default()
        });
        writer.apply(&put, false).expect("a put");
    }

    fn revoke(&mut self, id: i64, writer: &mut Writer) {
        self.leases.remove(&id);
        self.ask(id, false);
        let of_it = |key: &&String| lease_of(key) == LeaseId(id);
        let gone: Vec<_> = self.live.iter().filter(of_it).cloned().collect();
        if !gone.is_empty() {
            self.write_down(gone.into_iter().map(|key| (key, None)).collect());
        }
        let revoked = writer.apply(&Write::LeaseRevoke(LeaseId(id)), false);
        revoked.expect("it is there");
    }
}
