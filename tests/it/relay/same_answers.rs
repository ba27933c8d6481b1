//! The same call, made directly and through the relay, has the same answer to the last byte.

use super::raw::{call, call_with};
use crate::support::pb::{self, PutRequest};
use crate::support::requests::{all_of, get, get_prefix, op_put};
use crate::support::{Client, Http, Peer, PeerKind, Relay, within};
use prost::Message;
use serde_json::json;
use tonic::Code;

const RANGE: &str = "/etcdserverpb.KV/Range";

#[tokio::test]
async fn reads_have_the_same_bytes() {
    let peer = Peer::relayed().await;
    let (relayed, direct) = (peer.client(), peer.behind().client());
    for n in 0..20 {
        relayed.put(format!("k{n}"), vec![n; 1000]).await;
    }
    let range = get_prefix("k").encode_to_vec();
    // Field 100 is nobody's.
    let unknown = [range.clone(), vec![0xa2, 0x06, 0x01, b'x']].concat();
    let at = pb::RangeRequest {
        revision: 99,
        ..get("k1")
    };
    let calls = [
        (RANGE, range),
        (RANGE, unknown),
        (RANGE, at.encode_to_vec()),
        (RANGE, b"\xff".to_vec()),
        ("/etcdserverpb.KV/Nothing", Vec::new()),
        ("/etcdserverpb.Nothing/Nothing", Vec::new()),
        ("/etcdserverpb.Lease/LeaseLeases", Vec::new()),
        ("/etcdserverpb.Lease/LeaseRevoke", vec![0x08, 0x07]),
        ("/etcdserverpb.Cluster/MemberList", Vec::new()),
        ("/etcdserverpb.Maintenance/Hash", Vec::new()),
        ("/etcdserverpb.Maintenance/HashKV", Vec::new()),
        ("/etcdserverpb.Maintenance/Status", Vec::new()),
        ("/etcdserverpb.Maintenance/Alarm", Vec::new()),
        ("/etcdserverpb.Auth/AuthStatus", Vec::new()),
        ("/etcdserverpb.Auth/Authenticate", Vec::new()),
        ("/v3electionpb.Election/Leader", Vec::new()),
    ];
    for (path, message) in calls {
        // An alarm that is asked for is a raft entry of its own, so the numbers of Status come before it.
        let theirs = call(direct.channel(), path, message.clone()).await;
        let ours = call(relayed.channel(), path, message).await;
        assert_eq!(ours, theirs, "{path}");
    }
}

#[tokio::test]
async fn writes_are_answered_with_the_clusters_header() {
    let peer = Peer::relayed().await;
    let (relayed, direct) = (peer.client(), peer.behind().client());
    let header = direct.range(get("a")).await.unwrap().header.unwrap();
    let put = PutRequest {
        key: "a".into(),
        value: "1".into(),
        ..PutRequest::default()
    };
    let put = relayed.try_put(put).await.unwrap().header.unwrap();
    let expected = pb::ResponseHeader {
        revision: header.revision + 1,
        ..header
    };
    assert_eq!(put, expected);
    let txn = all_of(vec![op_put("a", "2"), op_put("b", "2")]);
    let txn = relayed.txn(txn).await.unwrap().header.unwrap();
    assert_eq!(txn.revision, header.revision + 2);
    let deleted = relayed.delete("a", "").await;
    assert_eq!(deleted.deleted, 1);
    assert_eq!(deleted.header.unwrap().cluster_id, header.cluster_id);
    assert_eq!(direct.range(get("b")).await.unwrap().kvs[0].value, "2");
}

async fn put_of(client: &Client, bytes: usize) -> Result<i64, (Code, String)> {
    let put = PutRequest {
        key: "large".into(),
        value: vec![b'v'; bytes].into(),
        ..PutRequest::default()
    };
    let put = client.try_put(put).await;
    put.map(|answer| answer.header.unwrap().revision)
        .map_err(|status| (status.code(), status.message().to_owned()))
}

#[tokio::test]
async fn what_is_large_is_taken_or_refused_as_by_the_cluster() {
    let peer = Peer::relayed().await;
    let (relayed, direct) = (peer.client(), peer.behind().client());
    put_of(&relayed, (3 << 19) - 1000).await.unwrap();
    let read = relayed.range(get("large")).await.unwrap();
    assert_eq!(read.kvs[0].value.len(), (3 << 19) - 1000);
    // More than a request may be, and more than a message may be.
    for bytes in [3 << 19, (2 << 20) + 1] {
        let theirs = put_of(&direct, bytes).await.unwrap_err();
        assert_eq!(put_of(&relayed, bytes).await.unwrap_err(), theirs);
    }
    let many = relayed.range(get("large")).await.unwrap();
    assert_eq!(many.count, 1, "the connection goes on");
}

