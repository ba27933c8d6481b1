//! Holds an opened store against what its clients know: nothing acknowledged is missing, nothing is there that nobody asked
//! for, no revision is skipped, and every read that is allowed is right.
//!
//! It reckons all of that from the notes of a trace, and believes nothing that the store says of itself.

use super::load::value;
use super::load_leases::lease_of;
use super::trace::{Note, Step};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use vigil::model::{EventKind, KeyRange, KeyValue, LeaseId, Put, RangeQuery, Revision, Write};
use vigil::storage::{
    ApplyError, ReadError, ReadView, Readers, StorageError, StorageLimits, Writer, open,
};

/// What clients know at one point of a trace.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What each revision holds, if it is there.
    asked: BTreeMap<i64, Vec<(String, Option<usize>)>>,
    acknowledged: i64,
    /// What was acknowledged with each group: through which revision, and compacted at which.
    groups: Vec<(i64, i64)>,
    compaction_asked: i64,
    compactions_asked: BTreeSet<i64>,
    compaction_acknowledged: i64,
    leases: BTreeMap<i64, Lease>,
    /// What was asked of leases and is not acknowledged: which, and whether it was granted.
    leases_asked: Vec<(i64, bool)>,
}

/// What clients know of a lease.
#[derive(Clone, Copy, Debug, Default)]
struct Lease {
    may_be_there: bool,
    has_to_be_there: bool,
}

impl Known {
    pub(super) fn learn(&mut self, step: &Step) {
        let Step::Note(note) = step else { return };
        match note {
            Note::Asked { revision, events } => {
                // What was asked before a crash and is not there may be asked anew, with other words.
                self.asked.split_off(revision);
                self.asked.insert(*revision, events.clone());
            }
            Note::Acknowledged { revision } => {
                if *revision > self.acknowledged {
                    self.acknowledged = *revision;
                    self.groups.push((*revision, self.compaction_acknowledged));
                }
            }
            Note::CompactionAsked { revision } => {
                self.compactions_asked.insert(*revision);
                self.compaction_asked = *revision;
            }
            Note::CompactionAcknowledged { revision } => self.compaction_acknowledged = *revision,
            Note::Leases { ids } => {
                let there = Lease {
                    may_be_there: true,
                    has_to_be_there: true,
                };
                self.leases = ids.iter().map(|id| (*id, there)).collect();
                self.leases_asked.clear();
            }
            Note::LeaseAsked { id, granted } => {
                let lease = self.leases.entry(*id).or_default();
                if *granted {
                    lease.may_be_there = true;
                } else {
                    lease.has_to_be_there = false;
                }
                self.leases_asked.push((*id, *granted));
            }
            Note::LeasesAcknowledged => {
                for (id, granted) in self.leases_asked.drain(..) {
                    let lease = self.leases.entry(id).or_default();
                    (lease.may_be_there, lease.has_to_be_there) = (granted, granted);
                }
            }
        }
    }

    pub(super) fn acknowledged(&self) -> i64 {
        self.acknowledged
    }

    /// The last revision that was acknowledged with a group before the one of `revision`.
    pub(super) fn acknowledged_below(&self, revision: i64) -> i64 {
        let before = self.groups.partition_point(|(last, _)| *last < revision);
        before
            .checked_sub(1)
            .map_or(0, |group| self.groups[group].0)
    }

    /// The same, were nothing behind a revision acknowledged that ends a group.
    pub(super) fn but_for_what_follows(&self, revision: i64) -> Self {
        let group = self.groups.iter().rfind(|(last, _)| *last <= revision);
        let (acknowledged, compaction_acknowledged) = group.copied().unwrap_or_default();
        // Which of them was of which group is not written down.
        let any = Lease {
            may_be_there: true,
            has_to_be_there: false,
        };
        Self {
            leases: self.leases.keys().map(|id| (*id, any)).collect(),
            acknowledged,
            compaction_acknowledged,
            ..self.clone()
        }
    }

    /// The same, were the last group not acknowledged, nor a compaction behind it.
    pub(super) fn but_for_the_last_group(&self) -> Self {
        self.but_for_what_follows(self.acknowledged_below(self.acknowledged))
    }

    /// The puts that were acknowledged: revision, place within it, and length of the value.
    pub(super) fn acknowledged_puts(&self) -> impl Iterator<Item = (i64, usize, usize)> {
        let acknowledged = self.asked.range(..=self.acknowledged);
        acknowledged.flat_map(|(revision, events)| {
            let events = events.iter().zip(0..);
            events.filter_map(|((_, bytes), sub)| Some((*revision, sub, (*bytes)?)))
        })
    }

