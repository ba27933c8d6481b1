//! What the kernel says of the server's process, if it runs on this machine.
//!
//! It reads `/proc` and the sizes of files, and nothing else; whoever is not found is not measured.

use super::args::Common;
use serde_json::{Map, Value, json};
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

/// The process that is asked, and those behind it.
#[derive(Debug)]
pub(super) struct Servers {
    asked: Option<Process>,
    behind: Vec<Process>,
}

impl Servers {
    /// Those that the flags name.
    pub(super) fn find(common: &Common) -> Self {
        let behind = common.behind_pid.iter();
        Self {
            asked: Process::find(common.server_pid, &common.endpoint),
            behind: behind.map(|&id| Process { id }).collect(),
        }
    }

    /// What they use now: the one that is asked, and those behind it together.
    pub(super) fn usage(&self) -> (Usage, Usage) {
        let behind = self.behind.iter().map(|process| process.usage());
        let behind = behind.fold(Usage::default(), |sum, one| Usage {
            cpu_seconds: sum.cpu_seconds + one.cpu_seconds,
            rss_bytes: sum.rss_bytes + one.rss_bytes,
            rss_bytes_max: sum.rss_bytes_max + one.rss_bytes_max,
        });
        let asked = self.asked.map(Process::usage).unwrap_or_default();
        (asked, behind)
    }
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

/// The servers before and after.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    servers: &'a Servers,
    before: (Usage, Usage),
    own_before: Usage,
}

impl<'a> Watch<'a> {
    /// Begins.
    pub(super) fn start(servers: &'a Servers) -> Self {
        Self {
            servers,
            before: servers.usage(),
            own_before: Process::own().usage(),
        }
    }

    /// What was used since: the server's per operation, in all, that of those behind it, and ours.
    pub(super) fn report(&self, operations: u64) -> Value {
        let own = Process::own().usage();
        let (asked, behind) = self.servers.usage();
        let mut report = Map::new();
        let mut add = |name: &str, before: Usage, after: Usage| {
            let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
            let each = 1e6 * cpu_seconds / operations.max(1) as f64;
            for (field, value) in [
                ("cpu_seconds", json!(cpu_seconds)),
                ("cpu_us_per_operation", json!(each)),
                ("rss_bytes_before", json!(before.rss_bytes)),
                ("rss_bytes_after", json!(after.rss_bytes)),
                ("rss_bytes_max", json!(after.rss_bytes_max)),
            ] {
                report.insert(format!("{name}_{field}"), value);
            }
        };
        if self.servers.asked.is_some() {
            add("server", self.before.0, asked);
        }
        if !self.servers.behind.is_empty() {
            add("behind", self.before.1, behind);
        }
        if let Some(process) = self.servers.asked {
            report.insert("server_pid".to_owned(), json!(process.id));
        }
        let own = json!(own.cpu_seconds - self.own_before.cpu_seconds);
        report.insert("generator_cpu_seconds".to_owned(), own);
        Value::Object(report)
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
