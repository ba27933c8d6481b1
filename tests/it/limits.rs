//! Every limit that can be set from outside, set to one: the server says no in plain words, or goes on more slowly; it
//! never hangs and never loses anything.
//!
//! What the limits are by default is asked by the probes.

use crate::support::pb::{PutRequest, WatchCreateRequest};
use crate::support::requests::{all_of, get, on, on_everything, on_prefix, op_delete, op_put};
use crate::support::{Client, History, Peer, PeerKind, Setup, Validator, eventually, within};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use tonic::Code;

async fn limited(flag: &str) -> Peer {
    Setup::new(PeerKind::Vigil).flag(flag, "1").start().await
}

async fn takes_one_operation(client: Client) {
    let one = all_of(vec![op_put("a", "1")]);
    client.txn(one).await.expect("one operation");
    let two = all_of(vec![op_put("a", "1"), op_put("b", "1")]);
    let refused = client.txn(two).await.expect_err("two operations");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(
        refused.message(),
        "etcdserver: too many operations in txn request"
    );
}

#[tokio::test]
async fn one_operation_in_a_transaction() {
    takes_one_operation(limited("--txn-ops-max").await.client()).await;
}

#[tokio::test]
async fn a_limit_may_come_from_the_environment() {
    let setup = Setup::new(PeerKind::Vigil).env("VIGIL_TXN_OPS_MAX", "1");
    takes_one_operation(setup.start().await.client()).await;
}

#[tokio::test]
async fn requests_of_one_byte() {
    let peer = limited("--request-bytes-max").await;
    let client = peer.client();
    let put = PutRequest {
        key: "a".into(),
        value: "1".into(),
        ..PutRequest::default()
    };
    let refused = client.try_put(put).await.expect_err("more than a byte");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "etcdserver: request is too large");
    assert_eq!(client.range(get("a")).await.expect("reads go on").count, 0);
}

#[tokio::test]
async fn one_call_at_a_time_on_a_connection() {
    let peer = limited("--streams-per-connection-max").await;
    let (client, other) = (peer.client(), peer.connect().await);
    let mut stream = client.watch();
    stream.created(on("a")).await;
    let mut waiting = pin!(client.put("a", "waiting"));
    // While the stream is open the call waits; meanwhile other connections do as they please.
    for _ in 0..20 {
        let waits = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
        assert!(waits, "a second call on the connection");
        other.put("b", "1").await;
    }
    drop(stream);
    assert_eq!(waiting.await, 22, "after the twenty others");
}

#[tokio::test]
async fn one_watch_on_a_stream() {
    let peer = limited("--watches-per-stream-max").await;
    let (client, mut stream) = (peer.client(), peer.watch());
    let id = stream.created(on("a")).await.watch_id;
    let refusal = stream.rejected(on("b")).await;
    assert!(
        refusal.cancel_reason.contains('1'),
        "it says the limit: {refusal:?}"
    );
    // The other streams have one each, and the first watch is not disturbed.
    peer.watch().created(on("b")).await;
    client.put("a", "1").await;
    assert_eq!(stream.next_events().await.watch_id, id);
    stream.cancel(id);
    assert!(stream.next().await.canceled);
    stream.created(on("b")).await;
}

#[tokio::test]
async fn one_watch_on_the_server() {
    let peer = limited("--watches-max").await;
    let (mut first, mut second) = (peer.watch(), peer.connect().await.watch());
    first.created(on("a")).await;
    let refusal = second.rejected(on("b")).await;
    assert!(
        refusal.cancel_reason.contains('1'),
        "it says the limit: {refusal:?}"
    );
    // A stream that its client drops gives its watches back.
    drop(first);
    eventually("the place is free again", async || {
        second.create(on("b"));
        let answer = second.next().await;
        if answer.canceled {
            Err(answer.cancel_reason)
        } else {
            Ok(())
        }
    })
    .await;
}

/// Puts, deletes and transactions from several writers, while watches of all kinds look on.
async fn goes_on(setup: Setup) {
    let peer = setup.start().await;
    let history = History::default();
    let creates = [
        on_everything(),
        WatchCreateRequest {
            prev_kv: true,
            fragment: true,
            ..on_prefix("k/")
        },
        WatchCreateRequest {
            start_revision: 1,
            prev_kv: true,
            ..on_everything()
        },
        WatchCreateRequest {
            start_revision: 100,
            filters: vec![1],
            ..on_prefix("k/0000")
        },
    ];
    let client = peer.client();
    history.puts(&client, "k/", 150).await;
    let mut stream = peer.watch();
    for create in &creates {
        stream.create(create.clone());
    }
    let writing = async {
        history.puts(&client, "k/", 150).await;
        for round in 0..50 {
            let ops = vec![
                op_put("k/x", "1"),
                op_put("k/y", "2"),
                op_delete("k/00000", "k/00001"),
            ];
            history.txn(&client, ops).await;
            history.delete(&client, format!("k/{round:06}"), "").await;
        }
    };
    within("the writes", writing).await;
    let log = stream.read_through(|| Some(history.last())).await;
    let replay = history.replay();
    let mut validator = Validator::new(peer.kind(), &replay, (0..).zip(creates));
    validator
        .check_all(&log)
        .expect("what was written is what was told");
    validator.complete(history.last()).expect("all of it");
    let answer = client.range(get("k/x")).await.expect("a range");
    assert_eq!(answer.kvs[0].version, 50);
}

fn with(flags: &[&str]) -> Setup {
    flags
        .iter()
        .fold(Setup::new(PeerKind::Vigil), |setup, flag| {
            setup.flag(flag, "1")
        })
}

#[tokio::test]
async fn an_outbox_of_one_byte() {
    goes_on(with(&["--outbox-bytes-max"])).await;
}

#[tokio::test]
async fn a_mailbox_of_one_message() {
    goes_on(with(&["--mailbox-messages-max"])).await;
}

#[tokio::test]
async fn deliveries_of_one_byte() {
    goes_on(with(&["--delivery-bytes-max"])).await;
}

#[tokio::test]
async fn a_ring_of_one_byte() {
    goes_on(with(&["--ring-bytes-max"])).await;
}

#[tokio::test]
async fn a_value_cache_of_one_byte() {
    goes_on(with(&["--value-cache-bytes-max"])).await;
}

#[tokio::test]
async fn all_of_them_at_once() {
    goes_on(with(&[
        "--outbox-bytes-max",
        "--mailbox-messages-max",
        "--delivery-bytes-max",
        "--ring-bytes-max",
        "--value-cache-bytes-max",
    ]))
    .await;
}