    fn last_asked(&self) -> i64 {
        self.asked.keys().next_back().copied().unwrap_or(1)
    }

    /// All keys as of a revision.
    fn state(&self, at: i64) -> Vec<KeyValue> {
        let mut live: BTreeMap<&str, (i64, i64, i64, usize, usize)> = BTreeMap::new();
        for (revision, events) in self.asked.range(..=at) {
            for ((key, bytes), sub) in events.iter().zip(0..) {
                let Some(bytes) = bytes else {
                    live.remove(key.as_str());
                    continue;
                };
                let (created, version) = live
                    .get(key.as_str())
                    .map_or((*revision, 1), |before| (before.0, before.2 + 1));
                live.insert(key, (created, *revision, version, sub, *bytes));
            }
        }
        let kv = |(key, (created, modified, version, sub, bytes)): (&str, _)| KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            create_revision: Revision(created),
            mod_revision: Revision(modified),
            version,
            value: value(modified, sub, bytes),
            lease: lease_of(key),
        };
        live.into_iter().map(kv).collect()
    }
}

/// Runs a read to its end.
fn answer<T: Send + 'static>(
    read: impl FnOnce(Box<dyn FnOnce(Result<T, ReadError>) + Send>),
) -> Result<T, Fault> {
    let slot = Arc::new(Mutex::new(None));
    let (tx, rx) = std::sync::mpsc::channel();
    let filled = Arc::clone(&slot);
    read(Box::new(move |answer| {
        *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        // Nobody waits any more when the store has dropped the read.
        let _ = tx.send(());
    }));
    rx.recv()
        .map_err(|_| Fault::Wrong("a read was dropped".to_owned()))?;
    let answer = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    match answer.expect("an answer") {
        Err(ReadError::Failed(error)) => Err(Fault::Refused(error)),
        answer => answer.map_err(|error| Fault::Wrong(error.to_string())),
    }
}

/// All keys as of a revision, 0 for now.
pub(super) fn range(view: &ReadView, revision: i64) -> Vec<KeyValue> {
    try_range(view, revision).expect("a range")
}

fn try_range(view: &ReadView, revision: i64) -> Result<Vec<KeyValue>, Fault> {
    let query = RangeQuery {
        revision,
        ..RangeQuery::latest(KeyRange::everything())
    };
    answer(|done| view.range(query, done)).map(|(_, answer)| {
        let kvs = answer.kvs.into_iter();
        kvs.map(Arc::unwrap_or_clone).collect()
    })
}

/// How an opening ended that was not right.
#[derive(Debug)]
pub(super) enum Fault {
    /// The store refused to open, or to read.
    Refused(StorageError),
    /// It panicked.
    Panicked(String),
    /// It answered something else than what clients know.
    Wrong(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "refused: {error}"),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::Wrong(text) => write!(f, "wrong: {text}"),
        }
    }
}

/// Opens the store of `dir` and checks all of it, and then, if it may, writes to it. The answer is its revision.
pub(super) fn check(
    dir: &Path,
    limits: &StorageLimits,
    known: &Known,
    may_write: bool,
) -> Result<i64, Fault> {
    let checked = catch_unwind(AssertUnwindSafe(|| {
        let (writer, view) = open(dir, limits.clone(), Readers::Inline).map_err(Fault::Refused)?;
        check_open(&view, known)?;
        if may_write {
            go_on(writer, &view)?;
        }
        Ok(view.revision().0)
    }));
    checked.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Fault::Panicked(text.unwrap_or("?").to_owned()))
    })
}

fn wrong(text: String) -> Result<(), Fault> {
    Err(Fault::Wrong(text))
}

fn check_open(view: &ReadView, known: &Known) -> Result<(), Fault> {
    let (revision, compacted) = (view.revision().0, view.compact_revision().0.max(0));
    if revision < known.acknowledged || revision > known.last_asked() {
        let (from, through) = (known.acknowledged, known.last_asked());
        return wrong(format!(
            "revision {revision}, and {from} was acknowledged, {through} asked"
        ));
    }
    let asked = known.compaction_asked;
    let acknowledged = known.compaction_acknowledged;
    // One that was asked for and not acknowledged may have been taken, or a later one not.
    let is_right = compacted == acknowledged
        || (compacted > acknowledged && known.compactions_asked.contains(&compacted));
    if !is_right && acknowledged > 0 || compacted > asked {
        return wrong(format!(
            "compacted at {compacted}, and {acknowledged} was acknowledged, {asked} asked"
        ));
    }
    check_history(view, known, compacted.max(1) + 1, revision)?;
    check_state(view, known, revision)?;
    check_leases(view, known, revision)?;
    if compacted > 0 {
        check_state(view, known, compacted)?;
    }
    Ok(())
}

