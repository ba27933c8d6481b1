//! Plain values that every room speaks: revisions, keys and ranges, events, commits, requests and their answers.
//!
//! Nothing here knows an actor, a disk, a socket or a clock, and nothing here blocks or fails for any reason but its
//! own input.

mod alarm;
mod answer;
mod commit;
mod event;
mod key_range;
mod key_value;
mod range_query;
mod refusal;
mod revision;
mod watch_spec;
mod write;
mod write_check;

pub use alarm::{Alarm, AlarmKind};
pub use answer::{OpAnswer, OpBody, RangeAnswer, TxnAnswer, WriteAnswer};
pub use commit::Commit;
pub use event::{Event, EventKind};
pub use key_range::{KeyRange, RangeEnd};
pub use key_value::KeyValue;
pub use range_query::{RangeQuery, RevisionBounds, SortOrder, SortTarget};
pub use refusal::Refusal;
pub use revision::{LeaseId, Revision, WatchId};
pub use watch_spec::{EventFilters, WatchClass, WatchSpec};
pub use write::{
    Compare, CompareResult, CompareTarget, DeleteRange, LeaseGrant, Op, Put, Txn, Write,
};
pub use write_check::{LEASE_TTL_SECONDS_MAX, WriteLimits};
