//! The servers that are compared: each a process of its own, on a directory of a real disk.
//!
//! Both are started the way that their manuals say for one durable node. Nothing here speaks their protocol.

use crate::load;
use std::env;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server has to answer after its start; a long history is read first.
const START_MAX: Duration = Duration::from_mins(5);
const RETRY: Duration = Duration::from_millis(50);

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Etcd,
    Vigil,
}

/// The order of the turns: A B A B.
pub(crate) const BOTH: [Kind; 2] = [Kind::Etcd, Kind::Vigil];

impl Kind {
    /// The one or the other of a pair.
    pub(crate) fn of<T>(self, pair: &mut [T; 2]) -> &mut T {
        let [etcd, vigil] = pair;
        match self {
            Self::Etcd => etcd,
            Self::Vigil => vigil,
        }
    }

    /// What it calls itself.
    pub(crate) fn version(self) -> String {
        let said = Command::new(self.program()).arg("--version").output();
        let said = said.unwrap_or_else(|error| panic!("{}: {error}", self.program().display()));
        let text = String::from_utf8_lossy(&said.stdout);
        let line = text.lines().next().unwrap_or_default();
        line.replace("etcd Version: ", "etcd ")
    }

    /// What is run.
    pub(crate) fn program(self) -> PathBuf {
        match self {
            Self::Vigil => env!("CARGO_BIN_EXE_vigil").into(),
            Self::Etcd => env::var_os("VIGIL_TEST_ETCD").map_or_else(
                || Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/etcd/bin/etcd"),
                PathBuf::from,
            ),
        }
    }

    /// The command that serves a directory.
    pub(crate) fn command(self, dir: &Path, address: &str) -> Vec<String> {
        let text = |text: &str| text.to_owned();
        let mut words = vec![
            self.program().display().to_string(),
            // Both know this flag.
            text("--data-dir"),
            dir.display().to_string(),
        ];
        match self {
            Self::Vigil => {
                words.insert(1, text("serve"));
                words.extend([text("--listen-client"), text(address)]);
                words.extend([text("--log-level"), text("warn")]);
            }
            Self::Etcd => {
                let peers = format!("http://{}", free_address());
                let clients = format!("http://{address}");
                words.extend([text("--listen-client-urls"), clients.clone()]);
                words.extend([text("--advertise-client-urls"), clients]);
                words.extend([text("--listen-peer-urls"), peers.clone()]);
                words.extend([text("--initial-advertise-peer-urls"), peers.clone()]);
                words.extend([text("--initial-cluster"), format!("default={peers}")]);
                words.extend([text("--log-level"), text("error")]);
                // Its default of 2 GiB would refuse the longer histories.
                words.extend([text("--quota-backend-bytes"), (8_u64 << 30).to_string()]);
            }
        }
        words
    }
}

/// A directory beside the build, which is not in memory; `VIGIL_BENCH_DIR` names another place.
pub(crate) fn fresh_dir() -> TempDir {
    let place =
        env::var_os("VIGIL_BENCH_DIR").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    TempDir::new_in(place).expect("a data directory")
}

/// An address that nobody listens on.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    /// Starts it on a directory, with these flags beside its usual ones, and waits until it answers.
    pub(crate) fn start(kind: Kind, dir: &Path, flags: &[String]) -> Self {
        let address = free_address();
        let mut words = kind.command(dir, &address);
        words.extend_from_slice(flags);
        Self::run(&words, address, load::answers)
    }

    /// Starts a bare stream, which sends messages of so many events to so many watchers.
    pub(crate) fn raw(watchers: u64, events: u64) -> Self {
        let address = free_address();
        let program = env::current_exe().expect("this program");
        let words = [
            program.display().to_string(),
            "raw-stream".to_owned(),
            format!("--listen={address}"),
            format!("--watchers={watchers}"),
            format!("--events={events}"),
        ];
        Self::run(&words, address, |address| {
            TcpStream::connect(address).is_ok()
        })
    }

    fn run(words: &[String], address: String, answers: impl Fn(&str) -> bool) -> Self {
        let server = Self::spawn(words, address);
        server.wait(answers);
        server
    }

    /// Starts a command that will serve this address.
    pub(crate) fn spawn(words: &[String], address: String) -> Self {
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", words[0]));
        Self { child, address }
    }

    /// Waits until it answers.
    pub(crate) fn wait(&self, answers: impl Fn(&str) -> bool) {
        let end = Instant::now() + START_MAX;
        while !answers(&self.address) {
            assert!(Instant::now() < end, "nobody answers at {}", self.address);
            std::thread::sleep(RETRY);
        }
    }

    /// Its process, for its processor time.
    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Ends it in good order, so that its directory can be used again.
    pub(crate) fn stop(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.pid()]).status();
        assert!(told.expect("kill").success());
        self.child.wait().expect("a child");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever has been stopped is not there any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
