//! Dead marks: which records of a block a compaction has dropped without rewriting the block.
//!
//! Without them an old put whose tombstone is gone would come back to life when the index is rebuilt.

use super::super::StorageError;
use super::Place;
use super::meta::{seal, unseal};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Marks {
    /// How many records the block has: marks belong to one form of a block only.
    records: u32,
    /// The numbers of the dead ones, ascending.
    dead: Vec<u32>,
}

/// The record of the marks of a block with `records` records of which `dead` (ascending numbers) are dead.
pub(crate) fn encode_marks(records: u32, dead: Vec<u32>) -> Result<Vec<u8>, StorageError> {
    seal(&Marks { records, dead })
}

/// Reads the marks of the block at `place`, which has `records` records: the numbers of the dead ones.
pub(crate) fn decode_marks(
    place: Place,
    records: u32,
    bytes: &[u8],
) -> Result<Vec<u32>, StorageError> {
    let at = place.to_string();
    let marks: Marks = unseal("dead marks", &at, bytes)?;
    let ordered = marks.dead.is_sorted_by(|a, b| a < b);
    let inside = marks.dead.last().is_none_or(|last| *last < records);
    if marks.records != records || !ordered || !inside {
        return Err(StorageError::corrupt(
            "dead marks",
            at,
            "they are another block's",
        ));
    }
    Ok(marks.dead)
}
