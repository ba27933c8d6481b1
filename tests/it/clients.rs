//! A client library that knows nothing of Vigil: what works with etcd works here.
//!
//! It uses the library as its users do, and never reaches round it.

use crate::support::{Peer, PeerKind, on_both_peers, within};
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, Compare, CompareOp, Error, EventType, GetOptions,
    PutOptions, SortOrder, SortTarget, Txn, TxnOp, WatchOptions, WatchResponse, WatchStream,
};

on_both_peers! {
    keys_are_put_read_and_deleted
    a_transaction_takes_the_branch_that_its_compares_say
    a_watch_tells_of_puts_and_deletes_until_it_is_cancelled
    a_watch_resumes_from_a_revision
    a_compacted_watch_says_where_history_begins
    a_member_names_itself_and_its_state
    what_an_operator_asks_for_is_answered
}

async fn connect(peer: &Peer) -> Client {
    Client::connect([peer.endpoint()], None)
        .await
        .expect("the library connects")
}

async fn next(stream: &mut WatchStream) -> WatchResponse {
    within("a watch response", stream.message())
        .await
        .expect("the stream lives")
        .expect("the stream goes on")
}

async fn keys_are_put_read_and_deleted(peer: Peer) {
    let mut client = connect(&peer).await;
    for (key, value) in [("a/1", "x"), ("a/2", "y"), ("a/3", "z")] {
        client.put(key, value, None).await.unwrap();
    }
    let options = PutOptions::new().with_prev_key();
    let answer = client.put("a/2", "Y", Some(options)).await.unwrap();
    assert_eq!(answer.prev_key().unwrap().value(), b"y");

    let options = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Mod, SortOrder::Descend)
        .with_limit(2);
    let answer = client.get("a/", Some(options)).await.unwrap();
    let keys: Vec<_> = answer
        .kvs()
        .iter()
        .map(|kv| kv.key_str().unwrap())
        .collect();
    assert_eq!(
        (keys, answer.count(), answer.more()),
        (vec!["a/2", "a/3"], 3, true)
    );

    let options = GetOptions::new().with_revision(3);
    let answer = client.get("a/2", Some(options)).await.unwrap();
    assert_eq!(answer.kvs()[0].value(), b"y");

    let answer = client.delete("a/1", None).await.unwrap();
    assert_eq!(answer.deleted(), 1);
    assert_eq!(client.get("a/1", None).await.unwrap().count(), 0);
}

async fn a_transaction_takes_the_branch_that_its_compares_say(peer: Peer) {
    let mut client = connect(&peer).await;
    client.put("lock", "free", None).await.unwrap();
    let acquire = || {
        Txn::new()
            .when([Compare::value("lock", CompareOp::Equal, "free")])
            .and_then([TxnOp::put("lock", "held", None), TxnOp::get("lock", None)])
            .or_else([TxnOp::get("lock", None)])
    };
    let first = client.txn(acquire()).await.unwrap();
    assert!(first.succeeded());
    assert_eq!(first.op_responses().len(), 2);
    let second = client.txn(acquire()).await.unwrap();
    assert!(!second.succeeded());
    assert_eq!(second.op_responses().len(), 1);
}

async fn a_watch_tells_of_puts_and_deletes_until_it_is_cancelled(peer: Peer) {
    let mut client = connect(&peer).await;
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut stream = client.watch("a/", Some(options)).await.unwrap();
    let created = next(&mut stream).await;
    assert!(created.created());
    client.put("a/1", "x", None).await.unwrap();
    client.delete("a/1", None).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        for event in next(&mut stream).await.events() {
            let prev = event.prev_kv().map(|kv| kv.value().to_vec());
            seen.push((event.event_type(), prev));
        }
    }
    let expected = [
        (EventType::Put, None),
        (EventType::Delete, Some(b"x".to_vec())),
    ];
    assert_eq!(seen, expected);

    stream.request_progress().await.unwrap();
    let progress = next(&mut stream).await;
    assert!(progress.events().is_empty());
    assert_eq!(progress.header().unwrap().revision(), 3);

    stream.cancel(created.watch_id()).await.unwrap();
    assert!(next(&mut stream).await.canceled());
}

