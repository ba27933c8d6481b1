//! The shape rules of a write, checked before the store sees it.
//!
//! Nothing here looks at what is stored.

use super::{KeyRange, LeaseId, Op, Put, RangeEnd, RangeQuery, Refusal, Txn, Write};
use bytes::Bytes;
use std::collections::BTreeMap;

/// The bounds of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteLimits {
    /// How many operations a list of a transaction may have; what one level uses the nested ones have less.
    pub txn_ops_max: usize,
}

impl Default for WriteLimits {
    fn default() -> Self {
        Self { txn_ops_max: 128 }
    }
}

impl Write {
    /// Refuses a write that no store could take.
    pub fn check(&self, limits: WriteLimits) -> Result<(), Refusal> {
        match self {
            Self::Put(put) => put.check(),
            Self::Delete(delete) => check_key(&delete.range),
            Self::Txn(txn) => {
                txn.check(limits.txn_ops_max, limits.txn_ops_max)?;
                changes_of(&txn.success)?;
                changes_of(&txn.failure)?;
                Ok(())
            }
        }
    }

    /// True when it may put a key, in whichever branch.
    pub fn puts(&self) -> bool {
        match self {
            Self::Put(_) => true,
            Self::Delete(_) => false,
            Self::Txn(txn) => txn.puts(),
        }
    }
}

impl RangeQuery {
    /// Refuses a read that no store could answer.
    pub fn check(&self) -> Result<(), Refusal> {
        check_key(&self.range)
    }
}

impl Put {
    fn check(&self) -> Result<(), Refusal> {
        if self.key.is_empty() {
            return Err(Refusal::EmptyKey);
        }
        if self.ignore_value && !self.value.is_empty() {
            return Err(Refusal::ValueProvided);
        }
        if self.ignore_lease && self.lease != LeaseId::NONE {
            return Err(Refusal::LeaseProvided);
        }
        Ok(())
    }
}

impl Txn {
    fn check(&self, budget: usize, max: usize) -> Result<(), Refusal> {
        let used = self
            .compares
            .len()
            .max(self.success.len())
            .max(self.failure.len());
        let left = budget
            .checked_sub(used)
            .ok_or(Refusal::TooManyOperations { max })?;
        self.compares
            .iter()
            .try_for_each(|compare| check_key(&compare.range))?;
        self.ops().try_for_each(|op| match op {
            Op::Range(query) => query.check(),
            Op::Put(put) => put.check(),
            Op::Delete(delete) => check_key(&delete.range),
            Op::Txn(txn) => txn.check(left, max),
        })
    }

    fn puts(&self) -> bool {
        self.ops().any(|op| match op {
            Op::Put(_) => true,
            Op::Range(_) | Op::Delete(_) => false,
            Op::Txn(txn) => txn.puts(),
        })
    }

    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.success.iter().chain(&self.failure)
    }
}

fn check_key(range: &KeyRange) -> Result<(), Refusal> {
    if range.start.is_empty() {
        Err(Refusal::EmptyKey)
    } else {
        Ok(())
    }
}

/// What a list of operations may change: keys it may put, and disjoint ascending ranges it may delete.
#[derive(Default)]
struct Changes {
    puts: BTreeMap<Bytes, usize>,
    deletes: Vec<Span>,
}

/// A half-open range of keys; without an end it has none.
type Span = (Bytes, Option<Bytes>);

/// Refuses a list in which two operations may change one key, so that a key changes once a revision at most. Two
/// deletes may overlap: the second finds nothing. The two branches of one nested transaction may change the same keys,
/// since only one of them runs; two nested transactions may not, in whichever order (etcd lets a later one delete what
/// an earlier one puts, and takes a delete without an end for an empty one).
fn changes_of(ops: &[Op]) -> Result<Changes, Refusal> {
    let mut puts: BTreeMap<Bytes, usize> = BTreeMap::new();
    let mut deletes: Vec<(Span, usize)> = Vec::new();
    for (op, number) in ops.iter().zip(0..) {
        let changes = match op {
            Op::Range(_) => continue,
            Op::Put(put) => Changes {
                puts: BTreeMap::from([(put.key.clone(), number)]),
                deletes: Vec::new(),
            },
            Op::Delete(delete) => Changes {
                puts: BTreeMap::new(),
                deletes: span(&delete.range).into_iter().collect(),
            },
            Op::Txn(txn) => either(changes_of(&txn.success)?, changes_of(&txn.failure)?),
        };
        for key in changes.puts.into_keys() {
            if puts.insert(key, number).is_some() {
                return Err(Refusal::DuplicateKey);
            }
        }
        deletes.extend(changes.deletes.into_iter().map(|span| (span, number)));
    }
    for ((start, end), number) in &deletes {
        let covered = puts
            .range(start.clone()..)
            .take_while(|(key, _)| end.as_ref().is_none_or(|end| *key < end));
        // The deletes of one operation are disjoint, so each of its own puts is passed over once.
        for (_, by) in covered {
            if by != number {
                return Err(Refusal::DuplicateKey);
            }
        }
    }
    let deletes = joined(deletes.into_iter().map(|(span, _)| span).collect());
    Ok(Changes { puts, deletes })
}

/// What a transaction may change of whose two branches one runs.
fn either(mut one: Changes, other: Changes) -> Changes {
    one.puts.extend(other.puts);
    one.deletes.extend(other.deletes);
    one.deletes = joined(one.deletes);
    one
}

fn span(range: &KeyRange) -> Option<Span> {
    let end = match &range.end {
        RangeEnd::Open => None,
        RangeEnd::Until(end) => Some(end.clone()),
        RangeEnd::Single => {
            let mut after = range.start.to_vec();
            after.push(0);
            Some(Bytes::from(after))
        }
    };
    (!range.is_empty()).then(|| (range.start.clone(), end))
}

/// The same keys as disjoint ascending ranges.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut done: Vec<Span> = Vec::with_capacity(spans.len());
    for (start, end) in spans {
        match done.last_mut() {
            Some((_, None)) => break,
            Some((_, Some(last))) if start <= *last => match end {
                Some(end) if end <= *last => {}
                end => {
                    if let Some((_, slot)) = done.last_mut() {
                        *slot = end;
                    }
                }
            },
            _ => done.push((start, end)),
        }
    }
    done
}
