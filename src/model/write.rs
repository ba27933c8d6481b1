//! What a client may ask the store to change: a put, a delete of a range, a transaction of both, or a lease.
//!
//! These are requests as values. Their shape is checked in `write_check`, their effect is decided by the store.

use super::{KeyRange, LeaseId, RangeQuery};
use bytes::Bytes;

/// What a put counts against the quota beyond its key and value, in bytes; as in etcd.
const PUT_OVERHEAD_BYTES: u64 = 256;

/// A put of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease to attach the key to.
    pub lease: LeaseId,
    /// Answer with the previous value.
    pub prev_kv: bool,
    /// Keep the current value.
    pub ignore_value: bool,
    /// Keep the current lease.
    pub ignore_lease: bool,
}

/// A delete of all keys of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    /// The keys.
    pub range: KeyRange,
    /// Answer with the previous values.
    pub prev_kv: bool,
}

/// How a compare relates what is stored to what is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// Stored = given.
    Equal,
    /// Stored > given.
    Greater,
    /// Stored < given.
    Less,
    /// Stored /= given.
    NotEqual,
    /// A number that the protocol does not know: always true, as in etcd.
    Unknown,
}

/// What a compare looks at, with the given side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// The version.
    Version(i64),
    /// The create revision.
    Create(i64),
    /// The mod revision.
    Mod(i64),
    /// The value, bytewise.
    Value(Bytes),
    /// The lease.
    Lease(i64),
    /// A number that the protocol does not know: compares as equal, as in etcd.
    Unknown,
}

/// One condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The keys; every one that exists has to satisfy the condition.
    pub range: KeyRange,
    /// What is compared.
    pub target: CompareTarget,
    /// How.
    pub result: CompareResult,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A read.
    Range(RangeQuery),
    /// A put.
    Put(Put),
    /// A delete.
    Delete(DeleteRange),
    /// A nested transaction.
    Txn(Txn),
}

/// A transaction: if all conditions hold the one list runs, else the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions; none is true.
    pub compares: Vec<Compare>,
    /// What runs when they hold.
    pub success: Vec<Op>,
    /// What runs when they do not.
    pub failure: Vec<Op>,
}

/// A grant of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    /// Its id, which no other lease may have.
    pub id: LeaseId,
    /// How long it lives without being kept alive, in seconds.
    pub ttl_seconds: i64,
}

/// Anything that may change the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A put.
    Put(Put),
    /// A delete.
    Delete(DeleteRange),
    /// A transaction, read-only ones included.
    Txn(Txn),
    /// A grant of a lease.
    LeaseGrant(LeaseGrant),
    /// The end of a lease, and with it of all keys that are attached to it.
    LeaseRevoke(LeaseId),
}

/// What a lease counts as among the bytes of a request; as in etcd.
const LEASE_BYTES: usize = 64;

impl Write {
    /// Bytes of keys and values that the request carries.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put(put) => put.key.len() + put.value.len(),
            Self::Delete(delete) => delete.range.start.len(),
            Self::Txn(txn) => txn.bytes(),
            Self::LeaseGrant(_) | Self::LeaseRevoke(_) => LEASE_BYTES,
        }
    }

    /// What the write counts against the quota, in bytes: each put with a flat amount for what is kept beside it, and of a
    /// transaction the list that puts more. As in etcd, but for nested transactions, which count here.
    pub fn quota_bytes(&self) -> u64 {
        match self {
            Self::Put(put) => put.quota_bytes(),
            Self::Delete(_) | Self::LeaseRevoke(_) => 0,
            Self::Txn(txn) => txn.quota_bytes(),
            Self::LeaseGrant(_) => LEASE_BYTES as u64,
        }
    }

    /// True when it may change anything, in whichever branch.
    pub fn changes(&self) -> bool {
        match self {
            Self::Put(_) | Self::Delete(_) | Self::LeaseGrant(_) | Self::LeaseRevoke(_) => true,
            Self::Txn(txn) => txn.changes(),
        }
    }
}

impl Put {
    fn quota_bytes(&self) -> u64 {
        (self.key.len() + self.value.len()) as u64 + PUT_OVERHEAD_BYTES
    }
}

impl Txn {
    fn quota_bytes(&self) -> u64 {
        let of = |ops: &[Op]| {
            let cost = |op: &Op| match op {
                Op::Range(_) | Op::Delete(_) => 0,
                Op::Put(put) => put.quota_bytes(),
                Op::Txn(txn) => txn.quota_bytes(),
            };
            ops.iter().map(cost).sum::<u64>()
        };
        of(&self.success).max(of(&self.failure))
    }

    fn changes(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            Op::Range(_) => false,
            Op::Put(_) | Op::Delete(_) => true,
            Op::Txn(txn) => txn.changes(),
        })
    }

    /// Bytes of keys and values that the transaction carries, nested ones included.
    pub fn bytes(&self) -> usize {
        let compares = self.compares.iter().map(|compare| {
            let given = match &compare.target {
                CompareTarget::Value(value) => value.len(),
                _ => 0,
            };
            compare.range.start.len() + given
        });
        let ops = self.success.iter().chain(&self.failure).map(|op| match op {
            Op::Range(query) => query.range.start.len(),
            Op::Put(put) => put.key.len() + put.value.len(),
            Op::Delete(delete) => delete.range.start.len(),
            Op::Txn(txn) => txn.bytes(),
        });
        compares.sum::<usize>() + ops.sum::<usize>()
    }
}
