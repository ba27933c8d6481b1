//! The shape rules of a write, checked before the store sees it.
//!
//! Nothing here looks at what is stored.

use super::{KeyRange, LeaseGrant, LeaseId, Op, Put, RangeEnd, RangeQuery, Refusal, Txn, Write};
use bytes::Bytes;
use std::collections::BTreeMap;

/// How long a lease may live without being kept alive, in seconds; etcd's limit.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

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
            Self::LeaseGrant(LeaseGrant { ttl_seconds, .. }) => {
                let (ttl_seconds, max) = (*ttl_seconds, LEASE_TTL_SECONDS_MAX);
                if ttl_seconds > max {
                    return Err(Refusal::LeaseTtlTooLarge { ttl_seconds, max });
                }
                Ok(())
            }
            Self::LeaseRevoke(_) => Ok(()),
        }
    }

    /// True when it may add to the store: a put in whichever branch, or a lease.
    pub fn puts(&self) -> bool {
        match self {
            Self::Put(_) | Self::LeaseGrant(_) => true,
            Self::Delete(_) | Self::LeaseRevoke(_) => false,
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
/// since only one of them runs; two nested transactions may not, in whichever order. etcd lets a later one delete what
/// an earlier one puts, and takes a delete without an end for an empty one; all else it refuses as well.
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

#[cfg(test)]
mod tests {
    use super::super::{Compare, CompareResult, CompareTarget, DeleteRange};
    use super::*;

    fn put(key: &'static str) -> Op {
        Op::Put(Put {
            key: key.into(),
            ..Put::default()
        })
    }

    fn delete(key: &'static str, end: &'static str) -> Op {
        Op::Delete(DeleteRange {
            range: KeyRange::from_wire(key.into(), end.into()),
            prev_kv: false,
        })
    }

    fn range(key: &'static str) -> Op {
        Op::Range(RangeQuery::latest(KeyRange::single(key)))
    }

    fn nested(success: Vec<Op>, failure: Vec<Op>) -> Op {
        Op::Txn(Txn {
            success,
            failure,
            ..Txn::default()
        })
    }

    fn check(success: Vec<Op>) -> Result<(), Refusal> {
        let txn = Txn {
            success,
            ..Txn::default()
        };
        Write::Txn(txn).check(WriteLimits { txn_ops_max: 4 })
    }

    #[test]
    fn empty_keys_are_refused_wherever_they_stand() {
        let limits = WriteLimits::default();
        let empty = Err(Refusal::EmptyKey);
        assert_eq!(Write::Put(Put::default()).check(limits), empty);
        let unnamed = KeyRange::from_wire("".into(), "\0".into());
        assert_eq!(RangeQuery::latest(unnamed).check(), empty);
        for op in [
            put(""),
            delete("", "\0"),
            range(""),
            nested(vec![], vec![put("")]),
        ] {
            assert_eq!(check(vec![put("a"), op]), empty);
        }
        let compare = Compare {
            range: KeyRange::single(""),
            target: CompareTarget::Version(0),
            result: CompareResult::Equal,
        };
        let txn = Txn {
            compares: vec![compare],
            ..Txn::default()
        };
        assert_eq!(Write::Txn(txn).check(limits), empty);
    }

    #[test]
    fn put_that_keeps_and_gives_is_refused() {
        let keep = Put {
            key: "a".into(),
            ignore_value: true,
            ignore_lease: true,
            ..Put::default()
        };
        let value = Put {
            value: "1".into(),
            ..keep.clone()
        };
        let lease = Put {
            lease: LeaseId(1),
            ..keep.clone()
        };
        let check = |put: Put| Write::Put(put).check(WriteLimits::default());
        assert_eq!(check(keep), Ok(()));
        assert_eq!(check(value), Err(Refusal::ValueProvided));
        assert_eq!(check(lease), Err(Refusal::LeaseProvided));
    }

    #[test]
    fn nested_transaction_has_what_its_parent_leaves() {
        let reads = |count: usize| (0..count).map(|_| range("a")).collect::<Vec<_>>();
        let many = Err(Refusal::TooManyOperations { max: 4 });
        assert_eq!(check(reads(4)), Ok(()));
        assert_eq!(check(reads(5)), many);
        assert_eq!(check(vec![nested(reads(3), vec![])]), Ok(()));
        assert_eq!(check(vec![nested(vec![], reads(4))]), many);
        assert_eq!(
            check(vec![nested(vec![nested(reads(3), vec![])], vec![])]),
            many
        );
        let write = Write::Put(Put::default());
        assert!(write.puts() && !Write::Txn(Txn::default()).puts());
    }

    #[test]
    fn key_may_be_changed_by_one_operation_only() {
        let twice: [Vec<Op>; 12] = [
            vec![put("a"), put("a")],
            vec![put("b"), delete("a", "c")],
            vec![delete("b", ""), put("b")],
            vec![put("z"), delete("a", "\0")],
            vec![delete("a", "c"), delete("b", "d"), put("c")],
            vec![put("a"), nested(vec![put("a")], vec![])],
            vec![delete("a", "c"), nested(vec![], vec![put("b")])],
            vec![nested(vec![delete("a", "c")], vec![]), put("b")],
            vec![
                nested(vec![put("a")], vec![]),
                nested(vec![], vec![put("a")]),
            ],
            vec![
                nested(vec![delete("a", "")], vec![]),
                nested(vec![put("a")], vec![]),
            ],
            vec![
                nested(vec![put("a")], vec![]),
                nested(vec![delete("a", "")], vec![]),
            ],
            vec![nested(vec![put("x"), put("x")], vec![])],
        ];
        for ops in twice {
            assert_eq!(check(ops.clone()), Err(Refusal::DuplicateKey), "{ops:?}");
        }
        let once: [Vec<Op>; 7] = [
            vec![put("a"), put("b"), range("a")],
            vec![put("c"), delete("a", "c"), delete("d", "")],
            vec![delete("a", "c"), delete("b", "\0")],
            vec![put("a"), delete("b", "a")],
            vec![nested(vec![put("a")], vec![put("a")])],
            vec![nested(vec![put("a")], vec![delete("a", "c")]), put("c")],
            vec![
                delete("a", "b"),
                put("b"),
                nested(vec![delete("b\0", "c")], vec![]),
            ],
        ];
        for ops in once {
            assert_eq!(check(ops.clone()), Ok(()), "{ops:?}");
        }
    }
}
