//! What the store answers to a read or a write.
//!
//! Answers carry model values only; headers, ids and encodings are the edge's.

use super::{KeyValue, Revision};
use std::sync::Arc;

/// The answer to a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeAnswer {
    /// The keys, in the order asked for; shared with whoever else reads them.
    pub kvs: Vec<Arc<KeyValue>>,
    /// True when the limit left some out.
    pub more: bool,
    /// How many keys the range holds at that revision, limit and revision bounds ignored.
    pub count: i64,
}

/// The answer to one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpAnswer {
    /// The revision that the operation's header carries.
    pub revision: Revision,
    /// What it did.
    pub body: OpBody,
}

/// What one operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpBody {
    /// It read.
    Range(RangeAnswer),
    /// It put, over this value.
    Put {
        /// The previous value, when asked for.
        prev: Option<KeyValue>,
    },
    /// It deleted.
    Delete {
        /// How many keys.
        deleted: i64,
        /// The previous values, when asked for.
        prevs: Vec<KeyValue>,
    },
    /// It ran a nested transaction.
    Txn(TxnAnswer),
    /// It granted or revoked a lease.
    Lease,
}

/// What a transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnAnswer {
    /// Whether its conditions held.
    pub succeeded: bool,
    /// One answer for each operation that ran, in order.
    pub responses: Vec<OpAnswer>,
}

/// The answer to a [`super::Write`]; its body is of the write's own kind, never a range.
pub type WriteAnswer = OpAnswer;
