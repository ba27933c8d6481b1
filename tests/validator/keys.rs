//! Every version of every key, so that any revision can be read, and the last ones can be taken back.
//!
//! It knows what a put and a delete do, and nothing of requests.

use super::record::{Event, Kind, Kv, Range};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Every version of every key; a version that is nothing is a deletion.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    versions: BTreeMap<Bytes, Vec<(i64, Option<Kv>)>>,
}

fn live(versions: &[(i64, Option<Kv>)], revision: i64) -> Option<&Kv> {
    let newer = versions.partition_point(|(at, _)| *at <= revision);
    versions.get(newer.checked_sub(1)?)?.1.as_ref()
}

impl Keys {
    /// The keys of a range at a revision, in order.
    pub(crate) fn range(&self, range: &Range, revision: i64) -> Vec<&Kv> {
        let from = self.versions.range(range.key.clone()..);
        let inside = from.take_while(|(key, _)| range.contains(key));
        inside
            .filter_map(|(_, versions)| live(versions, revision))
            .collect()
    }

    /// The keys that have a lease at a revision, in order.
    pub(crate) fn of_lease(&self, lease: i64, revision: i64) -> Vec<Bytes> {
        let all = self.versions.values();
        let live = all.filter_map(|versions| live(versions, revision));
        let own = live.filter(|kv| kv.lease == lease);
        own.map(|kv| kv.key.clone()).collect()
    }

    /// One key at a revision.
    fn get(&self, key: &Bytes, revision: i64) -> Option<Kv> {
        live(self.versions.get(key)?, revision).cloned()
    }

    /// Puts a key; the event carries the previous value.
    pub(crate) fn put(
        &mut self,
        revision: i64,
        (key, value): (&Bytes, &Bytes),
        lease: i64,
    ) -> Event {
        let prev_kv = self.get(key, revision);
        let before = prev_kv.as_ref();
        let kv = Kv {
            key: key.clone(),
            value: value.clone(),
            create_revision: before.map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.map_or(1, |kv| kv.version + 1),
            lease,
        };
        let versions = self.versions.entry(key.clone()).or_default();
        versions.push((revision, Some(kv.clone())));
        Event {
            kind: Kind::Put,
            kv,
            prev_kv,
        }
    }

    /// Deletes a range.
    pub(crate) fn delete(&mut self, revision: i64, range: &Range) -> Vec<Event> {
        let gone: Vec<Kv> = self.range(range, revision).into_iter().cloned().collect();
        let delete = |kv: Kv| {
            let key = kv.key.clone();
            let versions = self.versions.entry(key.clone()).or_default();
            versions.push((revision, None));
            Event {
                kind: Kind::Delete,
                kv: Kv {
                    key,
                    mod_revision: revision,
                    ..Kv::default()
                },
                prev_kv: Some(kv),
            }
        };
        gone.into_iter().map(delete).collect()
    }

    /// Takes back everything after a revision.
    pub(crate) fn take_back(&mut self, revision: i64) {
        for versions in self.versions.values_mut() {
            let newer = versions.partition_point(|(at, _)| *at <= revision);
            versions.truncate(newer);
        }
    }
}
