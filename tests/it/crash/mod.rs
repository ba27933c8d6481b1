//! What survives: processes that are killed, machines that lose power, files that are damaged, disks that are full.
//!
//! A kill keeps what was written, a power cut only what was synced. A promise is checked against what a child had been told,
//! never against what the store says of itself.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::host_endian_bytes,
    clippy::little_endian_bytes,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "small numbers, traces that never leave the machine, and the names of our own files"
)]

mod auto_compaction;
mod check;
mod cuts;
mod damage;
mod disk;
mod failing_disk;
mod kills;
mod leases;
mod load;
mod load_leases;
mod log_tail;
mod restores;
mod server_kills;
mod shim;
mod trace;

use crate::support::process::Process;
use crate::support::{Client, eventually};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Names the directory in which a test that starts itself again is the child.
const CHILD: &str = "VIGIL_CRASH_CHILD";

/// The number in a variable of the environment, or the one that a run of all tests has time for.
fn count(variable: &str, otherwise: usize) -> usize {
    match env::var(variable) {
        Ok(number) => number.parse().expect("a number"),
        Err(_) => otherwise,
    }
}

/// Where the child of this test is to work, in the child.
fn child_home() -> Option<PathBuf> {
    env::var_os(CHILD).map(PathBuf::from)
}

/// This test again, as a child that works in `home`. `test` is its path within this binary.
fn child(test: &str, home: &Path) -> Command {
    let mut command = Command::new(env::current_exe().expect("the path of this program"));
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, home);
    command
}

/// A server that is started by this command, and a client of it.
async fn serve(command: Command, home: &Path) -> (Process, Client) {
    let mut process = Process::spawn(command, home);
    let client = eventually("the server listens", async || {
        assert!(process.exit().is_none(), "it ended: {}", process.output());
        let said = process.stdout();
        let address = said
            .strip_prefix("vigil: listening on ")
            .filter(|line| line.ends_with('\n'))
            .ok_or_else(|| process.output())?;
        let connected = Client::connect(address.trim()).await;
        connected.map_err(|error| error.to_string())
    })
    .await;
    (process, client)
}

/// A directory in memory where there is enough of it, because most of what is put there is opened once and thrown away.
fn scratch() -> TempDir {
    const MEMORY: &str = "/dev/shm";
    const BYTES_MIN: u64 = 2 << 30;
    let has_room = rustix::fs::statvfs(MEMORY)
        .is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) >= BYTES_MIN);
    let made = if has_room {
        TempDir::new_in(MEMORY)
    } else {
        TempDir::new()
    };
    made.expect("a temporary directory")
}

/// Numbers that depend on a seed alone.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True in so many of a hundred cases.
    fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }
}
