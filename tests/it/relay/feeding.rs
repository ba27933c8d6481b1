//! What feeds a relay goes away and comes back: as it was, older than it was, or as somebody else.
//!
//! The network between the relay and its cluster is the test's, and leads where the test says.

use super::cache::{filled, serializable};
use super::calls_begun;
use crate::support::requests::{get, on, on_prefix};
use crate::support::stream::revisions_in;
use crate::support::{
    Client, History, Peer, PeerKind, Relay, Validator, WatchStream, Wire, eventually, within,
};
use std::path::Path;
use std::process::Command;
use tonic::Code;

// A member tells of a long absence in several responses, and the header of each says how far the member is, not how far the
// response goes.
#[tokio::test]
async fn a_long_absence_is_told_of_as_a_whole_though_it_comes_in_parts() {
    let (etcd, history) = (Peer::start(PeerKind::Etcd).await, History::default());
    let wire = Wire::to(etcd.endpoint()).await;
    let relay = Relay::before(&[wire.endpoint()]).await;
    let (client, direct) = (relay.connect().await, etcd.client());
    let mut stream = client.watch();
    let mut log = vec![stream.created(on_prefix("/a/")).await];
    history.put(&direct, "/a/first", "v").await;
    log.extend(stream.events(1).await);
    wire.cut();
    history.puts(&direct, "/a/", 3000).await;
    wire.open();
    log.extend(stream.read_through(|| Some(history.last())).await);
    let replay = history.replay();
    let creates = [(0, on_prefix("/a/"))];
    let mut validator = Validator::new(PeerKind::Vigil, &replay, creates);
    validator.check_all(&log).expect("in order, and once");
    validator.complete(history.last()).expect("all of it");
}

// A member tells of a long absence in responses of up to a thousand revisions, each cut into fragments. A relay that kept them until
// the last one was there took as much memory as they did, and never got to the end of one by a slow link.
#[tokio::test]
async fn a_large_past_is_passed_on_before_all_of_it_is_there() {
    const PUTS: i64 = 150;
    let etcd = Peer::start(PeerKind::Etcd).await;
    let value = vec![b'v'; 1 << 20];
    for number in 0..PUTS {
        let key = format!("/a/{number}");
        etcd.client().put(key, value.clone()).await;
    }
    let flags = ["--ring-bytes-max", "1048576"];
    let mut relay = Relay::with_flags(&[etcd.endpoint()], &flags).await;
    let client = relay.connect().await;
    let before = relay.process().resident_bytes_peak();
    let mut stream = client.watch();
    let create = crate::support::pb::WatchCreateRequest {
        start_revision: 1,
        ..on_prefix("/a/")
    };
    stream.created(create).await;
    let mut revisions = Vec::new();
    while revisions.last() != Some(&(PUTS + 1)) {
        revisions.extend(revisions_in(&stream.next_events().await));
    }
    assert!(revisions.into_iter().eq(2..PUTS + 2));
    let grown = relay.process().resident_bytes_peak() - before;
    assert!(grown < 80 << 20, "{} MiB", grown >> 20);
}

// A watch that begins behind all that there is is told nothing, also when it asks; that is no silence to be ended, or the relay
// would every now and then hold no watch at all.
#[tokio::test]
async fn a_cluster_in_which_nothing_happens_is_watched_on() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let relay = Relay::before(&[etcd.endpoint()]).await;
    let mut stream = relay.connect().await.watch();
    stream.created(on("a")).await;
    let put = etcd.client().put("a", "1").await;
    assert_eq!(revisions_in(&stream.next_events().await), [put]);
    let begun = calls_begun(etcd.endpoint(), "Watch").await;
    // The relay looks every second whether the member is well, and whether its cluster is.
    let looks = calls_begun(etcd.endpoint(), "Range").await + 26;
    eventually(
        "the relay has looked for longer than it waits for a word",
        async || {
            let asked = calls_begun(etcd.endpoint(), "Range").await;
            (asked >= looks).then_some(()).ok_or(asked)
        },
    )
    .await;
    assert_eq!(calls_begun(etcd.endpoint(), "Watch").await, begun);
    let put = etcd.client().put("a", "v").await;
    assert_eq!(revisions_in(&stream.next_events().await), [put]);
}

