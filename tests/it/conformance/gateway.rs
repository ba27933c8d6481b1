//! The JSON gateway: its streams, and what every service says of what it cannot read.
//!
//! Calls that are answered by one document are in the other files; KV's errors are in `http::compared`.

use super::calls::{Call, call, put, text};
use super::{answered, as_compared, both, normalised};
use crate::support::Http;
use crate::support::http::Lines;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Requests to a stream, which are all there from the first since etcd answers only then; how many lines they bring; then
/// calls beside it, and how many lines each of those brings.
#[derive(Clone, Debug)]
struct Stream {
    path: &'static str,
    requests: Vec<Value>,
    lines: usize,
    then: Vec<(Call, usize)>,
}

/// A field of each service's calls, and what is no value of it.
const UNREADABLE: [(&str, &str, &[&str]); 18] = [
    ("lease/grant", "TTL", &["{}", "\"x\"", "true", "[]", "1.5"]),
    ("lease/revoke", "ID", &["{}", "\"x\"", "false", "[]"]),
    ("lease/timetolive", "ID", &["{}", "\"7x\"", "true"]),
    ("lease/timetolive", "keys", &["1", "\"yes\"", "{}"]),
    ("lock/lock", "name", &["5", "\"%\"", "{}", "[]"]),
    ("lock/unlock", "key", &["5", "\"%\"", "true"]),
    ("election/campaign", "value", &["5", "\"%\"", "{}"]),
    ("election/proclaim", "leader", &["3", "\"x\"", "[]"]),
    ("election/leader", "name", &["3", "\"%\"", "[]"]),
    ("election/resign", "leader", &["3", "\"x\"", "true"]),
    ("cluster/member/add", "peerURLs", &["\"x\"", "[1]", "{}"]),
    ("cluster/member/remove", "ID", &["-1", "\"x\"", "{}"]),
    ("cluster/member/update", "ID", &["-1", "\"x\"", "[]"]),
    ("cluster/member/promote", "ID", &["-1", "\"x\"", "true"]),
    ("cluster/member/list", "linearizable", &["1", "\"x\""]),
    (
        "maintenance/alarm",
        "action",
        &["{}", "[]", "true", "\"NOPE\""],
    ),
    (
        "maintenance/transfer-leadership",
        "targetID",
        &["[]", "\"x\"", "-1"],
    ),
    ("maintenance/downgrade", "version", &["5", "{}", "[]"]),
];

/// Calls that nobody can read, and some that say nothing.
pub(super) fn errors() -> Vec<Call> {
    let of = |path: &str, body: String| Call {
        path: format!("/v3/{path}"),
        body,
    };
    let mut calls = Vec::new();
    for (path, field, values) in UNREADABLE {
        for value in values {
            calls.push(of(path, format!("{{\"{field}\":{value}}}")));
        }
        calls.push(of(path, "{".to_owned()));
        calls.push(of(path, "[]".to_owned()));
    }
    for path in [
        "lease/revoke",
        "lease/timetolive",
        "lease/leases",
        "lock/unlock",
        "election/proclaim",
        "election/leader",
        "election/resign",
        "cluster/member/remove",
        "cluster/member/update",
        "cluster/member/promote",
        "cluster/member/list",
        "maintenance/status",
        "maintenance/alarm",
        "maintenance/transfer-leadership",
        "maintenance/downgrade",
        "auth/authenticate",
    ] {
        calls.push(of(path, String::new()));
        calls.push(of(path, "{}".to_owned()));
        calls.push(of(path, "{\"nobody\":{\"knows\":[1]}}".to_owned()));
    }
    for path in [
        "lease/grant/",
        "lease",
        "Lease/leases",
        "lock/",
        "election/nobody",
        "maintenance/status/x",
        "cluster/member",
        "auth",
    ] {
        calls.push(of(path, "{}".to_owned()));
    }
    for path in [
        "/v3beta/lease/leases",
        "/v3beta/cluster/member/list",
        "/v3beta/maintenance/status",
        "/v3beta/lock/unlock",
        "/v3alpha/lease/leases",
    ] {
        let path = path.to_owned();
        let body = "{}".to_owned();
        calls.push(Call { path, body });
    }
    calls
}

fn delete(key: &str) -> Call {
    call("kv/deleterange", &json!({"key": text(key)}))
}

fn create(of: Value) -> Value {
    json!({ "create_request": of })
}

fn watch(requests: Vec<Value>, lines: usize, then: Vec<(Call, usize)>) -> Stream {
    Stream {
        path: "/v3/watch",
        requests,
        lines,
        then,
    }
}

