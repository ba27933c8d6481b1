//! The server under test: Vigil, or the real etcd that Vigil is held against.
//!
//! Every peer has a data directory of its own and a port that nobody else has. A probe asks `kind()` only where the two
//! are meant to differ, and `docs/differences.md` has a row for each such place.

use super::client::Client;
use super::process::Process;
use super::relay;
use super::requests::get;
use super::stream::WatchStream;
use super::wait::eventually;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{env, fs};
use tempfile::TempDir;

/// How often etcd is started anew when someone else was faster at its port.
const STARTS_MAX: usize = 5;
/// Interval of periodic progress, in milliseconds: short, since only watches that ask for it are told.
const PROGRESS_INTERVAL_MS: u64 = 200;

/// Which server a test runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerKind {
    /// Ours.
    Vigil,
    /// The original.
    Etcd,
}

/// With what a peer is started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    kind: PeerKind,
    flags: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
}

impl Setup {
    /// The defaults of the tests.
    pub(crate) fn new(kind: PeerKind) -> Self {
        let setup = Self {
            kind,
            flags: BTreeMap::new(),
            env: BTreeMap::new(),
        };
        match kind {
            PeerKind::Vigil => setup
                .flag("--listen-client", "127.0.0.1:0")
                .flag("--workers", "1")
                .flag("--log-level", "warn")
                .flag(
                    "--progress-notify-interval-ms",
                    &PROGRESS_INTERVAL_MS.to_string(),
                ),
            // Not synced to the disk: what is asked of etcd here is how it answers, not what it survives.
            PeerKind::Etcd => setup
                .flag("--unsafe-no-fsync", "true")
                .flag("--log-level", "error")
                .flag(
                    "--experimental-watch-progress-notify-interval",
                    &format!("{PROGRESS_INTERVAL_MS}ms"),
                ),
        }
    }

    /// Sets a flag, also over one of the defaults.
    pub(crate) fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Starts the peer and waits until it answers.
    pub(crate) async fn start(self) -> Peer {
        let home = TempDir::new().expect("a temporary directory");
        let (process, client, endpoint) = self.serve(home.path()).await;
        Peer {
            setup: self,
            process,
            client,
            endpoint,
            home,
            behind: None,
        }
    }

    /// The command that serves `data_dir`, as `vigil serve` or as etcd without addresses.
    pub(crate) fn command(&self, data_dir: &Path) -> Command {
        let mut command = match self.kind {
            PeerKind::Vigil => {
                let mut command = Command::new(vigil_binary());
                command.arg("serve");
                command
            }
            PeerKind::Etcd => Command::new(etcd_binary("etcd")),
        };
        command.arg("--data-dir").arg(data_dir);
        for (name, value) in &self.flags {
            command.arg(format!("{name}={value}"));
        }
        command.envs(&self.env);
        command
    }

    async fn serve(&self, home: &Path) -> (Process, Client, String) {
        match self.kind {
            PeerKind::Vigil => self.serve_vigil(home).await,
            PeerKind::Etcd => self.serve_etcd(home).await,
        }
    }

    async fn serve_vigil(&self, home: &Path) -> (Process, Client, String) {
        let mut process = Process::spawn(self.command(&home.join("data")), home);
        let endpoint = eventually("vigil says that it listens", async || {
            assert!(process.exit().is_none(), "it ended: {}", process.output());
            listening_on(&process.stdout()).ok_or_else(|| process.output())
        })
        .await;
        let client = answering(&endpoint, &mut process)
            .await
            .expect("vigil lives");
        (process, client, endpoint)
    }

