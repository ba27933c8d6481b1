//! `vigil mirror`, `export` and `import`, with the real etcd as the one that is copied.
//!
//! What is held against each other is the content of both servers, never what a verb says that it did.

use crate::support::mvccpb::KeyValue;
use crate::support::requests::{all_of, get_prefix, on_everything, op_delete, op_put};
use crate::support::tool::{Running, etcdctl, printed, run, run_with, vigil};
use crate::support::{Peer, PeerKind, eventually};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

/// An address that stays while the server behind it comes and goes.
struct Relay {
    address: String,
    /// The server; `None` takes every connection down.
    target: tokio::sync::watch::Sender<Option<String>>,
}

impl Relay {
    async fn to(peer: &Peer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port").to_string();
        let (target, targets) = tokio::sync::watch::channel(Some(peer.endpoint().to_owned()));
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.expect("a connection");
                let mut targets = targets.clone();
                tokio::spawn(async move {
                    let Some(to) = targets.borrow_and_update().clone() else {
                        return;
                    };
                    let Ok(mut far) = TcpStream::connect(to).await else {
                        return;
                    };
                    tokio::select! {
                        _ = targets.changed() => {}
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Self { address, target }
    }

    fn cut(&self) {
        self.target.send_replace(None);
    }

    fn lead_to(&self, peer: &Peer) {
        self.target.send_replace(Some(peer.endpoint().to_owned()));
    }

    /// Starts a mirror of what is behind it.
    fn mirror(&self, destination: &Peer, flags: &[&str]) -> Running {
        let mut command = std::process::Command::new(crate::support::peer::vigil_binary());
        command
            .args([
                "mirror",
                destination.endpoint(),
                "--endpoint",
                &self.address,
            ])
            .args(["--timeout-ms", "2000"])
            .args(flags);
        Running::start(command)
    }
}

type Content = BTreeMap<Bytes, Bytes>;

async fn keys(peer: &Peer, prefix: &str) -> Vec<KeyValue> {
    let request = match prefix {
        "" => crate::support::pb::RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..Default::default()
        },
        prefix => get_prefix(prefix),
    };
    peer.client().range(request).await.expect("a range").kvs
}

/// What is stored, without the prefix.
async fn content(peer: &Peer, prefix: &str) -> Content {
    let keys = keys(peer, prefix).await;
    let pairs = keys.into_iter();
    pairs
        .map(|kv| (kv.key.slice(prefix.len()..), kv.value))
        .collect()
}

async fn become_equal(source: (&Peer, &str), destination: (&Peer, &str)) {
    eventually("the destination is like the source", async || {
        let wanted = content(source.0, source.1).await;
        let found = content(destination.0, destination.1).await;
        if wanted == found {
            return Ok(());
        }
        Err(format!(
            "{} keys here and {} there",
            wanted.len(),
            found.len()
        ))
    })
    .await;
}

#[tokio::test]
async fn a_mirror_goes_on_across_a_kill_of_its_source_and_keeps_revisions_whole() {
    let mut source = Peer::start(PeerKind::Etcd).await;
    let destination = Peer::start(PeerKind::Vigil).await;
    let client = source.client();
    for number in 0..300 {
        client
            .put(format!("k/{number:03}"), format!("{number}"))
            .await;
    }
    client.put("large", vec![b'v'; 600_000]).await;
    client.put("larger", vec![b'w'; 700_000]).await;
    client.put(&b"\xff\x00"[..], &b"\xfe"[..]).await;
    client.delete("k/007", "").await;
    let relay = Relay::to(&source).await;
    let mirror = relay.mirror(&destination, &[]);
    become_equal((&source, ""), (&destination, "")).await;

    let mut watch = destination.connect().await.watch();
    watch.created(on_everything()).await;
    let together = vec![
        op_put("t/1", "x"),
        op_put("t/2", "y"),
        op_delete("k/001", ""),
    ];
    client.txn(all_of(together)).await.expect("a transaction");
    let mut events = Vec::new();
    while events.len() < 3 {
        events.extend(watch.next().await.events);
    }
    let revisions = events
        .iter()
        .map(|event| event.kv.clone().unwrap().mod_revision);
    let revisions: Vec<i64> = revisions.collect();
    assert!(
        revisions.iter().all(|revision| *revision == revisions[0]),
        "{revisions:?}"
    );

    // More than a transaction takes, in one revision.
    let at_once = client.delete("k/1", "k/3").await;
    assert_eq!(at_once.deleted, 200);
    become_equal((&source, ""), (&destination, "")).await;

    source.process().kill();
    source.restart().await;
    let client = source.client();
    for number in 0..50 {
        client.put(format!("k/{number:03}"), "after").await;
    }
    client.delete("t/1", "").await;
    relay.lead_to(&source);
    become_equal((&source, ""), (&destination, "")).await;
    client.put("last", "one").await;
    become_equal((&source, ""), (&destination, "")).await;
    let followed = keys(&destination, "t/2").await;
    assert_eq!(
        followed[0].version, 1,
        "what was made before the kill is not made again"
    );
    let said = mirror.err();
    assert_eq!(
        said.matches("keys put").count(),
        1,
        "it copied once: {said}"
    );
    assert!(said.contains("connection lost"), "{said}");
}

#[tokio::test]
async fn a_mirror_that_finds_its_place_compacted_copies_again_and_removes_what_is_gone() {
    let source = Peer::start(PeerKind::Etcd).await;
    let destination = Peer::start(PeerKind::Vigil).await;
    destination.client().put("k/foreign", "stays").await;
    let client = source.client();
    for number in 0..20 {
        client.put(format!("k/{number}"), "first").await;
    }
    let relay = Relay::to(&source).await;
    let mirror = relay.mirror(&destination, &[]);
    eventually("it is copied", async || {
        match content(&destination, "k/").await.len() {
            21 => Ok(()),
            keys => Err(format!("{keys} keys")),
        }
    })
    .await;
    client.put("k/20", "followed").await;
    eventually("it follows", async || {
        match content(&destination, "k/").await.len() {
            22 => Ok(()),
            keys => Err(format!("{keys} keys")),
        }
    })
    .await;
    relay.cut();
    client.delete("k/1", "k/2").await;
    client.delete("k/20", "").await;
    client.put("k/0", "second").await;
    let revision = client.put("k/new", "second").await;
    client.compact(revision).await.expect("a compaction");
    relay.lead_to(&source);
    eventually(
        "it is as the source, but for the key of somebody else",
        async || {
            let mut wanted = content(&source, "k/").await;
            wanted.insert("foreign".into(), "stays".into());
            let found = content(&destination, "k/").await;
            if wanted == found {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        },
    )
    .await;
    let said = mirror.err();
    assert!(said.contains("is compacted; copying again"), "{said}");
    assert!(
        said.contains("1 keys that were only at the destination are left"),
        "{said}"
    );
}

#[tokio::test]
async fn a_mirror_renames_prunes_and_begins_where_it_is_told() {
    let source = Peer::start(PeerKind::Etcd).await;
    let destination = Peer::start(PeerKind::Vigil).await;
    let client = source.client();
    for key in ["a/1", "a/2", "b/1"] {
        client.put(key, "x").await;
    }
    let relay = Relay::to(&source).await;
    destination.client().put("m/stale", "x").await;
    let equal = destination.client().put("m/1", "x").await;
    let flags = ["--prefix", "a/", "--dest-prefix", "m/", "--prune"];
    let renamed = relay.mirror(&destination, &flags);
    become_equal((&source, "a/"), (&destination, "m/")).await;
    client.put("a/3", "x").await;
    client.put("b/2", "x").await;
    become_equal((&source, "a/"), (&destination, "m/")).await;
    let mirrored = keys(&destination, "m/").await;
    assert_eq!(
        mirrored[0].mod_revision, equal,
        "what is equal is left alone"
    );
    drop(renamed);

    let revision = client.put("a/4", "x").await;
    let flags = [
        "--prefix",
        "a/",
        "--no-dest-prefix",
        "--rev",
        &revision.to_string(),
    ];
    let late = relay.mirror(&destination, &flags);
    client.put("a/5", "x").await;
    eventually("it begins where it is told", async || {
        let found = content(&destination, "").await;
        let names: Vec<_> = found.keys().filter(|key| !key.starts_with(b"m/")).collect();
        if names == ["4", "5"] {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await;
    drop(late);
    let end = vigil(&source, &["mirror", "127.0.0.1:1"]);
    let said = run(end);
    assert!(
        !said.success && said.err.contains("cannot reach 127.0.0.1:1"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_mirror_that_would_read_what_it_writes_is_refused_and_any_other_onto_one_server_is_not() {
    for kind in [PeerKind::Etcd, PeerKind::Vigil] {
        let peer = Peer::start(kind).await;
        let client = peer.client();
        client.put("a/1", "x").await;
        let revision = client.put("a/2", "y").await;
        // Under another address.
        let relay = Relay::to(&peer).await;
        for (prefix, flags) in [
            ("", &[][..]),
            ("", &["--dest-prefix", "copy/"]),
            ("a/", &["--prefix", "a/", "--rev", "1"]),
            ("a/", &["--prefix", "a/", "--dest-prefix", "a/b/"]),
            ("a/", &["--prefix", "a/", "--no-dest-prefix", "--prune"]),
        ] {
            let said = relay.mirror(&peer, flags).end().await;
            assert!(!said.success && said.err.lines().count() == 1, "{said:?}");
            let (from, to) = (&relay.address, peer.endpoint());
            let wanted = format!("{from} and {to} are the same store");
            assert!(said.err.contains(&wanted), "{said:?}");
            let wanted = format!("those that are read (prefix {prefix:?})");
            assert!(said.err.contains(&wanted), "{said:?}");
        }
        assert_eq!(client.revision().await, revision, "nothing was written");

        let _beside = relay.mirror(&peer, &["--prefix", "a/", "--dest-prefix", "b/"]);
        become_equal((&peer, "a/"), (&peer, "b/")).await;
        client.put("a/3", "z").await;
        become_equal((&peer, "a/"), (&peer, "b/")).await;
    }
}

#[tokio::test]
async fn servers_with_the_same_ids_are_told_apart() {
    let mut source = Peer::start(PeerKind::Vigil).await;
    let mut destination = Peer::start(PeerKind::Vigil).await;
    source.client().put("before", "x").await;
    source.terminate().await;
    destination.terminate().await;
    let copied = [source.data_dir(), destination.data_dir()];
    fs::remove_dir_all(&copied[1]).expect("it goes");
    copy_dir(&copied[0], &copied[1]);
    source.restart().await;
    destination.restart().await;
    let ids = async |peer: &Peer| {
        let answer = peer.client().range(get_prefix("b")).await.expect("a range");
        let header = answer.header.expect("a header");
        (header.cluster_id, header.member_id)
    };
    assert_eq!(ids(&source).await, ids(&destination).await);
    let relay = Relay::to(&source).await;
    let _mirror = relay.mirror(&destination, &[]);
    source.client().put("after", "y").await;
    become_equal((&source, ""), (&destination, "")).await;
}

#[tokio::test]
async fn a_transaction_of_nothing_carries_nothing_and_is_refused() {
    let peer = Peer::start(PeerKind::Vigil).await;
    for verb in [&["mirror", "127.0.0.1:1"][..], &["import"]] {
        let said = run(vigil(&peer, &[verb, &["--max-txn-ops", "0"]].concat()));
        let line = "Error: --max-txn-ops is 0, and the least is 1\n";
        assert_eq!((said.success, said.err.as_str()), (false, line));
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[tokio::test]
async fn an_export_is_imported_as_it_was() {
    let source = Peer::start(PeerKind::Etcd).await;
    let destination = Peer::start(PeerKind::Vigil).await;
    let client = source.client();
    for number in 0..400 {
        client
            .put(format!("k/{number:03}"), format!("line\n{number}"))
            .await;
    }
    client.put(&b"\xff\x00\x80"[..], &b"\xfe\xff"[..]).await;
    client.put("empty", "").await;
    client.put("large", vec![b'v'; 1_200_000]).await;
    let granted = printed(etcdctl(&source, &["lease", "grant", "600"]));
    let lease = granted.split(' ').nth(1).expect("a lease");
    printed(etcdctl(&source, &["put", "--lease", lease, "leased", "x"]));
    let revision = client.revision().await;
    client.put("k/000", "later").await;

    let rev = revision.to_string();
    let lines = printed(vigil(&source, &["export", "--rev", &rev]));
    let find = |key: &str| {
        let parse = |line| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        let mut lines = lines.lines().map(parse);
        lines.find(|line| line["key_text"] == key).expect("the key")
    };
    assert_eq!(lines.lines().count(), 404);
    let first = find("k/000");
    assert_eq!(first["value_text"], "line\n0");
    assert_eq!(
        (&first["create_revision"], &first["version"]),
        (&2.into(), &1.into())
    );
    let leased = i64::from_str_radix(lease, 16).expect("a lease is hexadecimal");
    assert_eq!(find("leased")["lease"], leased);

    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("keys.jsonl");
    fs::write(&file, &lines).expect("a file");
    let said = run(vigil(
        &destination,
        &["import", file.to_str().expect("UTF-8")],
    ));
    assert!(
        said.success && said.err.contains("404 keys imported"),
        "{said:?}"
    );
    client.put("k/000", "line\n0").await;
    assert_eq!(content(&destination, "").await, content(&source, "").await);

    // Through a pipe, and in the other direction.
    client.delete("\0", "\0").await;
    let lines = printed(vigil(&destination, &["export", "--prefix", "k/"]));
    let said = run_with(vigil(&source, &["import"]), &lines);
    assert!(said.success, "{said:?}");
    assert_eq!(
        content(&source, "k/").await,
        content(&destination, "k/").await
    );
    assert_eq!(content(&source, "").await.len(), 400);
}

#[tokio::test]
async fn an_import_names_the_line_that_is_no_good() {
    let destination = Peer::start(PeerKind::Vigil).await;
    let line = |key: &str| format!("{{\"key\":\"{key}\",\"value\":\"\"}}\n");
    // The same key twice: both are put, one after the other.
    let lines = [
        line("YQ=="),
        line("YQ=="),
        line("Yg=="),
        "\n".to_owned(),
        line("c"),
    ]
    .concat();
    let said = run_with(vigil(&destination, &["import"]), &lines);
    assert!(!said.success && said.err.lines().count() == 1, "{said:?}");
    let wanted = "Error: line 5: key is not base64 (3 keys of the lines before it are imported)\n";
    assert_eq!(said.err, wanted);
    let there = keys(&destination, "").await;
    let versions: Vec<_> = there.iter().map(|kv| (&kv.key[..], kv.version)).collect();
    assert_eq!(versions, [(&b"a"[..], 2), (&b"b"[..], 1)]);
    let said = run(vigil(&destination, &["import", "/nothing/there"]));
    assert!(
        !said.success && said.err.contains("cannot read /nothing/there"),
        "{said:?}"
    );
}
