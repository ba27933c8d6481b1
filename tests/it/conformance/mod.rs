//! The same scripted exchanges with a real etcd and with Vigil, over every service, and the same answers but for what each
//! server has of its own.
//!
//! An exchange is a call of the JSON gateway, so that what is compared is all that a client can see: status, fields, numbers
//! and texts. Where the two differ on purpose the exchange is not here but in `docs/differences.md`.

mod calls;
mod keys;
mod leases;
mod operations;

use crate::support::{Http, Peer, PeerKind};
use calls::Call;
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

/// Both servers get every call, and answer the same.
async fn compare(name: &str, calls: Vec<Call>) -> usize {
    let ours = Peer::start(PeerKind::Vigil).await;
    let theirs = Peer::start(PeerKind::Etcd).await;
    let (ours, theirs) = ((Http::to(&ours), ours), (Http::to(&theirs), theirs));
    let count = calls.len();
    for Call { path, body } in calls {
        let us = ours.0.post(&path, &body).await;
        let them = theirs.0.post(&path, &body).await;
        assert_eq!(
            us.status, them.status,
            "{name}: {path} {body}: {us:?} {them:?}"
        );
        let read = |text: &str| -> Vec<Value> {
            let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
            let value = |value: serde_json::Result<Value>| normalised(value.expect("JSON"));
            let values = values.map(value);
            if path.ends_with("timetolive") {
                values.map(without_time_left).collect()
            } else {
                values.collect()
            }
        };
        assert_eq!(read(&us.text), read(&them.text), "{name}: {path} {body}");
    }
    count
}

#[tokio::test]
async fn three_hundred_exchanges_and_more_are_answered_as_etcd_answers_them() {
    let mut compared = 0;
    for (name, calls) in [
        ("ranges", keys::ranges()),
        ("puts", keys::puts()),
        ("transactions", keys::transactions()),
        ("deletes", keys::deletes()),
        ("compactions", keys::compactions()),
        ("leases", leases::leases()),
        ("locks", leases::locks()),
        ("elections", leases::elections()),
        ("operations", operations::operations()),
    ] {
        let calls = compare(name, calls).await;
        eprintln!("{name}: {calls} exchanges");
        compared += calls;
    }
    eprintln!("{compared} exchanges in all");
    assert!(compared >= 300, "{compared}");
}