/// Watches of what comes.
fn live_watches() -> Vec<Stream> {
    let a = || text("a");
    vec![
        watch(
            vec![create(json!({"key": a()}))],
            1,
            vec![
                (put("a", "x"), 1),
                (put("b", "x"), 0),
                (delete("a"), 1),
                (put("a", "4"), 1),
            ],
        ),
        watch(
            vec![create(
                json!({"key": a(), "prev_kv": true, "filters": ["NOPUT"]}),
            )],
            1,
            vec![(put("a", "x"), 0), (delete("a"), 1), (put("a", "4"), 0)],
        ),
        watch(
            vec![create(
                json!({"key": a(), "range_end": text("c"), "filters": ["NODELETE", 1]}),
            )],
            1,
            vec![
                (delete("a"), 0),
                (put("a", "4"), 1),
                (put("b", "y"), 1),
                (put("c", "y"), 0),
            ],
        ),
        watch(
            vec![create(json!({"key": "AA==", "range_end": "AA=="}))],
            1,
            vec![(
                call(
                    "kv/txn",
                    &json!({"success": [
                        {"request_put": {"key": text("n"), "value": text("1")}},
                        {"request_delete_range": {"key": text("c"), "range_end": text("d")}},
                        {"request_put": {"key": text("m"), "value": text("1")}},
                    ]}),
                ),
                1,
            )],
        ),
    ]
}

/// One request each, over a store with four revisions of a, which was compacted at 3, and one of b.
fn odd_watches() -> Vec<Stream> {
    let a = || text("a");
    let one = |of: Value, lines| watch(vec![create(of)], lines, vec![]);
    vec![
        one(json!({"key": a(), "start_revision": 3}), 2),
        one(json!({"key": a(), "startRevision": "4", "prevKv": true}), 2),
        one(json!({"key": a(), "start_revision": 2}), 2),
        one(json!({"key": a(), "start_revision": 1, "watch_id": 6}), 2),
        one(json!({"key": a(), "start_revision": -1}), 1),
        one(
            json!({"key": a(), "start_revision": "9223372036854775807"}),
            1,
        ),
        one(json!({"key": text("b"), "range_end": text("b")}), 1),
        one(
            json!({"key": text("b"), "rangeEnd": a(), "watchId": "7"}),
            1,
        ),
        one(json!({}), 1),
        one(
            json!({"key": a(), "fragment": true, "progress_notify": true}),
            1,
        ),
        one(json!({"key": a(), "filters": []}), 1),
        one(json!({"key": a(), "filters": ["NOPE"]}), 1),
        one(json!({"key": a(), "watch_id": "9223372036854775807"}), 1),
        one(json!({"key": a(), "nobody": {"knows": 1}}), 1),
    ]
}

/// Several requests to one stream.
fn several_watches() -> Vec<Stream> {
    let a = || text("a");
    let cancel = |id: i64| json!({"cancel_request": {"watch_id": id}});
    vec![
        watch(
            (0..3).map(|_| create(json!({"key": a()}))).collect(),
            3,
            vec![(put("a", "5"), 3)],
        ),
        watch(
            (0..3)
                .map(|_| create(json!({"key": a(), "watch_id": 5})))
                .collect(),
            3,
            vec![(put("a", "6"), 1)],
        ),
        watch(
            vec![cancel(5), create(json!({"key": a(), "watch_id": 5}))],
            1,
            vec![(put("a", "7"), 1)],
        ),
        watch(
            vec![
                create(json!({"key": a(), "watch_id": 5})),
                cancel(5),
                create(json!({"key": a(), "watch_id": 5})),
            ],
            3,
            vec![(put("a", "8"), 1)],
        ),
        watch(
            vec![
                create(json!({"key": a(), "watch_id": 2})),
                json!({"cancelRequest": {"watchId": "2"}}),
                cancel(2),
            ],
            2,
            vec![(put("a", "9"), 0)],
        ),
        watch(
            vec![json!({}), create(json!({"key": a()})), json!({"nobody": 1})],
            1,
            vec![(delete("a"), 1)],
        ),
        watch(
            vec![create(json!({"key": a()})), json!({"progress_request": {}})],
            2,
            vec![],
        ),
        watch(
            vec![create(json!({"key": a()})), json!({"progressRequest": {}})],
            2,
            vec![(put("a", "1"), 1)],
        ),
    ]
}

/// Leases that are kept alive, and an election that is followed.
fn others() -> Vec<Stream> {
    let keep = |ids: &[i64]| Stream {
        path: "/v3/lease/keepalive",
        requests: ids.iter().map(|id| json!({"ID": id})).collect(),
        lines: ids.len(),
        then: vec![],
    };
    let proclaim = |value: &str| {
        let leader = json!({"name": text("race"), "key": text("race/7"), "rev": "2", "lease": "7"});
        call(
            "election/proclaim",
            &json!({"leader": leader, "value": text(value)}),
        )
    };
    let campaign = |value: &str| {
        let body = json!({"name": text("race"), "lease": 7, "value": text(value)});
        call("election/campaign", &body)
    };
    let observe = |then| Stream {
        path: "/v3/election/observe",
        requests: vec![json!({"name": text("race")})],
        lines: 1,
        then,
    };
    vec![
        keep(&[7]),
        keep(&[7, 7, 7]),
        keep(&[7, 99, -1, 0, 7]),
        observe(vec![
            (proclaim("two"), 1),
            (put("race", "beside"), 0),
            (proclaim("two"), 1),
        ]),
        observe(vec![
            (call("lease/grant", &json!({"ID": 8, "TTL": 600})), 0),
            (proclaim("three"), 1),
            (campaign("four"), 1),
        ]),
    ]
}

