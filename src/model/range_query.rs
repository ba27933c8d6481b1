//! A read of a range of keys at one revision.
//!
//! The query carries what the client asked for; whether it may be answered is decided where the store is.

use super::{KeyRange, KeyValue};

/// In which order a range is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// No order asked for: by key, ascending, unless a target is named.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// By what a range is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// By key.
    #[default]
    Key,
    /// By version.
    Version,
    /// By create revision.
    Create,
    /// By mod revision.
    Mod,
    /// By value.
    Value,
}

/// Inclusive bounds on the two revisions of a key; 0 is "no bound".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevisionBounds {
    /// Lowest mod revision that passes.
    pub mod_min: i64,
    /// Highest mod revision that passes.
    pub mod_max: i64,
    /// Lowest create revision that passes.
    pub create_min: i64,
    /// Highest create revision that passes.
    pub create_max: i64,
}

impl RevisionBounds {
    /// True when nothing is filtered.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// True when a key with these revisions passes.
    pub fn admit(&self, kv: &KeyValue) -> bool {
        let within =
            |at: i64, min: i64, max: i64| (min == 0 || at >= min) && (max == 0 || at <= max);
        within(kv.mod_revision.0, self.mod_min, self.mod_max)
            && within(kv.create_revision.0, self.create_min, self.create_max)
    }
}

/// A read of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    /// The keys.
    pub range: KeyRange,
    /// The revision to read at; zero or less is the latest.
    pub revision: i64,
    /// How many keys to answer at most; zero or less is all.
    pub limit: i64,
    /// In which order.
    pub sort_order: SortOrder,
    /// Sorted by what.
    pub sort_target: SortTarget,
    /// Answer without values.
    pub keys_only: bool,
    /// Answer the count alone.
    pub count_only: bool,
    /// Which revisions pass.
    pub bounds: RevisionBounds,
}

impl RangeQuery {
    /// The latest of all keys of a range.
    pub fn latest(range: KeyRange) -> Self {
        Self {
            range,
            revision: 0,
            limit: 0,
            sort_order: SortOrder::None,
            sort_target: SortTarget::Key,
            keys_only: false,
            count_only: false,
            bounds: RevisionBounds::default(),
        }
    }

    /// True when the answer is in key order as stored and unfiltered, so that a limit can stop the read early.
    pub fn is_plain(&self) -> bool {
        let stored_order =
            self.sort_target == SortTarget::Key && self.sort_order != SortOrder::Descend;
        stored_order && self.bounds.is_open()
    }
}
