//! Transactions: how operations are counted, what may not be changed twice, and what a compare of many keys means.
//!
//! A refused transaction changes nothing, which each refusal here checks by the revision.

use crate::support::pb::compare::{CompareResult, TargetUnion};
use crate::support::pb::{Compare, RequestOp, TxnRequest};
use crate::support::requests::{
    OPEN, all_of, compare, get, op_delete, op_put, op_range, op_txn, prefix_end,
};
use crate::support::{Client, Peer, PeerKind};
use tonic::Code;

const TOO_MANY: &str = "etcdserver: too many operations in txn request";

async fn refused(client: &Client, txn: TxnRequest, text: &str) {
    let before = client.revision().await;
    let status = client.txn(txn).await.expect_err("a refused transaction");
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, text)
    );
    assert_eq!(client.revision().await, before, "nothing was changed");
}

fn reads(count: usize) -> Vec<RequestOp> {
    (0..count).map(|_| op_range(get("a"))).collect()
}

pub(super) async fn p38_operations_are_counted_along_the_nesting(peer: &Peer) {
    let client = peer.client();
    let answer = client.txn(all_of(reads(128))).await.expect("128 are taken");
    assert_eq!(answer.responses.len(), 128);
    refused(&client, all_of(reads(129)), TOO_MANY).await;
    // Each of the three lists counts, also the one that does not run.
    let failure = TxnRequest {
        failure: reads(129),
        ..TxnRequest::default()
    };
    refused(&client, failure, TOO_MANY).await;
    let exists = compare("a", CompareResult::Greater, TargetUnion::Version(0));
    let conditions = TxnRequest {
        compare: vec![exists; 129],
        ..TxnRequest::default()
    };
    refused(&client, conditions, TOO_MANY).await;
    // A nested transaction has what the outer one leaves.
    let nesting = |outer: usize, inner: usize| {
        let mut ops = reads(outer - 1);
        ops.push(op_txn(all_of(reads(inner))));
        all_of(ops)
    };
    client.txn(nesting(127, 1)).await.expect("127 and 1");
    client.txn(nesting(1, 127)).await.expect("1 and 127");
    refused(&client, nesting(128, 1), TOO_MANY).await;
    refused(&client, nesting(2, 127), TOO_MANY).await;
}

pub(super) async fn p39_a_key_changes_once_in_a_transaction(peer: &Peer) {
    const TWICE: &str = "etcdserver: duplicate key given in txn request";
    let client = peer.client();
    let revision = client.put("b", "old").await;
    let twice = [
        vec![op_put("a", "1"), op_put("a", "2")],
        vec![op_put("b", "1"), op_delete("a", "c")],
        vec![op_delete("a", "c"), op_put("b", "1")],
        vec![op_delete("b", ""), op_put("b", "1")],
        vec![op_put("a", "1"), op_txn(all_of(vec![op_put("a", "2")]))],
        vec![op_txn(all_of(vec![op_delete("a", "c")])), op_put("b", "1")],
        vec![
            op_txn(all_of(vec![op_put("a", "1")])),
            op_txn(all_of(vec![op_put("a", "2")])),
        ],
        vec![
            op_txn(all_of(vec![op_delete("a", "c")])),
            op_txn(all_of(vec![op_put("b", "1")])),
        ],
        vec![op_txn(all_of(vec![op_put("b", "1")])), op_delete("a", "c")],
    ];
    for ops in twice {
        refused(&client, all_of(ops), TWICE).await;
    }
    // Both branches of one transaction may change a key, since only one of them runs.
    let either = TxnRequest {
        success: vec![op_put("a", "1")],
        failure: vec![op_put("a", "2")],
        ..TxnRequest::default()
    };
    client.txn(either).await.expect("one put runs");
    // Of two deletes the second finds nothing.
    let deletes = all_of(vec![op_delete("a", "c"), op_delete("b", "")]);
    let answer = client.txn(deletes).await.expect("deletes may overlap");
    assert_eq!(answer.responses.len(), 2);
    assert_eq!(answer.header.expect("a header").revision, revision + 2);
    client.put("b", "old").await;
    // etcd takes an open end literally when it looks for overlaps, and finds none: two changes of a key at one revision.
    let open = all_of(vec![op_delete("a", OPEN), op_put("b", "new")]);
    // Nor does it hold what a nested transaction deletes against what one before it puts.
    let siblings = all_of(vec![
        op_txn(all_of(vec![op_put("b", "newer")])),
        op_txn(all_of(vec![op_delete("a", "c")])),
    ]);
    match peer.kind() {
        PeerKind::Etcd => {
            client.txn(open).await.expect("accepted by etcd");
            let kv = client.range(get("b")).await.expect("a range").kvs[0].clone();
            assert_eq!(kv.version, 1, "deleted and put again");
            client.txn(siblings).await.expect("accepted by etcd");
            let answer = client.range(get("b")).await.expect("a range");
            assert!(answer.kvs.is_empty(), "put and deleted again");
        }
        PeerKind::Vigil => {
            refused(&client, open, TWICE).await;
            refused(&client, siblings, TWICE).await;
        }
    }
}

