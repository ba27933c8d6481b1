//! Copies an engine into a new one, slice by slice, and compares all of it before the new one may take its place.
//!
//! Changes go on meanwhile: whoever settles them gives them to both. The copy never is believed: an engine that has lost
//! something of it is found out while the old one is still there.

use super::StorageError;
use super::codec::engine_bounds;
use super::database::{Change, Database, Stored};
use crate::fault::{self, Fault};
use bytes::Bytes;
use std::sync::Arc;

/// How many records one slice has at most: a batch holds the engine's lock for its whole length.
const SLICE_RECORDS_MAX: usize = 64;
/// After how many copied bytes they are synced: all at once at the end would keep the commit log from its own syncs.
const UNSYNCED_BYTES_MAX: usize = 16 << 20;
/// Records of an engine.
type Slice = Vec<(Stored, Stored)>;

/// How far a slice has brought a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes further.
    More(usize),
    /// All of it is there, durably, and the same.
    Proven,
}

/// A copy that is being made.
#[derive(Debug)]
pub(super) struct Copying {
    target: Arc<dyn Database>,
    /// Everything is copied, and being compared.
    is_comparing: bool,
    /// Where the next slice begins.
    from: Vec<u8>,
    slice_bytes_max: usize,
    unsynced_bytes: usize,
}

impl Copying {
    /// Into an empty engine.
    pub(super) fn new(target: Arc<dyn Database>, slice_bytes_max: usize) -> Self {
        Self {
            target,
            is_comparing: false,
            from: engine_bounds().0,
            slice_bytes_max,
            unsynced_bytes: 0,
        }
    }

    /// The new engine: whatever goes into the old one has to go into it as well, between two slices.
    pub(super) fn target(&self) -> &Arc<dyn Database> {
        &self.target
    }

    /// One slice.
    pub(super) fn step(&mut self, source: &dyn Database) -> Result<Step, StorageError> {
        let (slice, bytes) = self.slice(source)?;
        if self.is_comparing {
            self.compare(&slice)?;
        } else {
            self.copy(&slice)?;
        }
        if let Some((last, _)) = slice.last() {
            // The least key behind it.
            self.from = [last.as_ref(), &[0]].concat();
            return Ok(Step::More(bytes));
        }
        if !self.is_comparing {
            self.is_comparing = true;
            self.from = engine_bounds().0;
            return Ok(Step::More(0));
        }
        if !fault::active(Fault::CopyNotSynced) {
            self.target.sync()?;
        }
        Ok(Step::Proven)
    }

    /// The next records of the old engine, none at its end, and how many bytes they are.
    fn slice(&self, source: &dyn Database) -> Result<(Slice, usize), StorageError> {
        let (mut slice, mut bytes) = (Vec::new(), 0);
        for record in source.scan(&self.from, &engine_bounds().1) {
            let (key, value) = record?;
            bytes += key.as_ref().len() + value.as_ref().len();
            slice.push((key, value));
            if slice.len() >= SLICE_RECORDS_MAX || bytes >= self.slice_bytes_max {
                break;
            }
        }
        Ok((slice, bytes))
    }

    fn copy(&mut self, slice: &[(Stored, Stored)]) -> Result<(), StorageError> {
        let mut changes = Vec::with_capacity(slice.len());
        for (key, value) in slice {
            let (key, value) = (key.as_ref(), value.as_ref());
            self.unsynced_bytes += key.len() + value.len();
            changes.push(Change::Put(
                Bytes::copy_from_slice(key),
                Bytes::copy_from_slice(value),
            ));
        }
        if !changes.is_empty() {
            self.target.apply(changes)?;
        }
        if self.unsynced_bytes >= UNSYNCED_BYTES_MAX {
            self.unsynced_bytes = 0;
            self.target.sync()?;
        }
        Ok(())
    }

    /// Sees that the new engine has these records from here on, and behind the last none.
    fn compare(&self, slice: &[(Stored, Stored)]) -> Result<(), StorageError> {
        let mut copied = self.target.scan(&self.from, &engine_bounds().1);
        for (key, value) in slice {
            let is_same = match copied.next().transpose()? {
                Some((copied_key, copied_value)) => {
                    copied_key.as_ref() == key.as_ref() && copied_value.as_ref() == value.as_ref()
                }
                None => false,
            };
            if !is_same {
                return Err(differs(key.as_ref()));
            }
        }
        match copied.next().transpose()? {
            Some((key, _)) if slice.is_empty() => Err(differs(key.as_ref())),
            _ => Ok(()),
        }
    }
}

fn differs(key: &[u8]) -> StorageError {
    let reason = format!("the copy differs from the data at or before record {key:02x?}");
    StorageError::disk("defragment", reason)
}
