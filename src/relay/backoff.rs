//! Pauses between tries that fail: longer each time, and never the same for two that fail together.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(3);

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
    /// The next pause: half of it for certain, and some of the other half.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LAST);
        pause.mul_f64(0.5 + 0.5 * ahash::RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64)
    }

    /// A try has succeeded.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}