async fn a_watch_resumes_from_a_revision(peer: Peer) {
    let mut client = connect(&peer).await;
    for number in 0..10 {
        client.put(format!("a/{number}"), "x", None).await.unwrap();
    }
    let options = WatchOptions::new().with_prefix().with_start_revision(7);
    let mut stream = client.watch("a/", Some(options)).await.unwrap();
    let mut revisions = Vec::new();
    while revisions.len() < 5 {
        let response = next(&mut stream).await;
        revisions.extend(
            response
                .events()
                .iter()
                .map(|event| event.kv().unwrap().mod_revision()),
        );
    }
    assert_eq!(revisions, [7, 8, 9, 10, 11]);
}

async fn a_compacted_watch_says_where_history_begins(peer: Peer) {
    let mut client = connect(&peer).await;
    for number in 0..5 {
        client.put("a", format!("{number}"), None).await.unwrap();
    }
    client.compact(4, None).await.unwrap();
    let options = WatchOptions::new().with_start_revision(2);
    let mut stream = client.watch("a", Some(options)).await.unwrap();
    assert!(next(&mut stream).await.created());
    let compacted = next(&mut stream).await;
    assert!(compacted.canceled());
    assert_eq!(compacted.compact_revision(), 4);

    let options = GetOptions::new().with_revision(2);
    match client.get("a", Some(options)).await {
        Err(Error::GRpcStatus(status)) => assert_eq!(
            status.message(),
            "etcdserver: mvcc: required revision has been compacted"
        ),
        other => panic!("a compacted read is refused: {other:?}"),
    }
}

async fn a_member_names_itself_and_its_state(peer: Peer) {
    let mut client = connect(&peer).await;
    client.put("a", "x", None).await.unwrap();
    let status = client.status().await.unwrap();
    assert_ne!(status.version(), "");
    assert!(status.db_size() > 0, "{}", status.db_size());
    assert_eq!(status.header().unwrap().revision(), 2);
    assert_eq!(
        status.leader(),
        status.header().unwrap().member_id(),
        "it leads"
    );
    if peer.kind() == PeerKind::Etcd {
        assert!(status.raft_index() > 0);
    }

    let members = client.member_list().await.unwrap();
    let [member] = members.members() else {
        panic!("one member: {members:?}");
    };
    assert_eq!(member.id(), status.leader());
    assert_eq!(member.name(), "default");
    let url = format!("http://{}", peer.endpoint());
    assert_eq!(member.client_urls(), [url]);
    assert!(!member.is_learner());
}

async fn what_an_operator_asks_for_is_answered(peer: Peer) {
    let mut client = connect(&peer).await;
    for value in ["1", "2", "3"] {
        client.put("a", value, None).await.unwrap();
    }
    let status = client.status().await.unwrap();
    let member = status.header().unwrap().member_id();
    assert!(status.db_size() > 0 && status.leader() == member);

    let hash = client.hash().await.unwrap().hash();
    let (first, last) = (
        client.hash_kv(2).await.unwrap().hash(),
        client.hash_kv(0).await.unwrap().hash(),
    );
    assert_ne!(first, last);
    client.defragment().await.unwrap();
    assert_eq!(client.hash_kv(0).await.unwrap().hash(), last);
    assert_eq!(client.hash_kv(2).await.unwrap().hash(), first);

    let mut snapshot = client.snapshot().await.unwrap();
    let (mut bytes, mut left) = (0, None);
    while let Some(part) = within("a part", snapshot.message()).await.unwrap() {
        bytes += part.blob().len();
        left = Some(part.remaining_bytes());
    }
    assert!(bytes > 0 && left == Some(0), "{bytes} bytes, {left:?} left");
    assert_ne!(hash, 0);

    let of_it = || {
        let mut options = AlarmOptions::new();
        options.with_member(member);
        Some(options)
    };
    let alarm = AlarmType::Nospace;
    for (action, raised) in [
        (AlarmAction::Get, 0),
        (AlarmAction::Activate, 1),
        (AlarmAction::Get, 1),
        (AlarmAction::Deactivate, 1),
        (AlarmAction::Get, 0),
    ] {
        let told = client.alarm(action, alarm, of_it()).await.unwrap();
        assert_eq!(told.alarms().len(), raised, "{action:?}");
    }
    client.move_leader(member).await.unwrap();
    let refused = client.move_leader(member ^ 1).await.unwrap_err();
    assert!(
        refused.to_string().contains("bad leader transferee"),
        "{refused}"
    );
}