pub(super) async fn p53_transactions_are_nested_as_deep_as_messages_are_read(peer: &Peer) {
    let nested = |levels: usize| {
        let inner = all_of(vec![op_put("deep", "x")]);
        (0..levels).fold(inner, |inner, _| all_of(vec![op_txn(inner)]))
    };
    let client = peer.client();
    client.txn(nested(48)).await.expect("48 levels");
    let revision = client.revision().await;
    // The client of the tests reads no answer that is nested deeper.
    let made = async |levels: usize, revision: i64| {
        let unread = client.txn(nested(levels)).await.expect_err("too deep");
        assert_eq!(unread.code(), Code::Internal, "{unread:?}");
        assert_eq!(client.revision().await, revision, "it was made");
    };
    made(49, revision + 1).await;
    match peer.kind() {
        PeerKind::Etcd => {
            made(127, revision + 2).await;
            refused(&client, nested(128), TOO_MANY).await;
        }
        PeerKind::Vigil => {
            for levels in [50, 127, 200] {
                let status = client.txn(nested(levels)).await.expect_err("too deep");
                assert!(status.message().contains("recursion limit"), "{status:?}");
            }
            assert_eq!(client.revision().await, revision + 1, "none was made");
        }
    }
}

pub(super) async fn p40_a_compare_of_a_range_holds_for_every_key(peer: &Peer) {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let client = peer.client();
    client.put("k/1", "x").await;
    client.put("k/2", "x").await;
    client.put("k/2", "y").await;
    let holds = async |condition: Compare| {
        let txn = TxnRequest {
            compare: vec![condition],
            ..TxnRequest::default()
        };
        client.txn(txn).await.expect("a compare").succeeded
    };
    let over = |prefix: &'static str, result, given| Compare {
        range_end: prefix_end(prefix),
        ..compare(prefix, result, given)
    };
    let version = TargetUnion::Version;
    let value = |text: &'static str| TargetUnion::Value(text.into());
    assert!(holds(over("k/", Greater, version(0))).await, "both");
    assert!(!holds(over("k/", Equal, version(1))).await, "k/2 has 2");
    assert!(holds(over("k/", Less, version(3))).await, "both");
    assert!(!holds(over("k/", NotEqual, version(2))).await, "k/2 has 2");
    assert!(holds(over("k/", Greater, value("w"))).await, "bytewise");
    assert!(!holds(over("k/", Equal, value("x"))).await, "k/2 has y");
    // A range without keys is one key of zeros, but for the value, which is then never right.
    assert!(holds(over("none/", Equal, version(0))).await);
    assert!(!holds(over("none/", Greater, version(0))).await);
    assert!(holds(compare("none", Equal, TargetUnion::CreateRevision(0))).await);
    assert!(holds(compare("none", Equal, TargetUnion::ModRevision(0))).await);
    assert!(holds(compare("none", Equal, TargetUnion::Lease(0))).await);
    for result in [Equal, NotEqual, Greater, Less] {
        assert!(
            !holds(compare("none", result, value("x"))).await,
            "{result:?}"
        );
    }
}
