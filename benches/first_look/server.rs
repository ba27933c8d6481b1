//! The server under measurement: a process of its own, and what the kernel says of it.
//!
//! It is started on an empty directory of a real disk and ended with it. Nothing here speaks the server's protocol.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The kernel counts processor time in these for everyone who reads `/proc`.
const TICK: Duration = Duration::from_millis(10);

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    dir: TempDir,
}

impl Server {
    /// Starts a server on a fresh directory beside the build, which is not in memory. `VIGIL_BENCH_DIR` names another
    /// place.
    pub(crate) fn start() -> Self {
        let place =
            env::var_os("VIGIL_BENCH_DIR").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
        let dir = TempDir::new_in(place).expect("a data directory");
        let (child, address) = spawn(&dir);
        Self {
            child,
            address,
            dir,
        }
    }

    /// Stops the server in good order and starts it again on the same data.
    pub(crate) async fn restart(&mut self) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.expect("kill").success());
        // Meanwhile our own ends of its connections have to close.
        while self.child.try_wait().expect("a child").is_none() {
            tokio::time::sleep(TICK).await;
        }
        (self.child, self.address) = spawn(&self.dir);
    }

    /// Processor time that the server has taken so far, all its threads together.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of(&self.child.id().to_string())
    }

    /// Memory that the server has in use now, in bytes.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the server runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.expect("VmRSS") << 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The directory goes with it, so it need not be left in good order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time that this process, the client, has taken so far.
pub(crate) fn own_cpu() -> Duration {
    cpu_of("self")
}

/// The load of the last minute, to say how quiet it was.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").expect("the load");
    load.split_whitespace().next().unwrap_or("?").to_owned()
}

fn spawn(dir: &TempDir) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vigil"))
        .args([
            "serve",
            "--listen-client",
            "127.0.0.1:0",
            "--log-level",
            "warn",
        ])
        .arg("--data-dir")
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("its output");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("a line of it");
    let address = line.trim().strip_prefix("vigil: listening on ");
    let address = address.expect("the address").to_owned();
    (child, address)
}

fn cpu_of(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    // The name, in parentheses, may hold anything; the numbers come after it.
    let (_, numbers) = stat.rsplit_once(')').expect("a name");
    let times = numbers.split_whitespace().skip(11).take(2);
    let ticks: u32 = times
        .map(|ticks| ticks.parse::<u32>().expect("ticks"))
        .sum();
    TICK * ticks
}
