//! Kills of a server that compacts by itself, in the middle of that.
//!
//! Nobody asks for a compaction here, so whatever is compacted was the server's own doing.

use super::{Dice, count};
use crate::support::requests::get;
use crate::support::{Client, PeerKind, Setup, eventually};
use tonic::Code;

/// Kills in a run of all tests: between two of them the server has to compact by itself.
const KILLS: usize = 5;
const KEYS: u64 = 10;

fn key(number: u64) -> String {
    format!("k{}", number % KEYS)
}

/// Puts the next number; answers the revision when it is acknowledged.
async fn put_next(client: &Client, number: &mut u64) -> i64 {
    *number += 1;
    client.put(key(*number), number.to_string()).await
}

/// Writes until a revision that can be read now is compacted.
async fn write_until_compacted(client: &Client, number: &mut u64) {
    let mark = put_next(client, number).await;
    eventually("it compacts by itself", async || {
        put_next(client, number).await;
        let mut read = get(key(0));
        read.revision = mark;
        match client.range(read).await {
            Ok(_) => Err(format!("revision {mark} can be read")),
            Err(status) => {
                assert_eq!(status.code(), Code::OutOfRange, "{status}");
                Ok(())
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_kill_in_a_compaction_of_its_own_takes_nothing() {
    let setup = Setup::new(PeerKind::Vigil).flag("--auto-compaction-retention", "500ms");
    let mut peer = setup.start().await;
    let mut dice = Dice(count("VIGIL_CRASH_SEED", 1) as u64);
    let mut number = 0;
    for kill in 0..count("VIGIL_CRASH_KILLS", KILLS).min(KILLS * 10) {
        let client = peer.client();
        write_until_compacted(&client, &mut number).await;
        for _ in 0..dice.below(40) {
            put_next(&client, &mut number).await;
        }
        let before = client.revision().await;
        peer.restart().await;
        let client = peer.client();
        assert_eq!(client.revision().await, before, "kill {kill}");
        for last in number.saturating_sub(KEYS - 1)..=number {
            let answer = client.range(get(key(last))).await.expect("an answer");
            let values: Vec<_> = answer.kvs.iter().map(|kv| kv.value.clone()).collect();
            assert_eq!(values, [last.to_string()], "kill {kill}, {}", key(last));
        }
    }
    eprintln!("{number} puts, all there");
}
