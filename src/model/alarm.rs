//! Alarms: what an operator has to see to before the store takes writes again.
//!
//! An alarm is a fact that stays until somebody takes it back; nothing here decides when one is raised.

use serde::{Deserialize, Serialize};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AlarmKind {
    /// The store has reached its quota: puts are refused.
    NoSpace,
    /// The data is damaged: every change is refused.
    Corrupt,
}

/// One alarm of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Alarm {
    /// Whose.
    pub member_id: u64,
    /// What is wrong.
    pub kind: AlarmKind,
}
