//! The rules of a range: which of its keys are answered, in which order, and how many were there.
//!
//! It sees keys in order, once, and never reads a value that the answer does not need.

use super::codec::Place;
use super::key_index::Slot;
use crate::fault::{self, Fault};
use crate::model::{KeyValue, RangeAnswer, RangeQuery, Refusal, SortOrder, SortTarget};
use bytes::Bytes;
use std::cmp::Ordering;
use std::sync::Arc;

/// A key of a range, as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The key; empty where values are read, which come with their keys.
    pub key: Bytes,
    /// Its change at the revision that is read.
    pub slot: Slot,
    /// What it weighs in the answer, in bytes.
    bytes: usize,
}

impl Candidate {
    /// All that the index knows; the lease is unknown to it, and 0 as in etcd.
    fn to_key_value(&self) -> KeyValue {
        KeyValue {
            key: self.key.clone(),
            create_revision: self.slot.create_revision,
            mod_revision: self.slot.main,
            version: self.slot.version,
            ..KeyValue::default()
        }
    }
}

/// A range being answered.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    query: &'a RangeQuery,
    bytes_max: usize,
    count: i64,
    kept: Vec<Candidate>,
    /// What the kept keys would weigh in the answer, in bytes; known early only when no limit can cut them.
    bytes: usize,
}

impl<'a> Selection<'a> {
    /// A range without keys so far.
    pub(crate) fn new(query: &'a RangeQuery, bytes_max: usize) -> Self {
        Self {
            query,
            bytes_max,
            count: 0,
            kept: Vec::new(),
            bytes: 0,
        }
    }

    /// The limit, when there is one.
    fn limit(&self) -> Option<usize> {
        usize::try_from(self.query.limit)
            .ok()
            .filter(|limit| *limit > 0)
            .map(|limit| limit + usize::from(fault::active(Fault::RangeLimitOffByOne)))
    }

    /// Takes the next key that exists at the revision.
    pub(crate) fn offer(&mut self, key: &Bytes, slot: &Slot) -> Result<(), Refusal> {
        self.count += 1;
        if self.query.count_only {
            return Ok(());
        }
        let limit = self.limit();
        let full = |limit: usize| self.query.is_plain() && self.kept.len() > limit;
        if limit.is_some_and(full) || !self.admits(key, slot) {
            return Ok(());
        }
        let candidate = self.candidate(key, slot);
        if limit.is_none() {
            self.bytes += candidate.bytes;
            self.check(self.bytes)?;
        }
        self.kept.push(candidate);
        Ok(())
    }

    fn admits(&self, key: &Bytes, slot: &Slot) -> bool {
        let bounds = &self.query.bounds;
        bounds.is_open() || bounds.admit(&self.candidate(key, slot).to_key_value())
    }

    fn candidate(&self, key: &Bytes, slot: &Slot) -> Candidate {
        let value_bytes = if self.query.keys_only {
            0
        } else {
            slot.value_bytes as usize
        };
        // A key that is shared costs a line of memory that nothing else here looks at.
        let shared = if self.reads_values() {
            Bytes::new()
        } else {
            key.clone()
        };
        Candidate {
            key: shared,
            slot: *slot,
            bytes: key.len() + value_bytes,
        }
    }

    /// True when every value has to be compared, whatever the limit.
    fn is_by_value(&self) -> bool {
        self.query.sort_target == SortTarget::Value && !self.query.count_only
    }

    /// True when the index alone does not answer.
    fn reads_values(&self) -> bool {
        self.is_by_value() || !self.query.keys_only
    }

    fn check(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes > self.bytes_max && !fault::active(Fault::AnswerTooLargeGiven) {
            Err(Refusal::AnswerTooLarge {
                max: self.bytes_max,
            })
        } else {
            Ok(())
        }
    }

    /// Orders and cuts what was taken, as far as the index alone can.
    pub(crate) fn choose(mut self) -> Result<Chosen<'a>, Refusal> {
        let by_value = self.is_by_value();
        let mut more = false;
        if by_value {
            let bytes = self.kept.iter().map(|kept| kept.slot.value_bytes as usize);
            self.check(bytes.sum())?;
        } else {
            sort(&mut self.kept, self.query);
            more = self.cut();
            let bytes = self.kept.iter().map(|kept| kept.bytes);
            self.check(bytes.sum())?;
        }
        Ok(Chosen {
            read: self.reads_values() && !self.kept.is_empty(),
            selection: self,
            by_value,
            more,
        })
    }

    fn cut(&mut self) -> bool {
        let limit = self.limit().unwrap_or(usize::MAX);
        let more = self.kept.len() > limit;
        self.kept.truncate(limit);
        more
    }
}

/// A range whose keys are known and whose values may still be missing.
#[derive(Debug)]
pub(crate) struct Chosen<'a> {
    selection: Selection<'a>,
    by_value: bool,
    more: bool,
    read: bool,
}

impl Chosen<'_> {
    /// The changes whose values have to be read; none when the index alone answers.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        if self.read {
            self.selection.kept.iter().map(|kept| kept.slot).collect()
        } else {
            Vec::new()
        }
    }

    /// Where [`Self::slots`] lie.
    pub(crate) fn places(&self) -> Vec<Place> {
        let kept = self.selection.kept.iter().filter(|_| self.read);
        kept.map(|kept| kept.slot.place()).collect()
    }

    /// The answer, from the values of [`Self::slots`]; nothing when one of them is gone.
    pub(crate) fn answer(mut self, fetched: Vec<Option<Arc<KeyValue>>>) -> Option<RangeAnswer> {
        let query = self.selection.query;
        let mut kvs: Vec<Arc<KeyValue>> = if self.read {
            fetched.into_iter().collect::<Option<_>>()?
        } else {
            let known = self.selection.kept.iter().map(Candidate::to_key_value);
            known.map(Arc::new).collect()
        };
        if self.by_value {
            kvs.sort_by(|a, b| directed(query, a.value.cmp(&b.value)));
            let limit = self.selection.limit().unwrap_or(usize::MAX);
            self.more = kvs.len() > limit;
            kvs.truncate(limit);
        }
        if query.keys_only {
            for kv in &mut kvs {
                Arc::make_mut(kv).value = Bytes::new();
            }
        }
        Some(RangeAnswer {
            kvs,
            more: self.more,
            count: self.selection.count,
        })
    }
}

fn directed(query: &RangeQuery, order: Ordering) -> Ordering {
    match query.sort_order {
        SortOrder::Descend => order.reverse(),
        SortOrder::None | SortOrder::Ascend => order,
    }
}

/// Orders keys that come in key order; equal ones stay in it.
fn sort(kept: &mut [Candidate], query: &RangeQuery) {
    match query.sort_target {
        SortTarget::Key if query.sort_order == SortOrder::Descend => kept.reverse(),
        SortTarget::Key | SortTarget::Value => {}
        SortTarget::Version => {
            kept.sort_by(|a, b| directed(query, a.slot.version.cmp(&b.slot.version)));
        }
        SortTarget::Create => {
            let create = |kept: &Candidate| kept.slot.create_revision;
            kept.sort_by(|a, b| directed(query, create(a).cmp(&create(b))));
        }
        SortTarget::Mod => kept.sort_by(|a, b| directed(query, a.slot.main.cmp(&b.slot.main))),
    }
}
