//! A server process: started with its output in files, watched, signalled, and never left behind.
//!
//! It ends only processes that it started, by their id.

use super::wait::eventually;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A child process whose output goes to files.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    /// Starts `command` with its standard output and error in files of `home`.
    pub(crate) fn spawn(command: Command, home: &Path) -> Self {
        Self::spawn_with(command, home, Stdio::null())
    }

    /// Starts `command` so, with a standard input.
    pub(crate) fn spawn_with(mut command: Command, home: &Path, stdin: Stdio) -> Self {
        let (out, err) = (home.join("stdout"), home.join("stderr"));
        let file = |path: &Path| File::create(path).expect("a file in the temporary directory");
        command.stdin(stdin).stdout(file(&out)).stderr(file(&err));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Self { child, out, err }
    }

    /// How the process ended, when it has.
    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be waited for")
    }

    /// Types into the process, which keeps its standard input open.
    pub(crate) fn type_in(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(text.as_bytes()).expect("the process reads");
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        eventually("the process ends", async || {
            self.exit().ok_or_else(|| self.output())
        })
        .await
    }

    /// Ends the process at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself; then there is nothing to end, and waiting only collects it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks the process to end.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Asks the process to end, as from a terminal.
    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    /// Stops the process where it is; it keeps its connections and says nothing.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let told = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status();
        assert!(told.is_ok_and(|status| status.success()), "{name} is sent");
    }

    /// The system's number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the process wrote to its standard output.
    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// What the process wrote to its standard error.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// Both outputs, for a failing test to show.
    pub(crate) fn output(&self) -> String {
        format!("stdout: {}\nstderr: {}", self.stdout(), self.stderr())
    }

    /// Memory that the process holds now, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most memory that the process ever held, in bytes.
    pub(crate) fn resident_bytes_peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).expect("a process that lives");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|rest| rest.trim().strip_suffix("kB"));
        let kib: u64 = kib
            .and_then(|number| number.trim().parse().ok())
            .unwrap_or_else(|| panic!("{field} in {path}"));
        kib * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
