//! Command line tools, run to their end or left running.
//!
//! They are run as a person would run them; what they print is all that is looked at.

use super::peer::{Peer, etcd_binary, vigil_binary};
use super::process::Process;
use super::wait::eventually;
use std::io::Write;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What a tool printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Whether it ended with zero.
    pub(crate) success: bool,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

/// A command line of etcd's own client, towards this peer.
pub(crate) fn etcdctl(peer: &Peer, args: &[&str]) -> Command {
    let mut command = Command::new(etcd_binary("etcdctl"));
    command.args(["--endpoints", peer.endpoint()]).args(args);
    // Hundreds of them are started, and most of what one costs is its start: one thread and no collector save a third.
    command.env("GOMAXPROCS", "1").env("GOGC", "off");
    command
}

/// A command line of Vigil's client verbs, towards this peer.
pub(crate) fn vigil(peer: &Peer, args: &[&str]) -> Command {
    let mut command = Command::new(vigil_binary());
    command.args(args).args(["--endpoint", peer.endpoint()]);
    command
}

/// Runs a tool to its end.
pub(crate) fn run(command: Command) -> Said {
    run_with(command, "")
}

/// Runs a tool to its end with this on its standard input.
pub(crate) fn run_with(mut command: Command, stdin: &str) -> Said {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    // A tool that does not read its input may be gone before it is written.
    let _ = child
        .stdin
        .take()
        .expect("piped")
        .write_all(stdin.as_bytes());
    let output = child.wait_with_output().expect("a child's output");
    let text = |bytes| String::from_utf8(bytes).expect("tools print text here");
    Said {
        success: output.status.success(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Runs a tool that has to succeed, and returns what it printed.
pub(crate) fn printed(command: Command) -> String {
    let line = format!("{command:?}");
    let said = run(command);
    assert!(said.success, "{line}: {said:?}");
    said.out
}

/// A tool that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    process: Process,
    /// Holds what it prints; goes after the process.
    _home: TempDir,
}

impl Running {
    /// Starts a tool.
    pub(crate) fn start(command: Command) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        Self {
            process: Process::spawn(command, home.path()),
            _home: home,
        }
    }

    /// Starts a tool and types into it; its input stays open.
    pub(crate) fn start_typing(command: Command, text: &str) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let mut process = Process::spawn_with(command, home.path(), Stdio::piped());
        process.type_in(text);
        Self {
            process,
            _home: home,
        }
    }

    /// Types into a tool that was started so.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.process.type_in(text);
    }

    /// Asks it to end, as a person at a terminal would.
    pub(crate) fn interrupt(&self) {
        self.process.interrupt();
    }

    /// Waits until it has printed exactly this; more, or something else, is a failure.
    pub(crate) async fn prints(&mut self, expected: &str) {
        eventually("the tool prints what is expected", async || {
            let out = self.process.stdout();
            assert!(
                expected.starts_with(&out),
                "{expected:?} is expected: {out:?}"
            );
            if out == expected {
                return Ok(());
            }
            assert!(
                self.process.exit().is_none(),
                "ended: {}",
                self.process.output()
            );
            Err(self.process.output())
        })
        .await;
    }

    /// Waits until what it has printed ends like this, and returns it all.
    pub(crate) async fn prints_until(&self, ending: &str) -> String {
        eventually("the tool prints the ending", async || {
            let out = self.process.stdout();
            if out.ends_with(ending) {
                Ok(out)
            } else {
                Err(self.process.output())
            }
        })
        .await
    }

    /// Waits until it has printed `lines` lines, and returns them.
    pub(crate) async fn lines(&self, lines: usize) -> Vec<String> {
        eventually("the tool prints enough lines", async || {
            let out = self.process.stdout();
            let complete: Vec<String> = out.lines().map(str::to_owned).collect();
            if complete.len() >= lines && out.ends_with('\n') {
                Ok(complete)
            } else {
                Err(self.process.output())
            }
        })
        .await
    }

    /// What it has written to its standard error.
    pub(crate) fn err(&self) -> String {
        self.process.stderr()
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self) -> Said {
        let status = self.process.wait_exit().await;
        Said {
            success: status.success(),
            out: self.process.stdout(),
            err: self.process.stderr(),
        }
    }
}
