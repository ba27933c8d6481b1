//! Time as a number that fits into a value: nanoseconds since this process first asked.
//!
//! It means nothing to any other process, so only events of our own puts are timed by it.

use std::sync::OnceLock;
use std::time::Instant;

/// Bytes of a time at the beginning of a value.
pub(super) const TIME_BYTES: usize = 8;

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// Nanoseconds since the origin.
pub(super) fn now_ns() -> u64 {
    ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// A value of this length that begins with a time. Nothing shorter than a time is made.
pub(super) fn stamped(bytes: usize, time_ns: u64) -> Vec<u8> {
    let mut value = vec![b'v'; bytes.max(TIME_BYTES)];
    value
        .iter_mut()
        .zip(time_ns.to_be_bytes())
        .for_each(|(slot, byte)| *slot = byte);
    value
}

/// The time at the beginning of a value.
pub(super) fn stamp(value: &[u8]) -> Option<u64> {
    let bytes = value.get(..TIME_BYTES)?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes))
}
