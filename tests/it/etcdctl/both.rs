//! One etcdctl command line towards etcd and towards Vigil, and what is left of what it printed without what each server
//! has of its own.
//!
//! What is taken out is listed here, value by value or by the text in front of it. The rest is compared letter by letter.

use super::differences::Difference;
use crate::support::pb::{DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader};
use crate::support::tool::etcdctl;
use crate::support::{Peer, PeerKind, Setup};
use prost::Message;
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;
use tempfile::TempDir;

/// What stands in front of a value that each server, or each moment, has of its own, and the commands that print it so.
const OWN: [(&str, &str); 25] = [
    ("", "\"raft_term\":"),
    ("", "\"RaftTerm\" : "),
    ("endpoint health", "took = "),
    ("endpoint health", "\"took\":\""),
    ("endpoint health", "\"Took\" : "),
    ("endpoint status", "\"version\":\""),
    ("endpoint status", "\"Version\" : \""),
    ("endpoint status", "\"dbSize\":"),
    ("endpoint status", "\"dbSizeInUse\":"),
    ("endpoint status", "\"DBSize\" : "),
    ("endpoint status", "\"raftIndex\":"),
    ("endpoint status", "\"RaftIndex\" : "),
    ("endpoint status", "\"raftTerm\":"),
    ("endpoint status", "\"raftAppliedIndex\":"),
    ("endpoint status", "\"RaftAppliedIndex\" : "),
    ("endpoint hashkv", "\"hash\":"),
    ("endpoint hashkv", "\"Hash\" : "),
    ("lease timetolive", "remaining("),
    ("lease timetolive", "\"ttl\":"),
    ("lease timetolive", "\"TTL\" : "),
    ("lock", "door/"),
    ("check datascale", "memory used : "),
    ("check datascale", "to revision "),
    ("elect", "race/"),
    ("member add", "Member "),
];

/// Columns of rows which each server fills in its own way: version, size, and Raft's numbers; the hash; how long it took;
/// and what is in the file of a snapshot.
const OWN_COLUMNS: [(&str, &[usize]); 4] = [
    ("snapshot status", &[0, 1, 2, 3]),
    ("endpoint status", &[2, 3, 6, 7, 8]),
    ("endpoint hashkv", &[1]),
    ("endpoint health -w table", &[2]),
];

/// What the client's log lines have of their own: when, where in its sources, from which port, and how much took how long.
const OWN_IN_LOGS: [&str; 6] = ["ts", "caller", "target", "peer", "size", "took"];

/// A server and what it has named itself and others.
#[derive(Debug)]
pub(super) struct Side {
    peer: Peer,
    /// The endpoint of the other server.
    other: String,
    home: TempDir,
    /// Granted by lines so far, the last one last.
    leases: Vec<i64>,
    /// Names of the server, and what stands for them.
    names: Vec<(String, &'static str)>,
}

impl Side {
    async fn start(kind: PeerKind) -> Self {
        // Nobody is told of progress by the clock while lines are compared.
        let setup = Setup::new(kind);
        let setup = match kind {
            PeerKind::Etcd => setup.flag("--experimental-watch-progress-notify-interval", "1h"),
            PeerKind::Vigil => setup.flag("--progress-notify-interval-ms", "3600000"),
        };
        let peer = setup.start().await;
        let members = run(etcdctl(&peer, &["member", "list", "-w", "json"]), "").stdout;
        let members: Value = serde_json::from_slice(&members).expect("JSON");
        let number = |name: &str| members["header"][name].as_u64().expect("a number");
        let (cluster, member) = (number("cluster_id"), number("member_id"));
        let home = TempDir::new().expect("a temporary directory");
        let mut names = vec![
            (home.path().display().to_string(), "HOME"),
            (peer.endpoint().to_owned(), "ENDPOINT"),
            (cluster.to_string(), "CLUSTER"),
            (format!("{cluster:x}"), "CLUSTER"),
            (member.to_string(), "MEMBER"),
            (format!("{member:x}"), "MEMBER"),
        ];
        if let Some(url) = members["members"][0]["peerURLs"][0].as_str() {
            names.push((url.to_owned(), "PEER"));
        }
        Self {
            peer,
            other: String::new(),
            home,
            leases: Vec::new(),
            names,
        }
    }

