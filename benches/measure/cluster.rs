//! Three etcds that are one cluster, and whoever is asked before it: nobody, etcd's own proxy, or a relay.
//!
//! Each process has its ports on this machine, and fresh directories; all of them end with whoever holds them.

use crate::load;
use crate::servers::{Kind, Server, free_address, fresh_dir};
use std::io::{Read, Write};
use std::net::TcpStream;
use tempfile::TempDir;

const MEMBERS: usize = 3;
/// How many watches a member holds, by its own count.
const WATCHES: &str = "etcd_debugging_mvcc_watcher_total";
const IS_LEADER: &str = "etcd_server_is_leader";

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The leader of the cluster itself.
    Etcd,
    /// `etcd grpc-proxy` before all members.
    Proxy,
    /// `vigil relay` before all members.
    Relay,
}

/// The order of the turns.
pub(crate) const ALL: [Asked; 3] = [Asked::Etcd, Asked::Proxy, Asked::Relay];

/// A cluster that runs.
pub(crate) struct Cluster {
    members: Vec<Server>,
    _dirs: Vec<TempDir>,
}

impl Cluster {
    /// Starts one, and waits until all of it answers.
    pub(crate) fn start() -> Self {
        let addresses: Vec<_> = (0..MEMBERS)
            .map(|_| (free_address(), free_address()))
            .collect();
        let all = addresses.iter().enumerate();
        let all = all.map(|(number, (_, peers))| format!("m{number}=http://{peers}"));
        let all = all.collect::<Vec<_>>().join(",");
        let dirs: Vec<_> = (0..MEMBERS).map(|_| fresh_dir()).collect();
        let each = addresses.into_iter().zip(&dirs).enumerate();
        let members = each.map(|(number, ((clients, peers), dir))| {
            let words = [
                Kind::Etcd.program().display().to_string(),
                format!("--name=m{number}"),
                format!("--data-dir={}", dir.path().display()),
                format!("--listen-client-urls=http://{clients}"),
                format!("--advertise-client-urls=http://{clients}"),
                format!("--listen-peer-urls=http://{peers}"),
                format!("--initial-advertise-peer-urls=http://{peers}"),
                format!("--initial-cluster={all}"),
                "--log-level=error".to_owned(),
            ];
            Server::spawn(&words, clients)
        });
        // A member answers when there are two, so all are started first.
        let members: Vec<_> = members.collect();
        for member in &members {
            member.wait(load::answers);
        }
        Self {
            members,
            _dirs: dirs,
        }
    }

    /// The numbers of its processes, with commas between them.
    pub(crate) fn pids(&self) -> String {
        let pids = self.members.iter().map(Server::pid);
        pids.collect::<Vec<_>>().join(",")
    }

    /// How many watches its members hold together.
    pub(crate) fn watches_held(&self) -> u64 {
        let held = self.members.iter();
        held.filter_map(|member| metric(&member.address, WATCHES))
            .sum()
    }

    fn leader(&self) -> &Server {
        let mut members = self.members.iter();
        let leader = members.find(|member| metric(&member.address, IS_LEADER) == Some(1));
        leader.expect("a cluster that answers has a leader")
    }

    fn endpoints(&self) -> String {
        let endpoints = self.members.iter().map(|member| &*member.address);
        endpoints.collect::<Vec<_>>().join(",")
    }
}

/// Whoever is asked, while it is there.
pub(crate) struct Front<'a> {
    cluster: &'a Cluster,
    started: Option<(Server, TempDir)>,
}

impl<'a> Front<'a> {
    /// Starts it before a cluster, if it is not of the cluster, and waits until it answers.
    pub(crate) fn start(asked: Asked, cluster: &'a Cluster) -> Self {
        let (address, dir) = (free_address(), fresh_dir());
        let words = match asked {
            Asked::Etcd => {
                let started = None;
                return Self { cluster, started };
            }
            Asked::Proxy => vec![
                Kind::Etcd.program().display().to_string(),
                "grpc-proxy".to_owned(),
                "start".to_owned(),
                format!("--endpoints={}", cluster.endpoints()),
                format!("--listen-addr={address}"),
                format!("--advertise-client-url={address}"),
                format!("--data-dir={}", dir.path().display()),
            ],
            Asked::Relay => vec![
                Kind::Vigil.program().display().to_string(),
                "relay".to_owned(),
                format!("--upstream={}", cluster.endpoints()),
                format!("--listen-client={address}"),
                "--log-level=warn".to_owned(),
            ],
        };
        let server = Server::spawn(&words, address);
        server.wait(load::answers);
        Self {
            cluster,
            started: Some((server, dir)),
        }
    }

    /// The server to ask.
    pub(crate) fn server(&self) -> &Server {
        match &self.started {
            Some((server, _)) => server,
            None => self.cluster.leader(),
        }
    }

    /// Whether the one that is asked is no member.
    pub(crate) fn is_before_the_cluster(&self) -> bool {
        self.started.is_some()
    }
}

/// A number that a server tells of itself.
fn metric(address: &str, name: &str) -> Option<u64> {
    let mut socket = TcpStream::connect(address).ok()?;
    // With this version the answer is whole and ends with the connection.
    let ask = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    socket.write_all(ask.as_bytes()).ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().parse().ok()
}
