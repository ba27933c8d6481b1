//! Reads: revisions, limits, counts, order, and what keys-only answers leave out.
//!
//! It reads only; what writes do is in `kv_txn`.

use crate::support::pb::lease_client::LeaseClient;
use crate::support::pb::range_request::{SortOrder, SortTarget};
use crate::support::pb::{LeaseGrantRequest, PutRequest, RangeRequest, RangeResponse};
use crate::support::requests::{get, get_prefix};
use crate::support::{Client, Peer, PeerKind};
use tonic::Code;

fn keys(answer: &RangeResponse) -> Vec<String> {
    let text = |key: &[u8]| String::from_utf8(key.to_vec()).expect("keys of these tests are text");
    answer.kvs.iter().map(|kv| text(&kv.key)).collect()
}

async fn read(client: &Client, request: RangeRequest) -> RangeResponse {
    client.range(request).await.expect("a range is answered")
}

pub(super) async fn p34_a_read_of_the_future_is_out_of_range(peer: &Peer) {
    let client = peer.client();
    let now = client.put("a", "1").await;
    let at = |revision| RangeRequest {
        revision,
        ..get("a")
    };
    let refused = client.range(at(now + 1)).await.expect_err("the future");
    assert_eq!(refused.code(), Code::OutOfRange);
    assert_eq!(
        refused.message(),
        "etcdserver: mvcc: required revision is a future revision"
    );
    // Now, and anything below zero, is now.
    for revision in [now, 0, -1, i64::MIN] {
        assert_eq!(keys(&read(&client, at(revision)).await), ["a"]);
    }
}

pub(super) async fn p35_limit_count_and_more_agree(peer: &Peer) {
    let client = peer.client();
    for number in 1..=5 {
        client.put(format!("a{number}"), "v").await;
    }
    client.put("b", "not counted").await;
    // Without and with a bound on the mod revision that a1 and a2 do not reach; the count does not care.
    for (min_mod_revision, there) in [(0, 5), (4, 3)] {
        for limit in [-1, 0, 1, 2, 3, 4, 5, 6] {
            let request = RangeRequest {
                limit,
                min_mod_revision,
                ..get_prefix("a")
            };
            let answer = read(&client, request).await;
            let wanted = if limit > 0 { limit.min(there) } else { there };
            let got = i64::try_from(answer.kvs.len()).expect("a count");
            assert_eq!(
                (got, answer.count, answer.more),
                (wanted, 5, wanted < there)
            );
            // The first of those that pass, in key order.
            let first = 6 - there;
            let expected: Vec<_> = (first..first + wanted).map(|n| format!("a{n}")).collect();
            assert_eq!(keys(&answer), expected);
        }
    }
    let counted = RangeRequest {
        count_only: true,
        limit: 2,
        ..get_prefix("a")
    };
    let answer = read(&client, counted).await;
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 5, false));
}

/// etcd fills in the lease up to 3.6. Vigil answers as etcd does since 3.7, from the index alone, without the lease.
pub(super) async fn p36_keys_only_answers_leave_out_the_value(peer: &Peer) {
    let client = peer.client();
    let grant = LeaseGrantRequest { ttl: 600, id: 4711 };
    let lease = match LeaseClient::new(client.channel()).lease_grant(grant).await {
        Ok(granted) => granted.into_inner().id,
        // Until Vigil serves leases a key cannot have one.
        Err(status) if peer.kind() == PeerKind::Vigil => {
            assert_eq!(status.code(), Code::Unimplemented);
            0
        }
        Err(status) => panic!("a lease is granted: {status}"),
    };
    let put = PutRequest {
        key: "a".into(),
        value: "value".into(),
        lease,
        ..PutRequest::default()
    };
    client.try_put(put).await.expect("a put");
    let whole = read(&client, get("a")).await.kvs[0].clone();
    assert_eq!((whole.value.as_ref(), whole.lease), (&b"value"[..], lease));
    let request = RangeRequest {
        keys_only: true,
        ..get("a")
    };
    let bare = read(&client, request).await.kvs[0].clone();
    assert_eq!((bare.key, bare.value.as_ref()), (whole.key, &b""[..]));
    assert_eq!(
        (bare.create_revision, bare.mod_revision, bare.version),
        (whole.create_revision, whole.mod_revision, whole.version)
    );
    let expected = match peer.kind() {
        PeerKind::Etcd => lease,
        PeerKind::Vigil => 0,
    };
    assert_eq!(bare.lease, expected);
}

