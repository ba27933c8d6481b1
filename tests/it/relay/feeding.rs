//! What feeds a relay goes away and comes back: as it was, older than it was, or as somebody else.
//!
//! The network between the relay and its cluster is the test's, and leads where the test says.

use super::cache::{filled, serializable};
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