/// A relay with a cache, in whose cluster something has happened, and a stream that was told of it.
struct Scene {
    etcd: Peer,
    wire: Wire,
    relay: Relay,
    client: Client,
    stream: WatchStream,
}

impl Scene {
    async fn before(etcd: Peer) -> Self {
        let wire = Wire::to(etcd.endpoint()).await;
        let relay = Relay::with_flags(&[wire.endpoint()], &["--cache", "a"]).await;
        let client = relay.connect().await;
        filled(&relay).await;
        let mut stream = client.watch();
        stream.created(on("a")).await;
        let mut scene = Self {
            etcd,
            wire,
            relay,
            client,
            stream,
        };
        for number in 0..20 {
            let put = scene.etcd.client().put("a", format!("old {number}")).await;
            assert_eq!(revisions_in(&scene.stream.next_events().await), [put]);
        }
        let read = scene.client.range(get("a")).await.expect("an answer");
        assert_eq!(read.kvs[0].value, "old 19");
        scene
    }

    /// The network leads elsewhere from now on.
    fn lead_to(&self, server: &str) {
        self.wire.cut();
        self.wire.lead_to(server);
        self.wire.open();
    }
}

fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    let copied = cp.arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp runs").success());
}

// After a restore of an older state the same revisions are given to other changes: who goes on from a revision would miss some
// of them, and what was read before is not there any more.
#[tokio::test]
async fn a_cluster_that_was_put_back_ends_all_watches_and_nothing_old_is_answered() {
    let mut etcd = Peer::start(PeerKind::Etcd).await;
    for number in 0..5 {
        etcd.client().put("a", format!("kept {number}")).await;
    }
    let older = etcd.data_dir().with_extension("older");
    etcd.process().kill();
    copy(&etcd.data_dir(), &older);
    etcd.restart().await;
    let mut scene = Scene::before(etcd).await;
    scene.wire.cut();
    scene.etcd.process().kill();
    std::fs::remove_dir_all(scene.etcd.data_dir()).expect("it is there");
    copy(&older, &scene.etcd.data_dir());
    scene.etcd.restart().await;
    let endpoint = scene.etcd.endpoint().to_owned();
    scene.lead_to(&endpoint);
    let read = eventually("a read is answered", async || {
        scene.client.range(get("a")).await
    })
    .await;
    assert_eq!(read.kvs[0].value, "kept 4");
    let (told, ended) = scene.stream.end().await;
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(ended.expect_err("not in order").code(), Code::Unavailable);
    // Whoever comes back is told of what is there now.
    let put = scene.etcd.client().put("a", "new").await;
    let response = eventually("a watch begins again", async || {
        let mut stream = scene.client.watch();
        stream.create(crate::support::pb::WatchCreateRequest {
            start_revision: put,
            ..on("a")
        });
        let created = within("created", stream.receive()).await;
        created.map_err(|status| status.to_string())?;
        match within("an event", stream.receive()).await {
            Ok(Some(response)) => Ok(response),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(revisions_in(&response), [put]);
}

// Revisions of another cluster mean something else: nothing of it may be told to those who watch the first.
#[tokio::test]
async fn another_cluster_in_the_same_place_is_not_taken_for_the_first() {
    let mut scene = Scene::before(Peer::start(PeerKind::Etcd).await).await;
    let other = Peer::start(PeerKind::Etcd).await;
    for number in 0..40 {
        other.client().put("a", format!("other {number}")).await;
    }
    scene.lead_to(other.endpoint());
    let ended = within("the end of the stream", scene.stream.receive()).await;
    assert_eq!(ended.expect_err("no event").code(), Code::Unavailable);
    // The memory is of a cluster that nobody can reach, and the other one is nobody's to read here.
    eventually("reads are refused", async || {
        match scene.client.range(serializable(get("a"))).await {
            Err(status) if status.code() == Code::Unavailable => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let read = scene.client.range(get("a")).await;
    assert_eq!(read.expect_err("refused").code(), Code::Unavailable);
    drop(scene.relay);
}
