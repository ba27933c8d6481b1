//! Why a well-formed store refuses a request that is not.
//!
//! These are reasons, not words on a wire: the exact codes and texts of etcd live in one table at the edge.

use super::Revision;

/// Why a request was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// `key` is empty.
    #[error("key is empty")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that does not exist, or an operation with nothing in it.
    #[error("key not found")]
    KeyNotFound,
    /// `ignore_value` together with a value.
    #[error("ignore_value is set and value is given too")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("ignore_lease is set and lease is given too")]
    LeaseProvided,
    /// `lease` names a lease that does not exist.
    #[error("lease not found")]
    LeaseNotFound,
    /// The id of a lease that is to be granted is in use.
    #[error("lease exists")]
    LeaseExists,
    /// A lease is to live longer than any may.
    #[error("TTL has {ttl_seconds} seconds, and the limit is {max}")]
    LeaseTtlTooLarge {
        /// What was asked for, in seconds.
        ttl_seconds: i64,
        /// The limit, in seconds.
        max: i64,
    },
    /// More operations than a transaction may have.
    #[error("transaction has more than {max} operations")]
    TooManyOperations {
        /// The limit, `txn_ops_max`.
        max: usize,
    },
    /// A key is changed twice in one transaction.
    #[error("transaction changes a key twice")]
    DuplicateKey,
    /// The request is larger than `request_bytes_max`.
    #[error("request has {bytes} bytes, and the limit is {max}")]
    RequestTooLarge {
        /// What the request has, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// `sort_order` or `sort_target` is a number that the protocol does not know.
    #[error("unknown sort order or sort target")]
    InvalidSort,
    /// The revision is older than the compact revision.
    #[error("revision is compacted: {compact_revision} is the oldest")]
    Compacted {
        /// The oldest revision that can be asked for.
        compact_revision: Revision,
    },
    /// The revision has not happened yet.
    #[error("revision is in the future: {current} is the latest")]
    FutureRevision {
        /// The latest revision.
        current: Revision,
    },
    /// An alarm says that the data is damaged.
    #[error("the data is damaged")]
    CorruptCluster,
    /// The disk has no room for more, or the quota is reached.
    #[error("no space left for writes")]
    NoSpace,
    /// An answer would be larger than `range_answer_bytes_max`.
    #[error("answer would have more than {max} bytes: set limit, or use RangeStream")]
    AnswerTooLarge {
        /// The limit, in bytes.
        max: usize,
    },
}
