//! What a seed decides before anything happens: how small every queue is, what the disk does, who is held up where.
//!
//! Everything here comes from chance, and chance from the seed.

use crate::actors::hooks::{HookPoint, Pauses};
use crate::actors::{EngineLimits, OutboxLimits, StoreLimits};
use crate::storage::StorageLimits;
use crate::watch::BatchLimits;
use std::time::Duration;

/// How often progress is told without being asked for.
pub(super) const PROGRESS: Duration = Duration::from_secs(1);

/// Chance, the same for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // Knuth's MMIX constants; the high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound.max(1)
    }

    /// The same for revisions and versions.
    pub(super) fn few(&mut self, bound: i64) -> i64 {
        let below = self.below(usize::try_from(bound).expect("positive"));
        i64::try_from(below).expect("31 bits")
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    pub(super) fn once_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    /// Another chance, which this one decides.
    pub(super) fn child(&mut self) -> Self {
        let seed = (self.below(1 << 31) as u64) << 31;
        Self(seed + self.below(1 << 31) as u64)
    }

    pub(super) fn pick<'a, T>(&mut self, all: &'a mut [T]) -> Option<&'a mut T> {
        let at = self.below(all.len());
        all.get_mut(at)
    }
}

/// Where the store lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In memory.
    Memory,
    /// In memory, behind a commit log in files.
    Logged,
    /// On a real disk, which neither fails nor loses anything.
    Directory,
}

/// What goes wrong in a simulation.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each goes wrong by itself")]
pub(super) struct Weather {
    /// Where the store lies.
    pub(super) place: Place,
    /// The disk fails now and then, and the power with it.
    pub(super) power_cuts: bool,
    /// The disk is full now and then.
    pub(super) no_space: bool,
    /// Reads wait until somebody answers them.
    pub(super) holds_reads: bool,
    /// Reads find the readers busy.
    pub(super) reads_busy: bool,
    /// Reads fail.
    pub(super) reads_fail: bool,
    /// Actors are held up at their hook points.
    pub(super) pauses: bool,
    /// Actors of the watch side die.
    pub(super) deaths: bool,
    /// Steps between two of the rare events, about.
    pub(super) calm: usize,
    /// How many watchers come at once, who all want the same.
    pub(super) herd: usize,
}

impl Weather {
    pub(super) fn of(chance: &mut Chance) -> Self {
        let place = match chance.below(32) {
            0 => Place::Directory,
            1..11 => Place::Logged,
            _ => Place::Memory,
        };
        let may_fail = place != Place::Directory;
        Self {
            place,
            power_cuts: may_fail && chance.once_in(2),
            no_space: may_fail && chance.once_in(4),
            holds_reads: chance.once_in(2),
            reads_busy: chance.once_in(4),
            reads_fail: chance.once_in(6),
            pauses: chance.once_in(2),
            deaths: chance.once_in(3),
            calm: 60 + chance.below(600),
            herd: chance.of(&[1, 1, 3, 12]),
        }
    }

    /// The nets come in a day, so that everybody gets level by wake-ups alone or not at all; only a read that was
    /// refused needs one.
    pub(super) fn net(&self) -> Duration {
        if self.reads_busy {
            Duration::from_millis(500)
        } else {
            Duration::from_hours(24)
        }
    }

    /// How long actors are held up.
    pub(super) fn pauses(&self, mut chance: Chance) -> Option<Pauses> {
        let pause = move |point: HookPoint| {
            let often = match point {
                HookPoint::StreamSend => 24,
                HookPoint::SyncSlice | HookPoint::VictimRetry => 12,
                HookPoint::ProgressCheck => 6,
            };
            let is_held = chance.once_in(often);
            is_held.then(|| Duration::from_millis(1 + chance.below(20) as u64))
        };
        self.pauses.then(|| Box::new(pause) as Pauses)
    }
}

/// Tiny limits, so that every queue overflows; now and then one that does not.
pub(super) fn limits(chance: &mut Chance, weather: &Weather) -> EngineLimits {
    EngineLimits {
        store: StoreLimits {
            group_ops_max: chance.of(&[1, 2, 8]),
            group_bytes_max: chance.of(&[1, 100, 1 << 20]),
            requests_in_flight_max: chance.of(&[1, 2, 8]),
            ..StoreLimits::default()
        },
        mailbox_messages_max: 1 + chance.below(3),
        in_flight_bytes_max: chance.of(&[1, 3, 150, 1 << 20]),
        batch: BatchLimits {
            delivery_bytes_max: chance.of(&[1, 10, 1000]),
            revisions_per_batch_max: chance.of(&[1, 2, 3, 100]),
        },
        entries_per_slice_max: chance.of(&[1, 2, 3, 500]),
        outbox: OutboxLimits {
            outbox_bytes_max: chance.of(&[1, 3, 600, 4000]),
            control_items_max: 1 + chance.below(3),
        },
        ring_bytes_max: chance.of(&[1, 1, 600, 1500, 8000, 1 << 20]),
        pinned_bytes_max: chance.of(&[1, 3, 10, 1000]),
        narrow_keys_max: 1 + chance.below(3),
        narrow_revisions_max: 1 + chance.below(3),
        progress_notify_interval: PROGRESS,
        sync_net_interval: weather.net(),
        retry_net_interval: weather.net(),
        ..EngineLimits::default()
    }
}

pub(super) fn storage(chance: &mut Chance) -> StorageLimits {
    StorageLimits {
        block_bytes_max: chance.of(&[100, 1000]),
        record_bytes_max: chance.of(&[200, 64 << 10]),
        batch_bytes_max: chance.of(&[100, 300, 8 << 20]),
        value_cache_bytes_max: chance.of(&[1, 1 << 20]),
        history_cache_bytes_max: chance.of(&[1, 1 << 20]),
        stretch_revisions_max: chance.of(&[1, 2, 3, 1024]),
        keys_per_lock_max: chance.of(&[1, 4096]),
        compaction_keys_per_step: chance.of(&[1, 1024]),
        compaction_changes_per_step: chance.of(&[1, 1024]),
        compaction_blocks_per_step: chance.of(&[1, 16]),
        free_space_check_bytes: chance.of(&[1, 200]),
        quota_bytes: chance.of(&[3000, u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX]),
        defragment_slice_bytes_max: chance.of(&[1, 300, 1 << 20]),
        free_space_reserve_bytes: 1 << 20,
        log_bytes_max: chance.of(&[1 << 11, 1 << 13, 1 << 16]),
        checkpoint_revisions: chance.of(&[0, 20, 500_000]),
        ..StorageLimits::default()
    }
}
