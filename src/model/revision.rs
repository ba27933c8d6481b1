//! The three numbers that travel as bare 64-bit integers on the wire and must never be swapped: revision, watch id and
//! lease id.
//!
//! A newtype here never does arithmetic beyond "the next one" and "the one before".

use serde::{Deserialize, Serialize};
use std::fmt;

/// The main revision of the store: one number for every write transaction that changed something.
///
/// A fresh store is at revision 1, and its first change gets revision 2, as in etcd.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision of a store that was never written to.
    pub const FRESH: Self = Self(1);
    /// The compact revision of a store that was never compacted.
    pub const NEVER_COMPACTED: Self = Self(-1);

    /// The revision after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The revision before this one.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of one watch on one stream, chosen by the client or by the server.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct WatchId(pub i64);

impl WatchId {
    /// Stands for the whole stream: rejected creates and stream-wide progress carry it.
    pub const STREAM: Self = Self(-1);
    /// In a create request: the server picks the id.
    pub const AUTO: Self = Self(0);
}

impl fmt::Display for WatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a lease; zero is "no lease".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// A key without a lease.
    pub const NONE: Self = Self(0);
}
