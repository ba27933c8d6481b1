//! Defragmentation through the wire: the disk gets its space back, and nobody who reads, writes or watches is the worse
//! for it.

use crate::support::requests::{get, on_everything};
use crate::support::stream::revisions_in;
use crate::support::tool::{etcdctl, printed};
use crate::support::{Client, Peer, on_both_peers};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const VALUE_BYTES: usize = 256 << 10;
const VALUES: usize = 160;

on_both_peers! {
    the_disk_gets_its_space_back
    who_writes_and_watches_meanwhile_notices_nothing
    nothing_is_lost_when_the_server_is_killed_afterwards
}

fn disk_bytes(peer: &Peer) -> u64 {
    let status = printed(etcdctl(peer, &["endpoint", "status", "-w", "json"]));
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status[0]["Status"]["dbSize"].as_u64().expect("a number")
}

/// What does not compress.
fn value(number: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let next = |state: &mut u64| {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (*state >> 56) as u8
    };
    (0..VALUE_BYTES).map(|_| next(&mut state)).collect()
}

/// Writes much and forgets nearly all of it.
async fn fill_and_compact(peer: &Peer, client: &Client) {
    for number in 0..VALUES {
        client.put(format!("k{}", number % 4), value(number)).await;
    }
    let revision = client.revision().await.to_string();
    printed(etcdctl(peer, &["compact", "--physical", &revision]));
}

/// Beside the other tasks of a test.
async fn defragment(peer: &Peer) {
    let command = etcdctl(peer, &["defrag"]);
    let said = tokio::task::spawn_blocking(|| printed(command)).await;
    let said = said.expect("it ends");
    assert!(
        said.starts_with("Finished defragmenting etcd member["),
        "{said}"
    );
}

async fn the_disk_gets_its_space_back(peer: Peer) {
    let client = peer.client();
    fill_and_compact(&peer, &client).await;
    let before = disk_bytes(&peer);
    assert!(
        before > (VALUES * VALUE_BYTES / 2) as u64,
        "{before} bytes are taken"
    );
    defragment(&peer).await;
    let after = disk_bytes(&peer);
    assert!(after < before / 2, "{before} bytes before, {after} after");
    let kept = client.range(get("k3")).await.expect("an answer");
    assert_eq!(kept.kvs[0].value, value(VALUES - 1));
    // Once more, of what needs none.
    defragment(&peer).await;
    assert_eq!(client.range(get("k3")).await.expect("an answer"), kept);
}

async fn who_writes_and_watches_meanwhile_notices_nothing(peer: Peer) {
    let client = peer.client();
    fill_and_compact(&peer, &client).await;
    let from = client.revision().await + 1;
    let mut stream = client.watch();
    stream.created(on_everything()).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let (writer, over) = (peer.client(), Arc::clone(&is_over));
    let writing = tokio::spawn(async move {
        let mut last = 0;
        while !over.load(Ordering::SeqCst) {
            last = writer.put("w", last.to_string()).await;
        }
        last
    });
    for _ in 0..3 {
        defragment(&peer).await;
    }
    is_over.store(true, Ordering::SeqCst);
    let last = writing.await.expect("writes go on");
    assert!(last > from, "something was written meanwhile");
    let mut next = from;
    while next <= last {
        for revision in revisions_in(&stream.next_events().await) {
            assert_eq!(revision, next, "each revision once");
            next += 1;
        }
    }
}

async fn nothing_is_lost_when_the_server_is_killed_afterwards(peer: Peer) {
    let mut peer = peer;
    let client = peer.client();
    fill_and_compact(&peer, &client).await;
    defragment(&peer).await;
    let last = client.put("after", "1").await;
    peer.restart().await;
    let client = peer.client();
    assert_eq!(client.revision().await, last);
    for (key, expected) in [("k0", value(VALUES - 4)), ("after", b"1".to_vec())] {
        let answer = client.range(get(key)).await.expect("an answer");
        assert_eq!(answer.kvs[0].value, expected, "{key}");
    }
    defragment(&peer).await;
    let answer = client.range(get("k3")).await.expect("an answer");
    assert_eq!(answer.kvs[0].value, value(VALUES - 1));
}
