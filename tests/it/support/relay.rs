//! A `vigil relay` process before whatever the test has as a cluster, and clusters of several real etcds.
//!
//! Every process has addresses of its own on this machine, and ends with whoever holds it.

use super::client::Client;
use super::pb::cluster_client::ClusterClient;
use super::pb::{MemberAddRequest, RangeRequest};
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
    /// Who they are to each other.
    names: String,
    home: TempDir,
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
            let (names, mut members) = members(home.path());
            if is_up(&mut members).await {
                return Self {
                    members,
                    names,
                    home,
                };
            }
        }
        panic!("a member ends each time the cluster is started");
    }

    /// Starts one more member, which is told everything and has no vote.
    pub(crate) async fn add_learner(&mut self) {
        let ports = free_ports();
        let number = self.members.len();
        let peer_url = peer_url(ports.1);
        let first = Client::connect(&self.members[0].endpoint).await;
        let mut members = ClusterClient::new(first.expect("a connection").channel());
        eventually("a learner is taken in", async || {
            let add = MemberAddRequest {
                peer_ur_ls: vec![peer_url.clone()],
                is_learner: true,
            };
            members.member_add(add).await
        })
        .await;
        let all = [self.names.as_str(), &named(number, ports.1)].join(",");
        let new = ["--initial-cluster-state=existing".to_owned()];
        let mut learner = member(self.home.path(), number, ports, &all, &new);
        eventually("the learner answers", async || {
            if learner.process.exit().is_some() {
                learner.restart();
            }
            let client = Client::connect(&learner.endpoint).await;
            let client = client.map_err(|error| error.to_string())?;
            let own = RangeRequest {
                serializable: true,
                ..get("up")
            };
            let read = client.range(own).await;
            read.map_err(|status| status.to_string())
        })
        .await;
        self.members.push(learner);
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

fn members(home: &Path) -> (String, Vec<Member>) {
    let ports: Vec<_> = (0..3).map(|_| free_ports()).collect();
    let all = ports.iter().enumerate();
    let all = all.map(|(number, (_, peer))| named(number, *peer));
    let all = all.collect::<Vec<_>>().join(",");
    let each = ports.iter().enumerate();
    let members = each.map(|(number, ports)| member(home, number, *ports, &all, &[]));
    let members = members.collect();
    (all, members)
}

fn peer_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A member as the others know it.
fn named(number: usize, peer: u16) -> String {
    format!("m{number}={}", peer_url(peer))
}

fn member(
    home: &Path,
    number: usize,
    (client, peer): (u16, u16),
    all: &str,
    more: &[String],
) -> Member {
    let home = home.join(format!("m{number}"));
    std::fs::create_dir(&home).expect("a directory");
    let (client_url, peer_url) = (format!("http://127.0.0.1:{client}"), peer_url(peer));
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
    let args = [&args, more].concat();
    Member {
        process: spawn(&args, &home),
        endpoint: format!("127.0.0.1:{client}"),
        args,
        home,
    }
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
