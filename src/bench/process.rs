//! What the kernel says of the server's process, if it runs on this machine.
//!
//! It reads `/proc` and the sizes of files, and nothing else; whoever is not found is not measured.

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The kernel counts processor time in hundredths of a second for everyone who reads `/proc`.
const TICKS_PER_SECOND: f64 = 100.0;
/// The unit in which the kernel says what a file takes.
const BLOCK_BYTES: u64 = 512;
/// State of a socket that listens, in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// The server's process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    id: u32,
}

/// What it has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Processor time of all its threads, in seconds.
    pub cpu_seconds: f64,
    /// Memory in use now, in bytes.
    pub rss_bytes: u64,
    /// The most that was in use at any time, in bytes.
    pub rss_bytes_max: u64,
}

impl Process {
    /// The one with this number, or else whoever listens on the port of the endpoint.
    pub(super) fn find(id: Option<u32>, endpoint: &str) -> Option<Self> {
        let port = endpoint.rsplit_once(':')?.1.parse().ok()?;
        id.or_else(|| listener(port)).map(|id| Self { id })
    }

    /// This process.
    pub(super) fn own() -> Self {
        Self {
            id: std::process::id(),
        }
    }

    /// What it has used so far; zeros once it is gone.
    pub(super) fn usage(self) -> Usage {
        let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", self.id));
        let stat = read("stat").unwrap_or_default();
        // The name in parentheses may hold anything, so the fields are counted from behind it.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        let status = read("status").unwrap_or_default();
        let bytes = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            kib.unwrap_or(0) << 10
        };
        Usage {
            cpu_seconds: ticks as f64 / TICKS_PER_SECOND,
            rss_bytes: bytes("VmRSS:"),
            rss_bytes_max: bytes("VmHWM:"),
        }
    }
}

/// A process before and after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    process: Option<Process>,
    before: Usage,
    own_before: Usage,
}

impl Watch {
    /// Begins.
    pub(super) fn start(process: Option<Process>) -> Self {
        Self {
            process,
            before: process.map(Process::usage).unwrap_or_default(),
            own_before: Process::own().usage(),
        }
    }

    /// What was used since: the server's per operation, in all, and ours.
    pub(super) fn report(&self, operations: u64) -> Value {
        let own = Process::own().usage();
        let own_cpu_seconds = own.cpu_seconds - self.own_before.cpu_seconds;
        let mut report = json!({ "generator_cpu_seconds": own_cpu_seconds });
        let (Some(process), Some(report_fields)) = (self.process, report.as_object_mut()) else {
            return report;
        };
        let after = process.usage();
        let cpu_seconds = after.cpu_seconds - self.before.cpu_seconds;
        let fields = json!({
            "server_pid": process.id,
            "server_cpu_seconds": cpu_seconds,
            "server_cpu_us_per_operation": 1e6 * cpu_seconds / operations.max(1) as f64,
            "server_rss_bytes_before": self.before.rss_bytes,
            "server_rss_bytes_after": after.rss_bytes,
            "server_rss_bytes_max": after.rss_bytes_max,
        });
        if let Value::Object(fields) = fields {
            report_fields.extend(fields);
        }
        report
    }
}

/// What the files of a directory take on the disk, in bytes; what goes meanwhile takes nothing.
pub(super) fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * BLOCK_BYTES,
        Err(_) => 0,
    });
    bytes.sum()
}

/// The process that listens on a port: its socket's number stands in the table of sockets and in its list of files.
fn listener(port: u16) -> Option<u32> {
    let wanted = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let socket = tables.iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            let found = local.ends_with(&wanted) && *state == LISTENING;
            found.then(|| format!("socket:[{inode}]"))
        })
    })?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.into_iter().find_map(|process| {
        let id = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let holds = files.any(|file| {
            fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket.as_str())
        });
        holds.then_some(id)
    })
}
