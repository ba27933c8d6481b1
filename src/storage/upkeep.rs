//! What the writer knows of defragmentations: which are due, and whether one runs.
//!
//! The work itself is done elsewhere, beside all writes; nothing here waits for it.

use super::core::{Core, Sizes};
use super::database::{Defragment, Defragmented};
use super::{StorageError, StorageLimits};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The defragmentations of one store.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// How many were asked for and have not ended.
    running: AtomicUsize,
    /// One has ended since the last look.
    has_ended: AtomicBool,
}

impl Upkeep {
    /// Whether one runs.
    pub(crate) fn is_defragmenting(&self) -> bool {
        self.running.load(Ordering::SeqCst) > 0
    }
}

/// Has the store give back what it does not use of the disk.
pub(super) fn defragment(core: &Core, done: Defragmented) {
    core.upkeep.running.fetch_add(1, Ordering::SeqCst);
    // Not the store itself: the last who lets go of that waits for the thread that calls this.
    let upkeep = Arc::clone(&core.upkeep);
    core.db.defragment(Defragment {
        // As much again as puts need: they are not to be refused because of this.
        free_bytes_min: core.limits.free_space_reserve_bytes.saturating_mul(2),
        done: Box::new(move |defragmented| {
            // One that was given up for the end of the store says nothing of its size.
            let has_ended = !matches!(defragmented, Err(StorageError::Closed));
            upkeep.has_ended.store(has_ended, Ordering::SeqCst);
            upkeep.running.fetch_sub(1, Ordering::SeqCst);
            done(defragmented);
        }),
    });
}

/// When a defragmentation is due that nobody has asked for.
#[derive(Debug, Default)]
pub(super) struct DefragmentRule {
    /// What the data took on the disk after the last one.
    after_last_bytes: u64,
}

impl DefragmentRule {
    /// Looks at the store. What the data took after the last time counts, so that a store which cannot be made smaller, or
    /// not for want of space, is not copied again and again.
    pub(super) fn is_due(&mut self, core: &Core) -> Result<bool, StorageError> {
        let upkeep = &core.upkeep;
        if upkeep.is_defragmenting() {
            return Ok(false);
        }
        let sizes = core.sizes();
        if upkeep.has_ended.swap(false, Ordering::SeqCst) {
            core.measure();
            self.after_last_bytes = core.sizes().disk_bytes;
            return Ok(false);
        }
        if !self.is_too_large(sizes, &core.limits) {
            return Ok(false);
        }
        let reserve = core.limits.free_space_reserve_bytes;
        let needed = reserve.saturating_add(sizes.live_bytes).saturating_mul(2);
        Ok(core.db.free_bytes()? >= needed)
    }

    fn is_too_large(&self, sizes: Sizes, limits: &StorageLimits) -> bool {
        let multiple = limits.auto_defragment_multiple;
        let enough = sizes
            .live_bytes
            .saturating_mul(multiple)
            .max(self.after_last_bytes.saturating_mul(2))
            .max(limits.auto_defragment_bytes_min);
        multiple > 0 && sizes.disk_bytes > enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn is_too_large(rule: &DefragmentRule, disk: u64, live: u64, multiple: u64) -> bool {
        let sizes = Sizes {
            disk_bytes: disk * MIB,
            live_bytes: live * MIB,
        };
        let limits = StorageLimits {
            auto_defragment_multiple: multiple,
            ..StorageLimits::default()
        };
        rule.is_too_large(sizes, &limits)
    }

    #[test]
    fn what_is_several_times_what_is_live_is_too_large() {
        let rule = DefragmentRule::default();
        assert!(is_too_large(&rule, 401, 100, 4));
        assert!(!is_too_large(&rule, 400, 100, 4));
        assert!(!is_too_large(&rule, 64, 0, 4), "nobody minds so little");
        assert!(is_too_large(&rule, 65, 0, 4));
        assert!(!is_too_large(&rule, 65, 0, 0), "never unasked");
    }

    #[test]
    fn what_could_not_be_made_smaller_is_left_alone_until_it_has_doubled() {
        let rule = DefragmentRule {
            after_last_bytes: 300 * MIB,
        };
        assert!(!is_too_large(&rule, 600, 10, 4));
        assert!(is_too_large(&rule, 601, 10, 4));
    }
}
