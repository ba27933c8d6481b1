//! Refuses puts before the disk is full (D5): sled that meets a full disk refuses everything until it is reopened.
//!
//! Deletes and compactions are never refused: they are the way out.

use super::StorageError;
use super::core::Core;
use crate::fault::{self, Fault};

/// What a refused or empty write counts at least, in bytes, so that the disk is looked at again some time.
const WRITE_BYTES_MIN: u64 = 256;

/// What is known of the disk's free space.
#[derive(Debug)]
pub(crate) struct Space {
    low: bool,
    unchecked_bytes: u64,
}

impl Space {
    /// Looks at the disk.
    pub(crate) fn new(core: &Core) -> Result<Self, StorageError> {
        let mut space = Self {
            low: false,
            unchecked_bytes: 0,
        };
        space.check(core)?;
        Ok(space)
    }

    /// Whether a put of this size may be applied.
    pub(crate) fn admit(&mut self, core: &Core, bytes: usize) -> Result<bool, StorageError> {
        self.unchecked_bytes += bytes as u64 + WRITE_BYTES_MIN;
        // While the disk is full nothing is written, so the requests themselves bring the next look, and sooner.
        let every = if self.low {
            core.limits.free_space_check_bytes / 64
        } else {
            core.limits.free_space_check_bytes
        };
        if self.unchecked_bytes >= every {
            self.check(core)?;
        }
        Ok(!self.low)
    }

    /// Counts what a commit wrote, deletes included.
    pub(crate) fn written(&mut self, bytes: u64) {
        self.unchecked_bytes = self.unchecked_bytes.saturating_add(bytes);
    }

    /// Whether the disk was nearly full when it was looked at last.
    pub(crate) fn is_low(&self) -> bool {
        self.low
    }

    fn check(&mut self, core: &Core) -> Result<(), StorageError> {
        self.unchecked_bytes = 0;
        let free_bytes = core.db.free_bytes()?;
        let low = free_bytes < core.limits.free_space_reserve_bytes
            && !fault::active(Fault::FullDiskUnnoticed);
        if low != self.low {
            let reserve_bytes = core.limits.free_space_reserve_bytes;
            let state = if low { "refused" } else { "taken again" };
            log::warn!("puts are {state}: {free_bytes} bytes free, {reserve_bytes} are kept");
        }
        self.low = low;
        Ok(())
    }
}
