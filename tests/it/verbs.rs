//! Vigil's client verbs: they print what etcdctl prints, of Vigil and of etcd alike.
//!
//! Each command line is run by both tools against one server in one state, and the outputs are held side by side.

use crate::support::tool::{Running, etcdctl, printed, run, run_with, vigil};
use crate::support::{Peer, PeerKind, on_both_peers};

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

on_both_peers! {
    reads_print_what_etcdctl_prints
    writes_print_what_etcdctl_prints
    a_watch_prints_what_etcdctl_prints
    a_put_without_a_value_reads_it
    a_status_says_where_the_server_stands
    a_refusal_is_one_line_in_the_servers_words
}

async fn fill(peer: &Peer) {
    let client = peer.client();
    for (key, value) in [
        ("a", "1"),
        ("a", "2"),
        ("ab", "3"),
        ("b", "two\nlines"),
        ("c", ""),
    ] {
        client.put(key, value).await;
    }
    client.delete("c", "").await;
}

async fn reads_print_what_etcdctl_prints(peer: Peer) {
    fill(&peer).await;
    let lines: &[&[&str]] = &[
        &["get", "a"],
        &["get", "nothing"],
        &["get", "a", "b"],
        &["get", "--prefix", "a"],
        &["get", "--prefix", ""],
        &["get", "--from-key", "ab"],
        &["get", "--prefix", "", "--limit=2"],
        &["get", "--prefix", "", "--keys-only"],
        &["get", "--prefix", "", "--print-value-only"],
        &["get", "--prefix", "", "--rev=3"],
        &["get", "--prefix", "", "--sort-by=MODIFY", "--order=DESCEND"],
        &["get", "a", "-w", "json"],
        &["get", "nothing", "-w", "json"],
        &["get", "--prefix", "", "--limit=1", "-w", "json"],
        &["get", "--prefix", "", "--rev=2", "-w", "json"],
    ];
    for line in lines {
        let wanted = printed(etcdctl(&peer, line));
        assert_eq!(printed(vigil(&peer, line)), wanted, "{line:?}");
    }
}

/// Writes change what they answer, so each tool has keys of its own.
async fn writes_print_what_etcdctl_prints(peer: Peer) {
    let client = peer.client();
    for prefix in ["x/", "y/"] {
        client.put(format!("{prefix}old"), "1").await;
    }
    let lines: &[&[&str]] = &[
        &["put", "/new", "1"],
        &["put", "/new", "2", "--prev-kv"],
        &["put", "/old", "2", "--prev-kv"],
        &["put", "/empty", ""],
        &["del", "/nothing"],
        &["del", "/new", "--prev-kv"],
        &["del", "--prefix", "/", "--prev-kv"],
    ];
    for line in lines {
        // The one argument that is a key gets the tool's prefix.
        let with = |prefix: &str| -> Vec<String> {
            let own = |arg: &&str| match arg.strip_prefix('/') {
                Some(key) => format!("{prefix}/{key}"),
                None => (*arg).to_owned(),
            };
            line.iter().map(own).collect()
        };
        let (theirs, ours) = (with("x"), with("y"));
        let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
        let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
        let wanted = printed(etcdctl(&peer, &theirs)).replace("x/", "y/");
        assert_eq!(printed(vigil(&peer, &ours)), wanted, "{line:?}");
    }
    let revision = client.revision().await;
    let compact = ["compact", &revision.to_string()];
    let said = printed(vigil(&peer, &compact));
    assert_eq!(said, format!("compacted revision {revision}\n"));
}

async fn a_watch_prints_what_etcdctl_prints(peer: Peer) {
    fill(&peer).await;
    let lines: &[&[&str]] = &[
        &["watch", "--prefix", "", "--rev=1"],
        &["watch", "--prefix", "", "--rev=1", "--prev-kv"],
        &["watch", "--prefix", "a", "--rev=3"],
    ];
    let pairs: Vec<(Running, Running)> = lines
        .iter()
        .map(|line| (etcdctl(&peer, line), vigil(&peer, line)))
        .map(|(theirs, ours)| (Running::start(theirs), Running::start(ours)))
        .collect();
    // The last line that any of them prints.
    peer.client().put("a", "end").await;
    for (theirs, mut ours) in pairs {
        let wanted = theirs.prints_until("a\nend\n").await;
        ours.prints(&wanted).await;
    }
    // In JSON a line is a response, and where responses end is the server's choice; one event is one line.
    let line = ["watch", "a", "--rev=2", "-w", "json"];
    let wanted = json_events(&Running::start(etcdctl(&peer, &line)).lines(1).await);
    let ours = json_events(&Running::start(vigil(&peer, &line)).lines(1).await);
    assert_eq!(ours, wanted);
}

fn json_events(lines: &[String]) -> Vec<serde_json::Value> {
    let parse = |line: &String| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    let documents: Vec<_> = lines.iter().map(parse).collect();
    let events = |document: &serde_json::Value| document["Events"].as_array().cloned();
    documents.iter().filter_map(events).flatten().collect()
}

async fn a_put_without_a_value_reads_it(peer: Peer) {
    let said = run_with(vigil(&peer, &["put", "a"]), "from standard input");
    assert_eq!((said.success, said.out.as_str()), (true, "OK\n"));
    assert_eq!(
        printed(vigil(&peer, &["get", "a", "--print-value-only"])),
        "from standard input\n"
    );
}

async fn a_status_says_where_the_server_stands(peer: Peer) {
    fill(&peer).await;
    let said = printed(vigil(&peer, &["status"]));
    assert!(
        said.contains(&format!("endpoint: {}\n", peer.endpoint())),
        "{said}"
    );
    assert!(said.contains("revision: 7\n"), "{said}");
    let parse = |text: String| serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    let ours = parse(printed(vigil(&peer, &["status", "-w", "json"])));
    let theirs = parse(printed(etcdctl(
        &peer,
        &["endpoint", "status", "-w", "json"],
    )));
    assert_eq!(ours[0]["Endpoint"], theirs[0]["Endpoint"]);
    let (ours, theirs) = (&ours[0]["Status"], &theirs[0]["Status"]);
    for field in ["header", "version", "leader"] {
        assert_eq!(ours[field], theirs[field], "{field}");
    }
    if peer.kind() == PeerKind::Etcd {
        assert!(ours["raftIndex"].is_u64(), "{ours}");
    }
}

async fn a_refusal_is_one_line_in_the_servers_words(peer: Peer) {
    fill(&peer).await;
    peer.client().compact(4).await.expect("a compaction");
    let lines: &[(&[&str], &str)] = &[
        (&["compact", "2"], COMPACTED),
        (&["get", "a", "--rev=2"], COMPACTED),
        (
            &["get", "a", "--rev=99"],
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (&["get", ""], "etcdserver: key is not provided"),
        (
            &["put", "nothing", "--ignore-value"],
            "etcdserver: key not found",
        ),
        (&["watch", "a", "--rev=2"], COMPACTED),
    ];
    for (line, text) in lines {
        let said = run(vigil(&peer, line));
        assert!(!said.success && said.out.is_empty(), "{line:?}: {said:?}");
        assert!(said.err.contains(text), "{line:?}: {said:?}");
        assert_eq!(said.err.lines().count(), 1, "{line:?}: {said:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_one_line() {
    let peer = {
        let mut peer = Peer::start(PeerKind::Vigil).await;
        peer.process().kill();
        peer
    };
    let said = run(vigil(&peer, &["get", "a"]));
    assert!(!said.success && said.out.is_empty(), "{said:?}");
    assert!(said.err.contains(peer.endpoint()), "{said:?}");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
}