    /// The server.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The command of a line.
    pub(super) fn command(&self, line: &str) -> Command {
        let member = self.names.iter().rfind(|(_, stands)| *stands == "MEMBER");
        let (member, _) = member.expect("a name");
        let lease = self.leases.last().map(|id| format!("{id:x}"));
        let line = line
            .replace("{me}", member)
            .replace("{home}", &self.home.path().display().to_string())
            .replace("{here}", self.peer.endpoint())
            .replace("{there}", &self.other)
            .replace("{lease}", lease.as_deref().unwrap_or("none"));
        let words = words(&line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        etcdctl(&self.peer, &words)
    }

    /// Runs a line, and returns how it ended and what it printed.
    fn say(&mut self, line: &str) -> String {
        let (args, typed) = line.split_once(" << ").unwrap_or((line, ""));
        let said = run(self.command(args), &typed.replace("\\n", "\n"));
        let code = said.status.code();
        let out = if args.ends_with("-w protobuf") && code == Some(0) {
            decoded(args, &said.stdout)
        } else {
            String::from_utf8(said.stdout).expect("text")
        };
        self.leases.extend(granted(&out));
        let err = String::from_utf8(said.stderr).expect("text");
        let code = code.map_or("a signal".to_owned(), |code| code.to_string());
        format!("{code}\n{}{}", self.told(args, &out), self.told(args, &err))
    }

    /// What is left of a text that a command printed.
    pub(super) fn told(&self, args: &str, text: &str) -> String {
        let has_end = text.is_empty() || text.ends_with('\n');
        let mut text: String = text.lines().filter_map(line_of_its_own).collect();
        if !has_end {
            text.push_str("(no end of the line)");
        }
        for (name, stands) in &self.names {
            text = text.replace(name, stands);
        }
        for (number, id) in self.leases.iter().enumerate() {
            for name in [format!("{id:016x}"), id.to_string()] {
                text = text.replace(&name, &format!("LEASE{number}"));
            }
        }
        let of_this = |command: &&str| args.starts_with(*command);
        for (_, before) in OWN.iter().filter(|(command, _)| of_this(command)) {
            text = without_value(&text, before);
        }
        match OWN_COLUMNS.iter().find(|(command, _)| of_this(command)) {
            Some((_, columns)) => text.lines().map(|row| without(row, columns)).collect(),
            None => text,
        }
    }
}

/// Both servers.
#[derive(Debug)]
pub(super) struct Both {
    pub(super) etcd: Side,
    pub(super) vigil: Side,
}

impl Both {
    /// Starts both.
    pub(super) async fn start() -> Self {
        let (mut etcd, mut vigil) =
            tokio::join!(Side::start(PeerKind::Etcd), Side::start(PeerKind::Vigil));
        vigil.peer.endpoint().clone_into(&mut etcd.other);
        etcd.peer.endpoint().clone_into(&mut vigil.other);
        Self { etcd, vigil }
    }

    /// Runs a line on both: what etcd had printed, and what Vigil.
    pub(super) fn say(&mut self, line: &str) -> (String, String) {
        let (etcd, vigil) = (&mut self.etcd, &mut self.vigil);
        thread::scope(|scope| {
            let theirs = scope.spawn(|| etcd.say(line));
            let ours = vigil.say(line);
            (theirs.join().expect("etcd's side"), ours)
        })
    }