pub(super) async fn p37_a_sort_orders_by_its_target(peer: &Peer) {
    let client = peer.client();
    // Key, value, puts: no two targets sort these alike, and a and d tie on the version.
    for (key, value, puts) in [("c", "2", 3), ("a", "9", 1), ("d", "5", 1), ("b", "7", 2)] {
        for _ in 0..puts {
            client.put(key, value).await;
        }
    }
    client.put("c", "2").await;
    let sorted = async |target: SortTarget, order: i32| {
        let request = RangeRequest {
            sort_order: order,
            sort_target: target.into(),
            ..get_prefix("")
        };
        let request = RangeRequest {
            key: "a".into(),
            ..request
        };
        keys(&read(&client, request).await)
    };
    let table = [
        (SortTarget::Key, ["a", "b", "c", "d"]),
        (SortTarget::Create, ["c", "a", "d", "b"]),
        (SortTarget::Mod, ["a", "d", "b", "c"]),
        (SortTarget::Value, ["c", "d", "b", "a"]),
    ];
    for (target, ascending) in table {
        let mut descending = ascending;
        descending.reverse();
        assert_eq!(sorted(target, SortOrder::Ascend.into()).await, ascending);
        assert_eq!(sorted(target, SortOrder::Descend.into()).await, descending);
        // A target without an order is ascending.
        assert_eq!(sorted(target, SortOrder::None.into()).await, ascending);
    }
    // Ties come in any order.
    let mut by_version = sorted(SortTarget::Version, SortOrder::Descend.into()).await;
    by_version[2..].sort();
    assert_eq!(by_version, ["c", "b", "a", "d"]);

    // Numbers that mean nothing: Vigil refuses them, as etcd does since 3.6. 3.5 does not look at the order, and a
    // target like that takes the server down (#13554), so it is not asked for one.
    let (order, target) = (7, 9);
    let unknown = match peer.kind() {
        PeerKind::Etcd => vec![(order, 0)],
        PeerKind::Vigil => vec![(order, 0), (1, target)],
    };
    for (sort_order, sort_target) in unknown {
        let unknown = RangeRequest {
            sort_order,
            sort_target,
            ..get("a")
        };
        match peer.kind() {
            PeerKind::Etcd => assert_eq!(keys(&read(&client, unknown).await), ["a"]),
            PeerKind::Vigil => {
                let refused = client.range(unknown).await.expect_err("unknown numbers");
                assert_eq!(refused.code(), Code::InvalidArgument);
                assert_eq!(refused.message(), "etcdserver: invalid sort option");
            }
        }
    }
}

pub(super) async fn p42_a_count_of_the_past_counts_the_past(peer: &Peer) {
    let client = peer.client();
    client.put("a1", "1").await;
    client.put("a2", "1").await;
    client.delete("a1", "").await;
    let now = client.put("a1", "2").await;
    for (revision, count) in [(2, 1), (3, 2), (4, 1), (5, 2), (0, 2)] {
        let request = RangeRequest {
            revision,
            count_only: true,
            ..get_prefix("a")
        };
        let answer = read(&client, request).await;
        assert_eq!(
            (answer.count, answer.kvs.len()),
            (count, 0),
            "at {revision}"
        );
        let header = answer.header.expect("a header").revision;
        assert_eq!(header, now, "the header is of today");
    }
    let request = RangeRequest {
        revision: 3,
        ..get("a1")
    };
    let old = read(&client, request).await.kvs[0].clone();
    assert_eq!((old.value.as_ref(), old.mod_revision), (&b"1"[..], 2));
}