fn check_state(view: &ReadView, known: &Known, at: i64) -> Result<(), Fault> {
    let (found, expected) = (try_range(view, at)?, known.state(at));
    if found == expected {
        return Ok(());
    }
    let brief = |kvs: &[KeyValue]| -> Vec<String> {
        let line = |kv: &KeyValue| format!("{:?} {} v{}", kv.key, kv.mod_revision, kv.version);
        kvs.iter().map(line).collect()
    };
    let (found, expected) = (brief(&found), brief(&expected));
    let missing: Vec<_> = expected.iter().filter(|kv| !found.contains(kv)).collect();
    let extra: Vec<_> = found.iter().filter(|kv| !expected.contains(kv)).collect();
    wrong(format!(
        "keys at {at}: missing {missing:?}, not asked for {extra:?}"
    ))
}

/// Leases are there that have to be, no other, and no key without its lease.
fn check_leases(view: &ReadView, known: &Known, revision: i64) -> Result<(), Fault> {
    let found: BTreeSet<i64> = view.leases().into_iter().map(|(id, _)| id.0).collect();
    for (id, lease) in &known.leases {
        let is_there = found.contains(id);
        if lease.has_to_be_there && !is_there || is_there && !lease.may_be_there {
            return wrong(format!("lease {id} is there: {is_there}, and {lease:?}"));
        }
    }
    if let Some(unknown) = found.iter().find(|id| !known.leases.contains_key(id)) {
        return wrong(format!("nobody asked for lease {unknown}"));
    }
    let mut keys: BTreeMap<LeaseId, Vec<Bytes>> = BTreeMap::new();
    for kv in known.state(revision) {
        if kv.lease != LeaseId::NONE {
            keys.entry(kv.lease).or_default().push(kv.key);
        }
    }
    for (lease, keys) in keys {
        let mut attached = view.keys_of_lease(lease);
        attached.sort();
        if !found.contains(&lease.0) || attached != keys {
            return wrong(format!(
                "{keys:?} should have {lease:?}, which has {attached:?}"
            ));
        }
    }
    Ok(())
}

fn check_history(view: &ReadView, known: &Known, from: i64, through: i64) -> Result<(), Fault> {
    let mut next = from;
    while next <= through {
        let stretch = answer(|done| view.history(Revision(next), Revision(through), done))?;
        let mut at = next;
        for commit in &stretch.commits {
            if commit.revision.0 != at {
                return wrong(format!("revision {at} is missing from history"));
            }
            let found: Vec<_> = commit
                .events
                .iter()
                .map(|event| {
                    let value = (event.kind == EventKind::Put).then(|| event.kv.value.clone());
                    (event.kv.key.clone(), value)
                })
                .collect();
            let asked = known.asked.get(&at);
            let expected: Vec<_> = asked
                .into_iter()
                .flatten()
                .zip(0..)
                .map(|((key, bytes), sub)| {
                    let value = bytes.map(|bytes| value(at, sub, bytes));
                    (Bytes::copy_from_slice(key.as_bytes()), value)
                })
                .collect();
            if found != expected {
                return wrong(format!("revision {at} holds something else than was asked"));
            }
            at += 1;
        }
        if at != stretch.next.0 || at == next {
            return wrong(format!("history ends at {at} and should go on"));
        }
        next = at;
    }
    Ok(())
}

/// What was recovered can be written to.
fn go_on(mut writer: Writer, view: &ReadView) -> Result<(), Fault> {
    let put = Write::Put(Put {
        key: "after".into(),
        value: "1".into(),
        ..Put::default()
    });
    let before = view.revision();
    match writer.apply(&put, false) {
        Err(ApplyError::Failed(error)) => return Err(Fault::Refused(error)),
        Err(ApplyError::Refused(refusal)) => return wrong(refusal.to_string()),
        Ok(_) => {}
    }
    writer.commit().map_err(Fault::Refused)?;
    if view.revision() != before.next() {
        return wrong(format!("{before} is followed by {}", view.revision()));
    }
    writer.close().map_err(Fault::Refused)
}
