//! Compaction: what it accepts and what it leaves to be read.
//!
//! What it means for watches is in `watch_replay`.

use crate::support::pb::RangeRequest;
use crate::support::requests::get;
use crate::support::{Client, Peer};
use tonic::Code;

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

async fn refused(client: &Client, revision: i64, text: &str) {
    let status = client.compact(revision).await.expect_err("a refusal");
    assert_eq!((status.code(), status.message()), (Code::OutOfRange, text));
}

pub(super) async fn p41_a_compaction_moves_forward_only(peer: &Peer) {
    let client = peer.client();
    for value in ["1", "2", "3", "4"] {
        client.put("a", value).await;
    }
    let now = client.revision().await;
    assert_eq!(now, 5);
    refused(&client, now + 1, FUTURE).await;
    let answer = client.compact(3).await.expect("a compaction");
    assert_eq!(answer.header.expect("a header").revision, now);
    for old in [3, 2, 0, -1] {
        refused(&client, old, COMPACTED).await;
    }
    let at = |revision| RangeRequest {
        revision,
        ..get("a")
    };
    let status = client.range(at(2)).await.expect_err("compacted");
    assert_eq!(
        (status.code(), status.message()),
        (Code::OutOfRange, COMPACTED)
    );
    // The compact revision itself stays readable.
    for (revision, value) in [(3, "2"), (4, "3"), (0, "4")] {
        let answer = client.range(at(revision)).await.expect("a range");
        assert_eq!(answer.kvs[0].value, value);
    }
    client.compact(now).await.expect("up to now");
    refused(&client, now, COMPACTED).await;
    assert_eq!(
        client.range(at(now)).await.expect("a range").kvs[0].value,
        "4"
    );
    assert_eq!(
        client.put("a", "5").await,
        now + 1,
        "no revision was used up"
    );
}
