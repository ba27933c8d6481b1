//! Transactions: which branch runs, whether it may, and what each operation answers.
//!
//! All conditions and all checks see the state before the transaction; only then does anything run.

use super::ApplyError;
use super::StorageError;
use super::key_index::Slot;
use super::session::Session;
use crate::fault::{self, Fault};
use crate::model::{
    Compare, CompareResult, CompareTarget, KeyValue, LeaseId, Op, OpAnswer, OpBody, Refusal, Txn,
    TxnAnswer,
};
use std::cmp::Ordering;
use std::sync::Arc;

/// How many values of a condition's range are read at once.
const VALUES_PER_READ: usize = 256;

/// The branch that a transaction takes, and those of the transactions nested in it, in order.
#[derive(Debug)]
pub(crate) struct Plan {
    succeeded: bool,
    nested: Vec<Self>,
}

/// Chooses the branch of a transaction and of everything nested in it.
pub(crate) fn plan(session: &Session<'_>, txn: &Txn) -> Result<Plan, StorageError> {
    let mut succeeded = true;
    for compare in &txn.compares {
        if !holds(session, compare)? {
            succeeded = false;
            break;
        }
    }
    let mut nested = Vec::new();
    for op in branch(txn, succeeded) {
        if let Op::Txn(inner) = op {
            nested.push(plan(session, inner)?);
        }
    }
    Ok(Plan { succeeded, nested })
}

fn branch(txn: &Txn, succeeded: bool) -> &[Op] {
    if succeeded {
        &txn.success
    } else {
        &txn.failure
    }
}

/// Whether every existing key of the range satisfies the condition; a range without keys counts as one key of zeroes.
fn holds(session: &Session<'_>, compare: &Compare) -> Result<bool, StorageError> {
    let mut slots: Vec<Slot> = Vec::new();
    let walked = session.walk(&compare.range, session.begin(), |_, slot| {
        slots.push(*slot);
        Ok::<(), std::convert::Infallible>(())
    });
    let Ok(()) = walked;
    if slots.is_empty() {
        let absent = matches!(compare.target, CompareTarget::Value(_));
        return Ok(!absent && relates(compare, order(&compare.target, &KeyValue::default())));
    }
    if !matches!(
        compare.target,
        CompareTarget::Value(_) | CompareTarget::Lease(_)
    ) {
        return Ok(slots.iter().all(|slot| {
            let kv = KeyValue {
                create_revision: slot.create_revision,
                mod_revision: slot.main,
                version: slot.version,
                ..KeyValue::default()
            };
            relates(compare, order(&compare.target, &kv))
        }));
    }
    for some in slots.chunks(VALUES_PER_READ) {
        let values = session.values(some)?;
        if !values
            .iter()
            .all(|kv| relates(compare, order(&compare.target, kv)))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How what is stored stands to what is given.
fn order(target: &CompareTarget, kv: &KeyValue) -> Ordering {
    match target {
        CompareTarget::Version(given) => kv.version.cmp(given),
        CompareTarget::Create(given) if fault::active(Fault::TxnComparesWrongField) => {
            kv.mod_revision.0.cmp(given)
        }
        CompareTarget::Create(given) => kv.create_revision.0.cmp(given),
        CompareTarget::Mod(given) => kv.mod_revision.0.cmp(given),
        CompareTarget::Value(given) => kv.value.cmp(given),
        CompareTarget::Lease(given) => {
            let LeaseId(lease) = kv.lease;
            lease.cmp(given)
        }
        CompareTarget::Unknown => Ordering::Equal,
    }
}

fn relates(compare: &Compare, order: Ordering) -> bool {
    match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Unknown => true,
    }
}

/// Refuses the whole transaction for the first operation that cannot run.
pub(crate) fn check(session: &Session<'_>, txn: &Txn, plan: &Plan) -> Result<(), Refusal> {
    let mut nested = plan.nested.iter();
    for op in branch(txn, plan.succeeded) {
        match op {
            Op::Range(query) => session.check_range(query)?,
            Op::Put(put) => session.check_put(put)?,
            Op::Delete(_) => {}
            Op::Txn(inner) => {
                if let Some(plan) = nested.next() {
                    check(session, inner, plan)?;
                }
            }
        }
    }
    Ok(())
}

/// Runs the chosen branch in order.
pub(crate) fn run(
    session: &mut Session<'_>,
    txn: &Txn,
    plan: &Plan,
) -> Result<TxnAnswer, ApplyError> {
    let ops = branch(txn, plan.succeeded);
    let mut nested = plan.nested.iter();
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        let body = match op {
            Op::Range(query) => OpBody::Range(session.range(query)?),
            Op::Put(put) => OpBody::Put {
                prev: session.put(put)?.map(unshared),
            },
            Op::Delete(delete) => {
                let (deleted, prevs) = session.delete(delete)?;
                OpBody::Delete {
                    deleted,
                    prevs: prevs.into_iter().map(unshared).collect(),
                }
            }
            Op::Txn(inner) => match nested.next() {
                Some(plan) => OpBody::Txn(run(session, inner, plan)?),
                // A plan has one entry for each nested transaction of its branch.
                None => OpBody::Txn(TxnAnswer::default()),
            },
        };
        responses.push(OpAnswer {
            revision: session.overlay.running_revision(),
            body,
        });
    }
    Ok(TxnAnswer {
        succeeded: plan.succeeded,
        responses,
    })
}

/// A value of its own; its bytes stay shared.
pub(crate) fn unshared(kv: Arc<KeyValue>) -> KeyValue {
    Arc::unwrap_or_clone(kv)
}
