//! Relays before relays: what one etcd has to tell is told once to the first of them, and once to everybody behind it.
//!
//! A relay in the middle may die; those behind it have another one.

use super::watches_held;
use crate::support::pb::{WatchCreateRequest, WatchResponse};
use crate::support::requests::{on, on_everything, on_prefix, op_put};
use crate::support::{History, Peer, PeerKind, Relay, Validator, WatchStream};

const MIDDLE: usize = 3;
const LEAVES: usize = 9;
const WRITES: i64 = 30;

/// A stream with some watches of which each covers another.
async fn watch(relay: &Relay, creates: &[WatchCreateRequest]) -> (WatchStream, Vec<WatchResponse>) {
    let mut stream = relay.connect().await.watch();
    let mut log = Vec::new();
    for create in creates {
        log.push(stream.created(create.clone()).await);
    }
    (stream, log)
}

/// Writes at each of the leaves and past all of them.
async fn write(leaves: &[Relay], etcd: &Peer, history: &History) {
    let direct = etcd.client();
    for number in 0..WRITES {
        history.put(&direct, "past", format!("{number}")).await;
        for (at, leaf) in leaves.iter().enumerate() {
            let client = leaf.connect().await;
            let keys = [format!("/a/{at}"), format!("/a/b/{}", number % 4)];
            let ops = keys.map(|key| op_put(key, format!("{number}")));
            history.txn(&client, ops.to_vec()).await;
        }
    }
}

#[tokio::test]
async fn nine_leaves_of_a_tree_are_told_everything_once_also_when_a_relay_between_has_died() {
    let (etcd, history) = (Peer::start(PeerKind::Etcd).await, History::default());
    let root = Relay::before(&[etcd.endpoint()]).await;
    let mut middle = Vec::new();
    for _ in 0..MIDDLE {
        middle.push(Relay::before(&[root.endpoint()]).await);
    }
    let mut leaves = Vec::new();
    for number in 0..LEAVES {
        let (own, other) = (number % MIDDLE, (number + 1) % MIDDLE);
        let upstreams = [middle[own].endpoint(), middle[other].endpoint()];
        leaves.push(Relay::before(&upstreams).await);
    }
    let creates = [on_prefix("/a/"), on_everything(), on("/a/b/2")];
    let mut streams = Vec::new();
    for leaf in &leaves {
        streams.push(watch(leaf, &creates).await);
    }
    write(&leaves, &etcd, &history).await;
    assert!(watches_held(etcd.endpoint()).await <= 8);
    assert!(watches_held(root.endpoint()).await <= 8 * MIDDLE as u64);
    for (stream, log) in &mut streams {
        log.extend(stream.read_through(|| Some(history.last())).await);
    }
    middle[0].process().kill();
    let direct = etcd.client();
    for number in 0..WRITES {
        history
            .put(&direct, format!("/a/b/{}", number % 4), "v")
            .await;
    }
    let replay = history.replay();
    for (stream, log) in &mut streams {
        log.extend(stream.read_through(|| Some(history.last())).await);
        let creates = (0..).zip(creates.iter().cloned());
        let mut validator = Validator::new(PeerKind::Vigil, &replay, creates);
        validator.check_all(log).expect("in order, and once");
        validator.complete(history.last()).expect("all of it");
        assert!(validator.progress_seen() > 0);
    }
}
