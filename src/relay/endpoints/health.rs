//! How an upstream is.
//!
//! These are words and their order; nothing is found out here.

use std::fmt::{self, Display, Formatter};

/// How an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answers, and so does its cluster.
    Well,
    /// It was not asked yet.
    Unknown,
    /// It answers alone and sees a leader, and its cluster gives no answer: it has much to do, perhaps.
    Slow(String),
    /// It answers, and says why it is of little use.
    Unfit(String),
    /// It does not answer.
    Unreachable(String),
    /// It belongs to another cluster, and must not be asked.
    Foreign(String),
}

impl Health {
    /// The smaller, the better.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Unknown => 1,
            Self::Slow(_) => 2,
            Self::Unfit(_) => 3,
            Self::Unreachable(_) => 4,
            Self::Foreign(_) => 5,
        }
    }
}

impl Display for Health {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Well => "well",
            Self::Unknown => "not asked yet",
            Self::Slow(why) | Self::Unfit(why) | Self::Unreachable(why) | Self::Foreign(why) => why,
        })
    }
}
