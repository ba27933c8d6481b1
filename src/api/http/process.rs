//! What the kernel says of this process.
//!
//! It reads `/proc` and nothing else; where there is none, it says nothing.

use std::fs;

/// The kernel counts processor time in hundredths of a second for everyone who reads `/proc`.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the process uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// Processor time of all its threads, in seconds.
    pub(super) cpu_seconds: f64,
    /// Memory in use, in bytes.
    pub(super) resident_bytes: u64,
    /// Files and sockets that are open.
    pub(super) open_files: u64,
}

/// What this process uses now; `None` where the kernel does not say.
pub(super) fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything, so the fields are counted from behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kib: u64 = resident.split_whitespace().next()?.parse().ok()?;
    let open_files = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(Usage {
        cpu_seconds: f64::from(ticks) / TICKS_PER_SECOND,
        resident_bytes: resident_kib << 10,
        open_files: u64::try_from(open_files).ok()?,
    })
}