    async fn serve_etcd(&self, home: &Path) -> (Process, Client, String) {
        for _ in 0..STARTS_MAX {
            let (client_port, peer_port) = free_ports();
            let client_url = format!("http://127.0.0.1:{client_port}");
            let peer_url = format!("http://127.0.0.1:{peer_port}");
            // A restart on old data keeps the peer address of its first start, which is a name only: nobody calls it.
            let mut command = self.command(&home.join("data"));
            command
                .args(["--listen-client-urls", &client_url])
                .args(["--advertise-client-urls", &client_url])
                .args(["--listen-peer-urls", &peer_url])
                .args(["--initial-advertise-peer-urls", &peer_url])
                .args(["--initial-cluster", &format!("default={peer_url}")]);
            let mut process = Process::spawn(command, home);
            let endpoint = format!("127.0.0.1:{client_port}");
            if let Some(client) = answering(&endpoint, &mut process).await {
                return (process, client, endpoint);
            }
        }
        let said = fs::read_to_string(home.join("stderr")).unwrap_or_default();
        panic!("etcd ends each time it is started: {said}");
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Peer {
    setup: Setup,
    /// Ends before its directory goes.
    process: Process,
    client: Client,
    endpoint: String,
    home: TempDir,
    /// Whom a relay stands before.
    behind: Option<Box<Self>>,
}

impl Peer {
    /// Starts a peer with the defaults of the tests.
    pub(crate) async fn start(kind: PeerKind) -> Self {
        Setup::new(kind).start().await
    }

    /// Starts a relay before an etcd. What it answers is etcd's.
    pub(crate) async fn relayed() -> Self {
        let etcd = Self::start(PeerKind::Etcd).await;
        let home = TempDir::new().expect("a temporary directory");
        let (mut process, endpoint) = relay::start(&[etcd.endpoint()], &[], home.path()).await;
        let client = answering(&endpoint, &mut process).await;
        Self {
            setup: etcd.setup.clone(),
            process,
            client: client.expect("the relay lives"),
            endpoint,
            home,
            behind: Some(Box::new(etcd)),
        }
    }

    /// Whom the relay stands before.
    pub(crate) fn behind(&self) -> &Self {
        self.behind.as_ref().expect("a relay")
    }

    /// Which server this is.
    pub(crate) fn kind(&self) -> PeerKind {
        self.setup.kind
    }

    /// The address for clients, as HOST:PORT.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The directory with the peer's data.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A client over the peer's first connection.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client over a connection of its own.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(&self.endpoint)
            .await
            .expect("the peer takes another connection")
    }

    /// A watch stream over the peer's first connection.
    pub(crate) fn watch(&self) -> WatchStream {
        self.client.watch()
    }

    /// Kills the process if it still runs and starts it again on the same data.
    pub(crate) async fn restart(&mut self) {
        self.process.kill();
        let (process, client, endpoint) = self.setup.serve(self.home.path()).await;
        self.process = process;
        self.client = client;
        self.endpoint = endpoint;
    }

    /// Asks the process to end and waits until it has.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.process.terminate();
        self.process.wait_exit().await
    }
}

/// The `vigil` binary of this build.
pub(crate) fn vigil_binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_vigil"))
}

/// The binary `name` of etcd's: `etcd` itself, or a tool that lies beside it.
pub(crate) fn etcd_binary(name: &str) -> PathBuf {
    let etcd = env::var_os("VIGIL_TEST_ETCD")
        .map(PathBuf::from)
        .or_else(|| {
            let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/etcd/bin/etcd");
            tools.exists().then_some(tools)
        })
        .or_else(|| in_path(OsStr::new("etcd")))
        .unwrap_or_else(|| panic!("there is no etcd to compare with: run scripts/setup"));
    let found = etcd.with_file_name(name);
    assert!(
        found.exists(),
        "{} is not there: run scripts/setup",
        found.display()
    );
    found
}

fn in_path(name: &OsStr) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// The address in vigil's line on standard output.
pub(crate) fn listening_on(stdout: &str) -> Option<String> {
    stdout
        .lines()
        .find_map(|line| line.strip_prefix("vigil: listening on "))
        .map(|address| address.trim().to_owned())
}

/// Waits until the server answers a read; `None` when its process ended instead.
async fn answering(endpoint: &str, process: &mut Process) -> Option<Client> {
    eventually("the server answers", async || {
        if process.exit().is_some() {
            return Ok(None);
        }
        let client = Client::connect(endpoint)
            .await
            .map_err(|error| format!("{error}; {}", process.output()))?;
        match client.range(get("answering")).await {
            Ok(_) => Ok(Some(client)),
            Err(status) => Err(format!("{status}; {}", process.output())),
        }
    })
    .await
}

/// Two ports that nobody listens on. They can be taken before they are used, hence the retries of the caller.
pub(crate) fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = |listener: &TcpListener| listener.local_addr().expect("a bound port").port();
    let (one, other) = (bind(), bind());
    (port(&one), port(&other))
}
