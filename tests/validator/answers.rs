//! What a request does to the keys, and what its answer has to be.
//!
//! Conditions look at the state before the transaction; operations see what the ones before them did.

use super::keys::Keys;
use super::record::{Answer, Compare, Event, OpAnswer, Range, Relation, Request, Target};
use std::cmp::Ordering;

/// A request that is carried out at a revision.
#[derive(Debug)]
pub(crate) struct Run<'k> {
    keys: &'k mut Keys,
    /// The revision that its changes get.
    revision: i64,
    /// What it changed so far.
    pub(crate) events: Vec<Event>,
}

impl<'k> Run<'k> {
    /// Nothing is done yet; the state is that of the revision before.
    pub(crate) fn at(keys: &'k mut Keys, revision: i64) -> Self {
        Self {
            keys,
            revision,
            events: Vec::new(),
        }
    }

    /// Carries out a request and gives the answer.
    pub(crate) fn request(&mut self, request: &Request) -> Answer {
        match request {
            Request::Put {
                key,
                value,
                lease,
                prev_kv,
            } => {
                let event = self.keys.put(self.revision, (key, value), *lease);
                let before = event.prev_kv.clone().filter(|_| *prev_kv);
                self.events.push(event);
                Answer::Put { prev_kv: before }
            }
            Request::Delete { range, prev_kv } => {
                let events = self.keys.delete(self.revision, range);
                let before = events.iter().filter_map(|event| event.prev_kv.clone());
                let prev_kvs = before.filter(|_| *prev_kv).collect();
                let deleted = i64::try_from(events.len()).unwrap_or(i64::MAX);
                self.events.extend(events);
                Answer::Delete { deleted, prev_kvs }
            }
            Request::Range { revision, .. } => {
                let at = if *revision > 0 {
                    *revision
                } else {
                    self.revision
                };
                read(self.keys, request, at)
            }
            Request::Txn {
                compares,
                success,
                failure,
            } => {
                let before = self.revision - 1;
                let succeeded = compares.iter().all(|it| holds(self.keys, it, before));
                let ops = if succeeded { success } else { failure };
                let responses = ops.iter().map(|op| self.op(op)).collect();
                Answer::Txn {
                    succeeded,
                    responses,
                }
            }
            Request::Stale { read } => self.request(read),
            Request::Compact { .. } => Answer::Compact,
            Request::LeaseEnd { lease } => {
                for key in self.keys.of_lease(*lease, self.revision) {
                    let gone = self.keys.delete(self.revision, &single(key));
                    self.events.extend(gone);
                }
                Answer::LeaseEnd
            }
        }
    }

    fn op(&mut self, op: &Request) -> OpAnswer {
        let answer = self.request(op);
        let changed = !self.events.is_empty();
        let revision = match op {
            Request::Txn { .. } => 0,
            _ => self.revision - i64::from(!changed),
        };
        OpAnswer { revision, answer }
    }
}

/// The answer to a read of the state at a revision.
pub(crate) fn read(keys: &Keys, request: &Request, at: i64) -> Answer {
    let Request::Range {
        range,
        limit,
        keys_only,
        count_only,
        ..
    } = request
    else {
        return Answer::Compact;
    };
    let found = keys.range(range, at);
    let count = i64::try_from(found.len()).unwrap_or(i64::MAX);
    if *count_only {
        let (kvs, more) = (Vec::new(), false);
        return Answer::Range { kvs, more, count };
    }
    let limit = usize::try_from(*limit).ok().filter(|limit| *limit > 0);
    let shown = limit.unwrap_or(usize::MAX).min(found.len());
    let mut kvs: Vec<_> = found.into_iter().take(shown).cloned().collect();
    if *keys_only {
        for kv in &mut kvs {
            kv.value.clear();
            // It comes from an index that does not know it.
            kv.lease = 0;
        }
    }
    let more = i64::try_from(shown).is_ok_and(|shown| shown < count);
    Answer::Range { kvs, more, count }
}

fn holds(keys: &Keys, compare: &Compare, at: i64) -> bool {
    let Compare {
        range,
        relation,
        target,
    } = compare;
    let found = keys.range(range, at);
    if found.is_empty() {
        // A key that is not there has zeros everywhere, and no value at all.
        return match target {
            Target::Value(_) => false,
            Target::Version(given)
            | Target::Create(given)
            | Target::Mod(given)
            | Target::Lease(given) => relates(0.cmp(given), *relation),
        };
    }
    found.into_iter().all(|kv| {
        let order = match target {
            Target::Version(given) => kv.version.cmp(given),
            Target::Create(given) => kv.create_revision.cmp(given),
            Target::Mod(given) => kv.mod_revision.cmp(given),
            Target::Lease(given) => kv.lease.cmp(given),
            Target::Value(given) => kv.value.cmp(given),
        };
        relates(order, *relation)
    })
}

fn relates(order: Ordering, relation: Relation) -> bool {
    match relation {
        Relation::Equal => order.is_eq(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
        Relation::NotEqual => order.is_ne(),
    }
}

/// True when the request could change something.
pub(crate) fn writes(request: &Request) -> bool {
    match request {
        Request::Put { .. } | Request::Delete { .. } | Request::LeaseEnd { .. } => true,
        Request::Txn {
            success, failure, ..
        } => success.iter().chain(failure).any(writes),
        Request::Range { .. } | Request::Stale { .. } | Request::Compact { .. } => false,
    }
}

/// True when the answer says that something was changed.
pub(crate) fn changed(answer: &Answer) -> bool {
    match answer {
        Answer::Put { .. } => true,
        Answer::Delete { deleted, .. } => *deleted > 0,
        Answer::Txn { responses, .. } => responses.iter().any(|it| changed(&it.answer)),
        Answer::Range { .. } | Answer::Compact | Answer::LeaseEnd => false,
    }
}

/// A range of one key.
pub(crate) fn single(key: impl Into<bytes::Bytes>) -> Range {
    let (key, end) = (key.into(), bytes::Bytes::new());
    Range { key, end }
}