    /// Runs lines, one after the other: the answers are the same, but for the differences that are listed.
    pub(super) fn compare(&mut self, lines: &str, differences: &[Difference]) {
        let mut faults = Vec::new();
        for line in lines.lines().filter(|line| !line.is_empty()) {
            let (etcd, vigil) = self.say(line);
            let is_expected = match differences.iter().find(|it| it.line == line) {
                None => vigil == etcd,
                Some(listed) => etcd == listed.etcd && vigil == listed.vigil,
            };
            if !is_expected {
                faults.push(format!("{line}\netcd: {etcd}Vigil: {vigil}"));
            }
        }
        assert!(faults.is_empty(), "not as listed:\n{}", faults.join("\n"));
    }
}

/// Words as a shell reads them, but that only single quotes quote.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('\'').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn run(mut command: Command, typed: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    // A command that does not read its input may be gone before it is written.
    let stdin = child.stdin.take().expect("piped");
    let _ = { stdin }.write_all(typed.as_bytes());
    child.wait_with_output().expect("a child's output")
}

/// The lease that was granted, if the text tells of one.
fn granted(text: &str) -> Option<i64> {
    let id = text.strip_prefix("lease ")?;
    let (id, rest) = id.split_once(' ')?;
    rest.starts_with("granted with")
        .then(|| i64::from_str_radix(id, 16).expect("an id"))
        .filter(|_| !rest.contains("remaining"))
}

/// A message that was printed as its bytes, without who sent it.
fn decoded(args: &str, bytes: &[u8]) -> String {
    let revision = |header: Option<ResponseHeader>| header.expect("a header").revision;
    match args.split(' ').next() {
        Some("get") => {
            let mut said = RangeResponse::decode(bytes).expect("a message");
            format!("{} {said:?}\n", revision(said.header.take()))
        }
        Some("put") => {
            let mut said = PutResponse::decode(bytes).expect("a message");
            format!("{} {said:?}\n", revision(said.header.take()))
        }
        Some("del") => {
            let mut said = DeleteRangeResponse::decode(bytes).expect("a message");
            format!("{} {said:?}\n", revision(said.header.take()))
        }
        _ => panic!("{args}: no such message is known here"),
    }
}

/// A line as it is compared: log lines without what is their own, rows of a table without its drawing.
fn line_of_its_own(line: &str) -> Option<String> {
    if line.starts_with("{\"level\":") {
        let mut log: Value = serde_json::from_str(line).expect("JSON");
        let fields = log.as_object_mut().expect("an object");
        fields.retain(|name, _| !OWN_IN_LOGS.contains(&name.as_str()));
        return Some(format!("{log}\n"));
    }
    match line.chars().next() {
        Some('\u{250c}' | '\u{251c}' | '\u{2514}') => None,
        Some('\u{2502}') => {
            let cells = line.trim_matches('\u{2502}').split('\u{2502}');
            let cells: Vec<&str> = cells.map(str::trim).collect();
            Some(format!("{}\n", cells.join(", ")))
        }
        // Ids are padded here.
        _ if line.starts_with("Member ") => {
            let words: Vec<&str> = line.split_whitespace().collect();
            Some(format!("{}\n", words.join(" ")))
        }
        // What has been done so far, on and on.
        _ if line.contains('\r') => None,
        // Members in the order of their ids.
        _ if line.starts_with("ETCD_INITIAL_CLUSTER=") => None,
        _ => Some(format!("{line}\n")),
    }
}

/// Takes out the value behind each `before`: letters, digits and dots.
fn without_value(text: &str, before: &str) -> String {
    let mut parts = text.split(before);
    let mut left = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let value = |letter: char| letter.is_alphanumeric() || letter == '.';
        let rest = part.trim_start_matches(value);
        let stands = if rest.len() < part.len() { "OWN" } else { "" };
        left.extend([before, stands, rest]);
    }
    left
}

/// Takes columns out of a row; a line with fewer is no row.
fn without(row: &str, columns: &[usize]) -> String {
    let mut cells: Vec<&str> = row.split(", ").collect();
    if columns.iter().all(|column| *column < cells.len()) {
        for column in columns {
            cells[*column] = "OWN";
        }
    }
    format!("{}\n", cells.join(", "))
}
