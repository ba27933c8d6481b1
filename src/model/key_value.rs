//! A key with its value and the four numbers that the protocol keeps with it.
//!
//! Cloning one never copies the key or the value: both are shared bytes.

use super::{LeaseId, Revision};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One version of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The revision of the first put of the key's current life.
    pub create_revision: Revision,
    /// The revision of this put (in a delete event: of the delete).
    pub mod_revision: Revision,
    /// 1 for the put that created the key, one more for each put after it; 0 for a tombstone.
    pub version: i64,
    /// The value.
    pub value: Bytes,
    /// The lease that the key is attached to.
    pub lease: LeaseId,
}

impl KeyValue {
    /// What a deletion leaves: the key and the revision of the delete, as delete events carry it.
    pub fn tombstone(key: Bytes, at: Revision) -> Self {
        Self {
            key,
            mod_revision: at,
            ..Self::default()
        }
    }

    /// Key and value bytes together.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}
