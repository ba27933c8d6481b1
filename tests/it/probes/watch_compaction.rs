//! Late watches while history is compacted away under them: each is told everything, or that it cannot be.
//!
//! A watch that is told less than everything and goes on is the one fault that nobody would notice.

use crate::support::pb::{WatchCreateRequest, WatchResponse};
use crate::support::requests::{on_everything, op_delete, op_put};
use crate::support::{Client, History, Peer, Validator};
use futures_util::future::join_all;

const WRITERS: usize = 8;
const ROUNDS: usize = 60;
/// How much of history a compaction leaves.
const KEPT: i64 = 25;

async fn write(client: Client, history: &History, writer: usize) {
    for round in 0..ROUNDS {
        let key = |number: usize| format!("k{}", (writer * 3 + round + number) % 7);
        match round % 4 {
            0 => {
                let ops = vec![op_put(key(0), "t"), op_delete(key(1), "")];
                history.txn(&client, ops).await;
            }
            1 => history.delete(&client, key(2), "").await,
            2 if writer == 0 => {
                history
                    .compact(&client, history.acknowledged() - KEPT)
                    .await;
            }
            _ => {
                history
                    .put(&client, key(0), format!("{writer}-{round}"))
                    .await;
            }
        }
    }
}

/// Watches again and again, in turn from the beginning, from where compactions are, and from just before now.
async fn watch(client: Client, history: &History) -> Vec<(WatchCreateRequest, Vec<WatchResponse>)> {
    let mut logs = Vec::new();
    for round in 0..12 {
        let now = history.acknowledged();
        let start_revision = match round % 3 {
            0 => 1,
            1 => (now - KEPT).max(1),
            _ => (now - 3).max(1),
        };
        let create = WatchCreateRequest {
            start_revision,
            prev_kv: round % 2 == 0,
            ..on_everything()
        };
        let mut stream = client.watch();
        stream.create(create.clone());
        let log = stream.read_through(|| Some(now)).await;
        logs.push((create, log));
    }
    logs
}

pub(super) async fn p51_a_watch_across_compactions_is_told_all_or_cancelled(peer: &Peer) {
    let (client, history) = (peer.client(), History::default());
    history.puts(&client, "k", 50).await;
    history.compact(&client, KEPT).await;
    let writers = join_all((0..WRITERS).map(|writer| write(client.clone(), &history, writer)));
    let watches = join_all((0..4).map(|_| watch(client.clone(), &history)));
    let (_, logs) = tokio::join!(writers, watches);
    let replay = history.replay();
    let mut cancelled = 0;
    for (create, log) in logs.into_iter().flatten() {
        let mut validator = Validator::new(peer.kind(), &replay, [(0, create)]);
        validator
            .check_all(&log)
            .expect("what was written is what was told");
        cancelled += log.iter().filter(|response| response.canceled).count();
    }
    assert!(cancelled > 0, "those from the beginning come too late");
    assert!(replay.compactions.len() > 5, "{:?}", replay.compactions);
}
