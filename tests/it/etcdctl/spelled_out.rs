//! etcd's own command line client: what it prints of etcd it prints of Vigil.
//!
//! The expected lines are those of etcdctl against etcd, which the twin of each test shows.

use crate::support::tool::{Running, etcdctl, printed, run, run_with};
use crate::support::{Peer, PeerKind, on_both_peers};

on_both_peers! {
    keys_are_put_got_and_deleted
    a_watch_prints_history_and_what_comes_after
    a_transaction_is_read_from_standard_input
    a_compaction_is_said_and_respected
    the_member_is_listed_healthy_and_described
}

async fn keys_are_put_got_and_deleted(peer: Peer) {
    let say = |args: &[&str]| printed(etcdctl(&peer, args));
    assert_eq!(say(&["put", "a", "1"]), "OK\n");
    assert_eq!(say(&["put", "a", "2", "--prev-kv"]), "OK\na\n1\n");
    assert_eq!(say(&["put", "b", "3"]), "OK\n");
    assert_eq!(say(&["get", "--prefix", ""]), "a\n2\nb\n3\n");
    assert_eq!(say(&["get", "--prefix", "", "--keys-only"]), "a\n\nb\n\n");
    assert_eq!(say(&["get", "--prefix", "", "--limit=1"]), "a\n2\n");
    assert_eq!(say(&["get", "b", "--from-key"]), "b\n3\n");
    assert_eq!(say(&["get", "a", "--rev=2"]), "a\n1\n");
    let descending = ["get", "--prefix", "", "--sort-by=MODIFY", "--order=DESCEND"];
    assert_eq!(say(&descending), "b\n3\na\n2\n");
    assert_eq!(say(&["del", "a", "--prev-kv"]), "1\na\n2\n");
    assert_eq!(say(&["get", "a"]), "");
    assert_eq!(say(&["del", "a"]), "0\n");
    let fields = say(&["get", "--prefix", "", "--count-only", "--write-out=fields"]);
    assert!(fields.contains("\"Revision\" : 5\n"), "{fields}");
    assert!(
        fields.ends_with("\"More\" : false\n\"Count\" : 1\n"),
        "{fields}"
    );
}

async fn a_watch_prints_history_and_what_comes_after(peer: Peer) {
    let client = peer.client();
    client.put("a", "1").await;
    client.put("a", "2").await;
    client.delete("a", "").await;
    let watch = ["watch", "--rev=1", "--prefix", "", "--prev-kv"];
    let mut watch = Running::start(etcdctl(&peer, &watch));
    let history = "PUT\na\n1\nPUT\na\n1\na\n2\nDELETE\na\n2\na\n\n";
    watch.prints(history).await;
    client.put("b", "3").await;
    watch.prints(&format!("{history}PUT\nb\n3\n")).await;
}

async fn a_transaction_is_read_from_standard_input(peer: Peer) {
    peer.client().put("b", "3").await;
    // Compares, then what runs when they hold, then what runs when they do not.
    let txn = "value(\"b\") = \"3\"\n\nput b 4\nget b\n\nput b 5\n\n";
    let said = run_with(etcdctl(&peer, &["txn"]), txn);
    assert_eq!(
        (said.out.as_str(), said.success),
        ("SUCCESS\n\nOK\n\nb\n4\n", true)
    );
    let said = run_with(etcdctl(&peer, &["txn"]), txn);
    assert_eq!((said.out.as_str(), said.success), ("FAILURE\n\nOK\n", true));
    assert_eq!(printed(etcdctl(&peer, &["get", "b"])), "b\n5\n");
}

async fn a_compaction_is_said_and_respected(peer: Peer) {
    let client = peer.client();
    for value in ["1", "2", "3"] {
        client.put("a", value).await;
    }
    assert_eq!(
        printed(etcdctl(&peer, &["compact", "3"])),
        "compacted revision 3\n"
    );
    let refused = [
        (vec!["compact", "3"], "required revision has been compacted"),
        (
            vec!["get", "a", "--rev=2"],
            "required revision has been compacted",
        ),
        (
            vec!["compact", "99"],
            "required revision is a future revision",
        ),
    ];
    for (args, text) in refused {
        let said = run(etcdctl(&peer, &args));
        let line = format!("Error: etcdserver: mvcc: {text}\n");
        assert!(
            !said.success && said.err.ends_with(&line),
            "{args:?}: {said:?}"
        );
    }
    let mut watch = Running::start(etcdctl(&peer, &["watch", "a", "--rev=2"]));
    let said = watch.end().await;
    let line = "watch was canceled (etcdserver: mvcc: required revision has been compacted)";
    assert!(!said.success && said.err.contains(line), "{said:?}");
    assert_eq!(printed(etcdctl(&peer, &["get", "a", "--rev=3"])), "a\n2\n");
}

async fn the_member_is_listed_healthy_and_described(peer: Peer) {
    peer.client().put("a", "1").await;
    let endpoint = peer.endpoint();
    let list = printed(etcdctl(&peer, &["member", "list"]));
    let columns: Vec<&str> = list.trim_end().split(", ").collect();
    assert_eq!(columns.len(), 6, "{list}");
    assert_eq!((columns[1], columns[2]), ("started", "default"));
    assert_eq!(
        (columns[4], columns[5]),
        (format!("http://{endpoint}").as_str(), "false")
    );

    let said = run(etcdctl(&peer, &["endpoint", "health"]));
    let healthy = format!("{endpoint} is healthy: successfully committed proposal: took = ");
    assert!(said.success && (said.out + &said.err).contains(&healthy));

    let status = printed(etcdctl(&peer, &["endpoint", "status"]));
    let fields: Vec<&str> = status.trim_end().split(", ").collect();
    assert_eq!((fields[0], fields[1]), (endpoint, columns[0]), "{status}");
    assert_eq!(
        (fields[4], fields[5]),
        ("true", "false"),
        "it leads and is no learner"
    );
    if peer.kind() == PeerKind::Etcd {
        assert!(fields[2].starts_with("3."), "{status}");
    }
    let json = printed(etcdctl(&peer, &["endpoint", "status", "-w", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[0]["Status"]["header"]["revision"], 2);
}
