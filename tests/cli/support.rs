//! Starts the `vigil` binary as a server or as a verb, and waits for what it prints.
//!
//! It ends only processes that it started, and judges nothing.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

const TRIES: u32 = 400;
const BETWEEN: Duration = Duration::from_millis(50);

/// Asks until there is an answer; shows the last state when there is none in time.
#[allow(
    clippy::disallowed_methods,
    reason = "there is no arbiter to block here"
)]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let mut last = String::new();
    for _ in 0..TRIES {
        match ask() {
            Ok(answer) => return answer,
            Err(state) => last = state,
        }
        sleep(BETWEEN);
    }
    panic!("{what}: {last}");
}

/// `vigil` with nothing set in the environment.
fn vigil() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vigil"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VIGIL_") {
            command.env_remove(name);
        }
    }
    command
}

/// A process with its output in files.
pub(crate) struct Running {
    child: Child,
    dir: TempDir,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let dir = TempDir::new().expect("temporary directory");
        let file = |name: &str| File::create(dir.path().join(name)).expect("file");
        command
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"));
        let child = command.spawn().expect("vigil starts");
        Self { child, dir }
    }

    /// What it has printed.
    pub(crate) fn out(&self) -> String {
        fs::read_to_string(self.dir.path().join("out")).expect("UTF-8")
    }

    /// What it has said on standard error.
    pub(crate) fn err(&self) -> String {
        fs::read_to_string(self.dir.path().join("err")).expect("UTF-8")
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        // One that has ended by itself needs no more than to be waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop, and gives its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status();
        assert!(told.expect("kill runs").success());
        self.child.wait().expect("a child can be waited for").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server, and the address that it prints.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) address: String,
}

/// Serves `dir` on `address`, and returns when clients are answered.
pub(crate) fn serve(dir: &Path, address: &str) -> Server {
    let mut command = vigil();
    command.arg("serve").arg("--data-dir").arg(dir);
    let running = Running::start({
        command.args(["--listen-client", address, "--log-level", "warn"]);
        command
    });
    let address = eventually("vigil listens", || {
        let line = running.out();
        let address = line.strip_prefix("vigil: listening on ").map(str::trim_end);
        address.map(str::to_owned).ok_or_else(|| running.err())
    });
    Server { running, address }
}

/// `vigil` with these words, run to its end.
pub(crate) fn run(words: &[&str]) -> Output {
    let mut command = vigil();
    command.args(words).stdin(Stdio::null());
    command.output().expect("vigil runs")
}

impl Server {
    /// What a verb prints; it must succeed.
    pub(crate) fn verb(&self, words: &[&str]) -> String {
        let output = self.try_verb(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The one line in which a verb says why it fails.
    pub(crate) fn failing_verb(&self, words: &[&str]) -> String {
        let output = self.try_verb(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    /// A verb that goes on until it is ended.
    pub(crate) fn start_verb(&self, words: &[&str]) -> Running {
        let mut command = vigil();
        command.args(words).args(["--endpoint", &self.address]);
        Running::start(command)
    }

    fn try_verb(&self, words: &[&str]) -> Output {
        run(&[words, &["--endpoint", &self.address]].concat())
    }
}
