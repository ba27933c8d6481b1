//! Pauses between tries that fail: longer each time, and never the same for two that fail together.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(5);

/// The pauses of one who tries.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The next pause: half of it for certain and some of the other half, so that many who fail together do not try
    /// together.
    pub(super) fn next(&mut self) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(LAST);
        let share = RandomState::new().hash_one(0) % 1024;
        half + half * u32::try_from(share).unwrap_or(0) / 1024
    }

    /// A try has succeeded.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_are_shaken() {
        let mut backoff = Backoff::default();
        let mut due = FIRST;
        for _ in 0..20 {
            let pause = backoff.next();
            assert!(pause >= due / 2 && pause <= due, "{pause:?}");
            due = (due * 2).min(LAST);
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
