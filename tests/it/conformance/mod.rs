//! The same scripted exchanges with a real etcd and with Vigil, over every service, and the same answers but for what each
//! server has of its own.
//!
//! An exchange is a call of the JSON gateway or a request to a stream, so that what is compared is all that a client can
//! see: status, fields, numbers and texts. Where the two differ on purpose the exchange is not here but in `docs/differences.md`.

mod calls;
mod gateway;
mod json;
mod keys;
mod leases;
mod operations;
mod watch_script;
mod watches;

use crate::support::{Http, Peer, PeerKind};
use calls::Call;
use futures_util::{FutureExt, StreamExt, stream};
use serde_json::{Value, json};

/// Fields that each server fills in its own way, whatever is asked: who it is, and how large its files are.
const OWN: [&str; 17] = [
    "cluster_id",
    "member_id",
    "memberID",
    "raft_term",
    "leader",
    "version",
    "dbSize",
    "dbSizeInUse",
    "dbSizeQuota",
    "raftIndex",
    "raftAppliedIndex",
    "raftTerm",
    "storageVersion",
    "downgradeInfo",
    "hash",
    "details",
    "peerURLs",
];

/// So many pairs of servers are there at a time: each waits for its etcd to elect itself.
const AT_A_TIME: usize = 6;

/// Takes out what each server has of its own.
fn normalised(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let shared = fields.into_iter().filter(|(name, field)| {
                let is_leader_key = name == "leader" && field.is_object();
                is_leader_key || !OWN.contains(&name.as_str())
            });
            let shared = shared.map(|(name, field)| match (name.as_str(), &field) {
                ("name" | "clientURLs", _) => (name, json!("own")),
                ("members", Value::Array(members)) => {
                    let members = members.iter().cloned().map(without_id);
                    (name, members.map(normalised).collect())
                }
                // What a JSON reader says of JSON that is none.
                ("message" | "error", Value::String(text)) if is_own_words(text) => {
                    (name, json!("own words"))
                }
                _ => (name, normalised(field)),
            });
            Value::Object(shared.collect())
        }
        Value::Array(items) => items.into_iter().map(normalised).collect(),
        value => value,
    }
}

/// A member's id is random.
fn without_id(mut member: Value) -> Value {
    if let Some(fields) = member.as_object_mut() {
        fields.remove("ID");
    }
    member
}

fn is_own_words(text: &str) -> bool {
    let shared = ["etcdserver: ", "election: ", "mutex: ", "\"leader\" field"];
    text.contains(' ') && !shared.iter().any(|start| text.starts_with(start))
}

/// Time goes on between two looks at a lease.
fn without_time_left(mut value: Value) -> Value {
    if let Some(left) = value.get_mut("TTL")
        && left != "-1"
    {
        *left = json!("some");
    }
    value
}

/// What is compared of an answer to a call.
fn as_compared(call: &Call, text: &str) -> Vec<Value> {
    let mut reader = serde_json::Deserializer::from_str(text);
    // Answers are nested as deep as what they answer.
    reader.disable_recursion_limit();
    let values = reader.into_iter::<Value>();
    let Ok(values) = values.collect::<Result<Vec<Value>, _>>() else {
        // Where there is no call, there is no JSON.
        return vec![json!(text)];
    };
    let values = values.into_iter().map(normalised);
    if call.path.ends_with("timetolive") {
        values.map(without_time_left).collect()
    } else {
        values.collect()
    }
}

/// Vigil and etcd.
async fn both() -> [(Http, Peer); 2] {
    let start = async |kind| {
        let peer = Peer::start(kind).await;
        (Http::to(&peer), peer)
    };
    tokio::join!(start(PeerKind::Vigil), start(PeerKind::Etcd)).into()
}

/// Says how many exchanges of a kind were compared.
fn answered(name: &str, exchanges: usize) -> usize {
    eprintln!("{name}: {exchanges} exchanges");
    exchanges
}

/// Both servers get every call, and answer the same.
async fn compare(name: &str, calls: Vec<Call>) -> usize {
    let [(ours, _our_peer), (theirs, _their_peer)] = both().await;
    let count = calls.len();
    for call in calls {
        let Call { path, body } = &call;
        let (us, them) = tokio::join!(ours.post(path, body), theirs.post(path, body));
        assert_eq!(
            us.status, them.status,
            "{name}: {path} {body}: {us:?} {them:?}"
        );
        assert_eq!(
            as_compared(&call, &us.text),
            as_compared(&call, &them.text),
            "{name}: {path} {body}"
        );
    }
    answered(name, count)
}

#[tokio::test]
async fn nine_hundred_exchanges_and_more_are_answered_as_etcd_answers_them() {
    let calls = [
        ("ranges", keys::ranges()),
        ("puts", keys::puts()),
        ("transactions", keys::transactions()),
        ("deletes", keys::deletes()),
        ("compactions", keys::compactions()),
        ("leases", leases::leases()),
        ("locks", leases::locks()),
        ("elections", leases::elections()),
        ("operations", operations::operations()),
        ("what cannot be read", gateway::errors()),
        ("forms of JSON", json::forms()),
    ];
    let calls = calls.map(|(name, calls)| compare(name, calls).boxed_local());
    let scripts = watches::scripts().into_iter();
    let scripts = scripts.map(|script| watch_script::compare(script).boxed_local());
    let all = calls.into_iter().chain(scripts);
    let all = all.chain([gateway::streams().boxed_local()]);
    let compared = stream::iter(all).buffer_unordered(AT_A_TIME);
    let compared: usize = compared.collect::<Vec<_>>().await.into_iter().sum();
    eprintln!("{compared} exchanges in all");
    assert!(compared >= 900, "{compared}");
}