/// A message whose fields are all strings, in their order.
fn strings(fields: &[&str]) -> Vec<u8> {
    let fields = fields.iter().zip(1_u8..);
    let each = fields.flat_map(|(text, number)| {
        let length = u8::try_from(text.len()).expect("short");
        [&[number << 3 | 2, length], text.as_bytes()].concat()
    });
    each.collect()
}

#[tokio::test]
async fn users_are_made_and_their_tokens_passed_on() {
    let peer = Peer::relayed().await;
    let channel = || peer.client().channel();
    let made = [
        ("/etcdserverpb.Auth/UserAdd", strings(&["root", "secret"])),
        ("/etcdserverpb.Auth/RoleAdd", strings(&["root"])),
        (
            "/etcdserverpb.Auth/UserGrantRole",
            strings(&["root", "root"]),
        ),
        ("/etcdserverpb.Auth/AuthEnable", Vec::new()),
    ];
    for (path, message) in made {
        call(channel(), path, message).await.expect(path);
    }
    // The relay is no user, and is told nothing but that; the cluster is well all the same.
    for path in ["/readyz", "/health"] {
        let checked = Http::to(&peer).get(path).await;
        assert_eq!(checked.status, 200, "{}", checked.text);
    }
    let range = get("a").encode_to_vec();
    let refused = call(channel(), RANGE, range.clone()).await.unwrap_err();
    assert_eq!(
        (refused.0, refused.1.as_str()),
        (Code::InvalidArgument, "etcdserver: user name is empty")
    );
    let asked = strings(&["root", "secret"]);
    let answer = call(channel(), "/etcdserverpb.Auth/Authenticate", asked).await;
    // The token is the second field, behind the header.
    let answer = answer.unwrap();
    let header_bytes = usize::from(answer[1]);
    let token = std::str::from_utf8(&answer[2 + header_bytes + 2..]).unwrap();
    for name in ["token", "authorization"] {
        let allowed = call_with(channel(), RANGE, range.clone(), &[(name, token)]).await;
        allowed.unwrap();
    }
    let wrong = call_with(channel(), RANGE, range, &[("token", "wrong")]).await;
    assert_eq!(wrong.unwrap_err().0, Code::Unauthenticated);
}

#[tokio::test]
async fn a_relay_before_a_relay_is_no_other_than_one() {
    let etcd = Peer::start(PeerKind::Etcd).await;
    let first = Relay::before(&[etcd.endpoint()]).await;
    let second = Relay::before(&[first.endpoint()]).await;
    let client = second.connect().await;
    let revision = client.put("a", "1").await;
    let range = get("a").encode_to_vec();
    let theirs = call(etcd.client().channel(), RANGE, range.clone()).await;
    assert_eq!(call(client.channel(), RANGE, range).await, theirs);
    assert_eq!(etcd.client().revision().await, revision);
    let ready = Http::at(second.endpoint()).get("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text);
}

#[tokio::test]
async fn json_is_answered_as_by_the_cluster() {
    let peer = Peer::relayed().await;
    let (relayed, direct) = (Http::to(&peer), Http::to(peer.behind()));
    let put = json!({"key": "YQ==", "value": "MQ=="}).to_string();
    let put = relayed.post("/v3/kv/put", &put).await;
    assert_eq!(put.json()["header"]["revision"], "2", "{}", put.text);
    let read = json!({"key": "YQ=="}).to_string();
    let future = json!({"key": "YQ==", "revision": 99}).to_string();
    for (path, body) in [
        ("/v3/kv/range", read.as_str()),
        ("/v3/kv/range", future.as_str()),
        ("/v3/kv/range", "{}"),
        ("/v3/cluster/member/list", "{}"),
        ("/v3/auth/status", "{}"),
        ("/v3/auth/authenticate", "{\"name\": \"a\"}"),
        ("/v3/auth/role/get", "{\"role\": \"nobody's\"}"),
        ("/v3/maintenance/hash", "{}"),
        ("/v3/lease/leases", "{}"),
        ("/v3/lease/timetolive", "{\"ID\": \"9\"}"),
    ] {
        let (ours, theirs) = (
            relayed.post(path, body).await,
            direct.post(path, body).await,
        );
        assert_eq!(ours.status, theirs.status, "{path}");
        if theirs.status == 200 {
            assert_eq!(ours.json(), theirs.json(), "{path}");
        } else {
            assert_eq!(ours.json()["message"], theirs.json()["message"], "{path}");
            assert_eq!(ours.json()["code"], theirs.json()["code"], "{path}");
        }
    }
    let lease = relayed.post("/v3/lease/grant", "{\"TTL\": \"600\"}").await;
    let id = lease.json()["ID"].as_str().unwrap().to_owned();
    let asked = json!({"ID": id}).to_string();
    let mut kept = relayed.stream("/v3/lease/keepalive", &asked).await;
    let kept = within("a keep-alive", kept.json()).await;
    assert_eq!(kept["result"]["TTL"], "600");
    assert_eq!(kept["result"]["ID"], id.as_str());
}
