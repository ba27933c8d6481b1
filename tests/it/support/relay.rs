//! A `vigil relay` process before whatever the test has as a cluster, and clusters of several real etcds.
//!
//! Every process has addresses of its own on this machine, and ends with whoever holds it.

use super::client::Client;
use super::peer::{etcd_binary, free_ports, listening_on, vigil_binary};
use super::process::Process;
use super::requests::get;
use super::wait::eventually;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// How often a cluster is started anew when someone else was faster at one of its ports.
const STARTS_MAX: usize = 5;

/// A relay that runs.
#[derive(Debug)]
pub(crate) struct Relay {
    process: Process,
    endpoint: String,
    _home: TempDir,
}

impl Relay {
    /// Starts a relay before these upstreams and waits until it listens; whether they are there is not asked.
    pub(crate) async fn before(upstreams: &[&str]) -> Self {
        Self::with_flags(upstreams, &[]).await
    }

    /// The same with more flags.
    pub(crate) async fn with_flags(upstreams: &[&str], flags: &[&str]) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let (process, endpoint) = start(upstreams, flags, home.path()).await;
        Self {
            process,
            endpoint,
            _home: home,
        }
    }

    /// The address for clients, as HOST:PORT.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A client over a connection of its own.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(&self.endpoint)
            .await
            .expect("a relay takes connections")
    }
}

/// Starts a relay with its output in files of `home`.
pub(crate) async fn start(upstreams: &[&str], flags: &[&str], home: &Path) -> (Process, String) {
    let mut command = Command::new(vigil_binary());
    command.args(["relay", "--upstream", &upstreams.join(",")]);
    command.args(["--listen-client", "127.0.0.1:0"]);
    command.args(["--workers", "2", "--log-level", "info"]);
    command.args(flags);
    let mut process = Process::spawn(command, home);
    let endpoint = eventually("the relay says that it listens", async || {
        assert!(process.exit().is_none(), "it ended: {}", process.output());
        listening_on(&process.stdout()).ok_or_else(|| process.output())
    })
    .await;
    (process, endpoint)
}

/// Three etcds that are one cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    _home: TempDir,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) process: Process,
    pub(crate) endpoint: String,
    args: Vec<String>,
    home: std::path::PathBuf,
}

impl Cluster {
    /// Starts a cluster and waits until each member answers.
    pub(crate) async fn start() -> Self {
        for _ in 0..STARTS_MAX {
            let home = TempDir::new().expect("a temporary directory");
            let mut members = members(home.path());
            if is_up(&mut members).await {
                return Self {
                    members,
                    _home: home,
                };
            }
        }
        panic!("a member ends each time the cluster is started");
    }

    /// The addresses for clients.
    pub(crate) fn endpoints(&self) -> Vec<&str> {
        let members = self.members.iter();
        members.map(|member| member.endpoint.as_str()).collect()
    }
}

impl Member {
    /// Kills the process, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on its data.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.args, &self.home);
    }
}

fn members(home: &Path) -> Vec<Member> {
    let ports: Vec<_> = (0..3).map(|_| free_ports()).collect();
    let all = ports.iter().enumerate();
    let all = all.map(|(number, (_, peer))| format!("m{number}=http://127.0.0.1:{peer}"));
    let all = all.collect::<Vec<_>>().join(",");
    let each = ports.iter().enumerate();
    each.map(|(number, (client, peer))| {
        let home = home.join(format!("m{number}"));
        std::fs::create_dir(&home).expect("a directory");
        let (client_url, peer_url) = (
            format!("http://127.0.0.1:{client}"),
            format!("http://127.0.0.1:{peer}"),
        );
        let args = [
            format!("--name=m{number}"),
            format!("--data-dir={}", home.join("data").display()),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster={all}"),
            "--unsafe-no-fsync=true".to_owned(),
            "--log-level=error".to_owned(),
        ];
        let args = args.to_vec();
        Member {
            process: spawn(&args, &home),
            endpoint: format!("127.0.0.1:{client}"),
            args,
            home,
        }
    })
    .collect()
}

fn spawn(args: &[String], home: &Path) -> Process {
    let mut command = Command::new(etcd_binary("etcd"));
    command.args(args);
    Process::spawn(command, home)
}

/// Waits until each member answers a read; false when one has ended instead.
async fn is_up(members: &mut [Member]) -> bool {
    for member in members {
        let is_up = eventually("a member answers", async || {
            if member.process.exit().is_some() {
                return Ok(false);
            }
            let client = Client::connect(&member.endpoint).await;
            let client = client.map_err(|error| error.to_string())?;
            let read = client.range(get("up")).await;
            read.map(|_| true).map_err(|status| status.to_string())
        })
        .await;
        if !is_up {
            return false;
        }
    }
    true
}