/// A line of a stream as it is compared. The revision in the header of events is one of the listed differences; the
/// scripts of watches hold each server to its own rule.
fn told(line: Value) -> String {
    let mut line = normalised(line);
    let result = &mut line["result"];
    if result["events"].is_array() {
        result["header"]["revision"] = "of its events or later".into();
    }
    line.to_string()
}

/// The next lines; nothing orders those of different watches, and in etcd progress may overtake the answer to a create.
async fn next(lines: &mut Lines, count: usize) -> Vec<String> {
    let mut said = Vec::new();
    for _ in 0..count {
        said.push(told(lines.json().await));
    }
    said.sort_unstable();
    said
}

/// Runs streams on both servers after some calls; returns the number of exchanges.
async fn compare(name: &str, before: Vec<Call>, streams: Vec<Stream>) -> usize {
    let [(ours, _our_peer), (theirs, _their_peer)] = both().await;
    for Call { path, body } in &before {
        ours.post(path, body).await;
        theirs.post(path, body).await;
    }
    let mut exchanges = 0;
    for stream in streams {
        let requests: Vec<String> = stream.requests.iter().map(Value::to_string).collect();
        let requests = requests.join("\n");
        let (mut us, mut them) = tokio::join!(
            ours.stream(stream.path, &requests),
            theirs.stream(stream.path, &requests)
        );
        let said = (us.status, next(&mut us, stream.lines).await);
        let expected = (them.status, next(&mut them, stream.lines).await);
        assert_eq!(said, expected, "{name}: {requests}");
        exchanges += stream.requests.len();
        for (call, lines) in stream.then {
            let Call { path, body } = &call;
            let said = ours.post(path, body).await.text;
            let expected = theirs.post(path, body).await.text;
            assert_eq!(
                (as_compared(&call, &said), next(&mut us, lines).await),
                (as_compared(&call, &expected), next(&mut them, lines).await),
                "{name}: {requests}, then {path} {body}"
            );
            exchanges += 1;
        }
    }
    answered(name, exchanges)
}

/// The names in the first and in the last line of a snapshot.
async fn shape_of_a_snapshot(http: &Http) -> [BTreeSet<String>; 2] {
    let mut lines = http.stream("/v3/maintenance/snapshot", "{}").await;
    let mut shapes = Vec::new();
    while let Some(line) = lines.line().await {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let fields = line.as_object().expect("an object");
        let result = fields["result"].as_object().expect("an object");
        let names = fields.keys().chain(result.keys()).cloned();
        shapes.push(names.collect::<BTreeSet<String>>());
    }
    let last = shapes.pop().expect("a line");
    [shapes.swap_remove(0), last]
}

async fn snapshots() -> usize {
    let [(ours, _our_peer), (theirs, _their_peer)] = both().await;
    for number in 0..4 {
        let Call { path, body } = put(&format!("large{number}"), &"x".repeat(100_000));
        ours.post(&path, &body).await;
        theirs.post(&path, &body).await;
    }
    let mut shape = shape_of_a_snapshot(&ours).await;
    for names in &mut shape {
        assert!(names.remove("version"), "as in etcd since 3.6: {names:?}");
    }
    assert_eq!(shape, shape_of_a_snapshot(&theirs).await, "a snapshot");
    assert!(shape[0].contains("remaining_bytes"), "{shape:?}");
    answered("snapshots", 1)
}

/// All streams of the gateway; returns the number of exchanges.
pub(super) async fn streams() -> usize {
    let history = ["1", "2", "3", "4"].map(|value| put("a", value));
    let compact = call("kv/compaction", &json!({"revision": 3}));
    let before = history.into_iter().chain([put("b", "1"), compact]);
    let candidate = vec![
        call("lease/grant", &json!({"ID": 7, "TTL": 600})),
        call(
            "election/campaign",
            &json!({"name": text("race"), "lease": 7, "value": text("one")}),
        ),
    ];
    let watches = [live_watches(), odd_watches(), several_watches()].concat();
    let (watched, others, snapshots) = tokio::join!(
        compare("watches in JSON", before.collect(), watches),
        compare("streams in JSON", candidate, others()),
        snapshots()
    );
    watched + others + snapshots
}
