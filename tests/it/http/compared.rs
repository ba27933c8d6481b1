//! The JSON gateway held against etcd's: the same requests to both, and the same answers but for names and numbers that
//! each server has of its own.

use crate::support::{Http, Peer, PeerKind};
use serde_json::{Value, json};

/// Requests in the order in which both servers get them. They build on each other.
const CALLS: [(&str, &str); 58] = [
    // Writes and reads.
    ("/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#),
    (
        "/v3/kv/put",
        r#"{"key":"YQ==","value":"Mg==","prev_kv":true}"#,
    ),
    (
        "/v3/kv/put",
        r#"{"key":"YQ==","value":"Mw==","prevKv":true}"#,
    ),
    ("/v3/kv/put", r#"{"key":"Yg==","value":"AP/+Pg=="}"#),
    (
        "/v3/kv/put",
        r#"{"key":"Yg==","ignore_value":true,"prev_kv":true}"#,
    ),
    ("/v3beta/kv/put", r#"{"key":"Yw=="}"#),
    ("/v3/kv/range", r#"{"key":"YQ=="}"#),
    ("/v3/kv/range", r#"{"key":"YQ==","revision":"2"}"#),
    ("/v3/kv/range", r#"{"key":"YQ==","revision":2}"#),
    ("/v3/kv/range", r#"{"key":"YQ==","range_end":"AA=="}"#),
    (
        "/v3/kv/range",
        r#"{"key":"YQ==","rangeEnd":"Yw==","keysOnly":true}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"YQ==","range_end":"eg==","count_only":true}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"YQ==","range_end":"eg==","limit":"1"}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"YQ==","range_end":"eg==","sort_order":"DESCEND","sort_target":"KEY"}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"YQ==","range_end":"eg==","sort_order":2,"sort_target":"MOD"}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"YQ==","range_end":"eg==","min_mod_revision":"4","serializable":true}"#,
    ),
    ("/v3/kv/range", r#"{"key":"bm9ib2R5"}"#),
    // Transactions.
    (
        "/v3/kv/txn",
        r#"{"compare":[{"target":"VERSION","key":"YQ==","version":"3"}],"success":[{"request_range":{"key":"YQ=="}},{"requestPut":{"key":"ZA==","value":"MQ=="}}],"failure":[{"request_range":{"key":"Yg=="}}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"target":"VALUE","result":"NOT_EQUAL","key":"YQ==","value":"Mw=="}],"failure":[{"request_delete_range":{"key":"ZA==","prev_kv":true}}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"target":"MOD","result":"GREATER","key":"YQ==","mod_revision":"1"},{"target":"CREATE","result":"LESS","key":"YQ==","create_revision":"9"}],"success":[{"request_txn":{"success":[{"request_put":{"key":"ZQ=="}}]}}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"target":3,"result":0,"key":"YQ==","value":"Mw=="}],"success":[{"request_range":{"key":"YQ==","count_only":true}}]}"#,
    ),
    ("/v3/kv/txn", "{}"),
    (
        "/v3/kv/txn",
        r#"{"success":[{"request_put":{"key":"ZQ=="}},{"request_put":{"key":"ZQ=="}}]}"#,
    ),
    ("/v3/kv/txn", r#"{"success":[{}]}"#),
    ("/v3/kv/txn", r#"{"compare":[{"target":"VERSION"}]}"#),
    // Deletes.
    ("/v3/kv/deleterange", r#"{"key":"ZQ==","prev_kv":true}"#),
    ("/v3/kv/deleterange", r#"{"key":"ZQ=="}"#),
    (
        "/v3/kv/deleterange",
        r#"{"key":"YQ==","range_end":"Yw==","prevKv":true}"#,
    ),
    // What is refused.
    ("/v3/kv/put", "{}"),
    ("/v3/kv/put", ""),
    ("/v3/kv/put", r#"{"key":"bm8=","ignore_value":true}"#),
    (
        "/v3/kv/put",
        r#"{"key":"bm8=","ignore_value":true,"value":"MQ=="}"#,
    ),
    ("/v3/kv/put", r#"{"key":"bm8=","ignore_lease":true}"#),
    ("/v3/kv/put", r#"{"key":"bm8=","lease":"77"}"#),
    ("/v3/kv/deleterange", "{}"),
    ("/v3/kv/range", "{}"),
    ("/v3/kv/range", r#"{"key":"YQ==","revision":"99"}"#),
    // Compaction.
    ("/v3/kv/compaction", r#"{"revision":"99"}"#),
    ("/v3/kv/compaction", r#"{"revision":"5","physical":true}"#),
    ("/v3/kv/compaction", r#"{"revision":"5"}"#),
    ("/v3/kv/range", r#"{"key":"YQ==","revision":"2"}"#),
    // JSON in all its forms.
    ("/v3/kv/range", r#"{"key":"YQ==","nobody":{"knows":[1]}}"#),
    ("/v3/kv/range", r#"{"key":"Yw=="} {"key":"YQ=="}"#),
    ("/v3/kv/range", r#"{"key":"Yw=="} and more"#),
    ("/v3/kv/range", "\n{ \"key\" : \"Yw==\" }\n"),
    ("/v3/kv/range", r#"{"key":"Yw==","sort_order":"NOPE"}"#),
    ("/v3/kv/range", r#"{"key":"Yw==","limit":null}"#),
    ("/v3/kv/range", r#"{"key":"Y\u0077=="}"#),
    ("/v3/kv/range", "{"),
    ("/v3/kv/range", "[]"),
    ("/v3/kv/range", "null"),
    ("/v3/kv/range", r#"{"key":5}"#),
    ("/v3/kv/range", r#"{"key":"%%"}"#),
    ("/v3/kv/range", r#"{"key":"YQ==","limit":"many"}"#),
    ("/v3/kv/range", r#"{"key":"YQ==","keys_only":"yes"}"#),
    // Paths.
    ("/v3/nobody", "{}"),
    ("/v3/kv/put/", r#"{"key":"YQ=="}"#),
    ("/v3/maintenance/alarm", "{}"),
];

/// Takes out what each server has of its own, and how each reads JSON that is none.
fn normalised(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                match (name.as_str(), &field) {
                    ("cluster_id" | "member_id", _) => *field = "own".into(),
                    ("message", Value::String(text)) if !text.starts_with("etcdserver: ") => {
                        *field = if text.contains(' ') {
                            "own words".into()
                        } else {
                            json!(text)
                        };
                    }
                    _ => *field = normalised(field.take()),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = normalised(item.take());
            }
        }
        _ => {}
    }
    value
}

async fn both() -> (Http, Http, (Peer, Peer)) {
    let ours = Peer::start(PeerKind::Vigil).await;
    let theirs = Peer::start(PeerKind::Etcd).await;
    (Http::to(&ours), Http::to(&theirs), (ours, theirs))
}

#[tokio::test]
async fn json_calls_are_answered_as_etcd_answers_them() {
    let (ours, theirs, _peers) = both().await;
    for (path, body) in CALLS {
        let (us, them) = (ours.post(path, body).await, theirs.post(path, body).await);
        assert_eq!(us.status, them.status, "{path} {body}: {us:?} {them:?}");
        let (us, them) = (normalised(us.json()), normalised(them.json()));
        assert_eq!(us, them, "{path} {body}");
    }
}

#[tokio::test]
async fn who_asks_for_a_path_in_a_long_way_is_sent_to_the_short_one() {
    let (ours, theirs, _peers) = both().await;
    for path in [
        "/v3",
        "/v3?x=1&y='2'",
        "/v3//kv/range",
        "/v3/kv/../kv/range",
        "/v3/./kv//range?x=1",
        "/v3/%2e%2e/health",
        "/v3/kv%2F%2Frange",
        "/v3/kv//%C3%A4*(!)%22%3Cb%3E",
        "/v3beta//kv/range",
        "//v3",
        "//health",
        "/health//",
        "/..//nobody/.",
        "//",
        // These are there, or nowhere.
        "/v3/",
        "/v3/kv%2Frange",
        "/v3/kv/rang%65",
        "/v3beta",
        "/v3beta/",
        "/v3/kv/range/",
        "/health/",
        "/livez/",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
            let us = ours.ask(method, path, &[], "").await;
            let them = theirs.ask(method, path, &[], "").await;
            assert_eq!(us.status, them.status, "{method} {path}: {us:?} {them:?}");
            for name in ["location", "access-control-allow-origin"] {
                assert_eq!(
                    us.headers.get(name),
                    them.headers.get(name),
                    "{method} {path}"
                );
            }
            if us.status == 301 {
                assert_eq!(us.text, them.text, "{method} {path}");
                let kind = "content-type";
                assert_eq!(
                    us.headers.get(kind),
                    them.headers.get(kind),
                    "{method} {path}"
                );
            }
        }
    }
    // A key is whatever it is.
    let key = ours.post("/watch/a//b", "").await;
    assert_eq!(key.status, 405, "{key:?}");
}

#[tokio::test]
async fn whatever_is_not_a_call_is_answered_as_etcd_answers_it() {
    let (ours, theirs, _peers) = both().await;
    for (method, path) in [
        ("GET", "/v3/kv/range"),
        ("PUT", "/v3/kv/put"),
        ("GET", "/v3/nobody"),
        ("OPTIONS", "/v3/kv/range"),
        ("OPTIONS", "/nobody"),
        ("GET", "/"),
        ("GET", "/nobody"),
        ("POST", "/v3alpha/kv/range"),
        ("GET", "/health"),
        ("GET", "/health?serializable=true&exclude=NOSPACE"),
        ("POST", "/health"),
        ("PUT", "/livez"),
        ("POST", "/version"),
        ("GET", "/livez"),
        ("GET", "/livez?verbose"),
        ("GET", "/livez/serializable_read"),
        ("GET", "/livez/linearizable_read"),
        ("GET", "/readyz"),
        ("GET", "/readyz?verbose"),
        (
            "GET",
            "/readyz?verbose&exclude=data_corruption&exclude=non_learner",
        ),
        ("GET", "/readyz?exclude=nobody"),
        ("GET", "/readyz/data_corruption?verbose"),
        ("GET", "/readyz/nobody"),
    ] {
        let us = ours.ask(method, path, &[], "").await;
        let them = theirs.ask(method, path, &[], "").await;
        assert_eq!(us.status, them.status, "{method} {path}: {us:?} {them:?}");
        // etcd says its checks in any order.
        let words = |text: &str| {
            let text = text.replace(", ", ",");
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(words(&us.text), words(&them.text), "{method} {path}");
        let origin = "access-control-allow-origin";
        assert_eq!(us.headers.get(origin), them.headers.get(origin));
        assert_eq!(us.headers.get("allow"), them.headers.get("allow"));
    }
}

#[tokio::test]
async fn a_watch_in_json_says_what_etcds_says() {
    let (ours, theirs, _peers) = both().await;
    let both = [ours, theirs];
    for http in &both {
        for value in ["MQ==", "Mg=="] {
            let put = json!({"key":"YQ==", "value":value}).to_string();
            http.post("/v3/kv/put", &put).await;
        }
        http.post("/v3/kv/deleterange", r#"{"key":"YQ=="}"#).await;
    }
    // etcd answers once it has all requests, so these are all there from the first.
    for (requests, answers) in [
        (
            r#"{"create_request":{"key":"YQ==","start_revision":"2","prev_kv":true}}"#,
            2,
        ),
        (
            r#"{"createRequest":{"key":"Yg==","watch_id":"7","filters":["NOPUT"]}}{"cancel_request":{"watch_id":"7"}}"#,
            2,
        ),
        (
            r#"{"create_request":{"key":"Yg=="}} {"progress_request":{}}"#,
            2,
        ),
        (
            r#"{"create_request":{"key":"Yg==","start_revision":"-1"}}"#,
            1,
        ),
        (r#"{"create_request":{"key":"Yg==","range_end":"YQ=="}}"#, 1),
    ] {
        let (mut us, mut them) = (
            both[0].stream("/v3/watch", requests).await,
            both[1].stream("/v3/watch", requests).await,
        );
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..answers {
            ours.push(normalised(us.json().await).to_string());
            theirs.push(normalised(them.json().await).to_string());
        }
        // In etcd progress that was asked for may overtake the answer to the create.
        if requests.contains("progress_request") {
            theirs.sort_unstable();
            ours.sort_unstable();
        }
        assert_eq!(ours, theirs, "{requests}");
        // The end of the requests is not the end of the answers.
        if requests.contains("prev_kv") {
            let put = r#"{"key":"YQ==","value":"Mw=="}"#;
            for http in &both {
                http.post("/v3/kv/put", put).await;
            }
            assert_eq!(normalised(us.json().await), normalised(them.json().await));
        }
    }
}

#[tokio::test]
async fn requests_of_a_stream_are_followed_while_answers_come() {
    let peer = Peer::start(PeerKind::Vigil).await;
    let http = Http::to(&peer);
    let create = r#"{"create_request":{"key":"YQ==","watch_id":"7"}}"#;
    let (requests, mut answers) = http.exchange("/v3/watch", create).await;
    assert_eq!(answers.json().await["result"]["created"], true);
    // In pieces that end anywhere.
    for piece in [r#"{"cancel_req"#, r#"uest":{"watch_id":"7"}}{"#, "}"] {
        requests.send(piece.to_owned()).await.expect("room");
    }
    let canceled = answers.json().await;
    assert_eq!(canceled["result"]["watch_id"], "7");
    assert_eq!(canceled["result"]["canceled"], true);
}

#[tokio::test]
async fn requests_of_a_stream_that_are_no_json_end_it_with_a_reason() {
    let peer = Peer::start(PeerKind::Vigil).await;
    let http = Http::to(&peer);
    let create = r#"{"create_request":{"key":"YQ=="}}"#;
    let (requests, mut answers) = http.exchange("/v3/watch", create).await;
    assert_eq!(answers.json().await["result"]["created"], true);
    requests.send("[1]".to_owned()).await.expect("room");
    let said = answers.json().await;
    assert_eq!(said["error"]["code"], 3, "{said}");
    assert_eq!(answers.line().await, None);
    // Before anything was answered, the status says it too.
    for (body, status) in [
        ("nothing", 400),
        ("{\"create_request\":5}", 400),
        ("{", 400),
    ] {
        let answer = http.post("/v3/watch", body).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.json()["error"]["code"], 3);
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_by_the_same_limit_as_over_grpc() {
    let peer = Peer::start(PeerKind::Vigil).await;
    let http = Http::to(&peer);
    // 1.5 MiB and a little more, in base64.
    let value = "AAAA".repeat(530_000);
    let put = format!(r#"{{"key":"YQ==","value":"{value}"}}"#);
    let answer = http.post("/v3/kv/put", &put).await;
    assert_eq!(answer.status, 400);
    let said = answer.json();
    assert_eq!(said["message"], "etcdserver: request is too large");
    let whole = format!(r#"{{"key":"YQ==","value":"{}"}}"#, &value[..2_000_000]);
    assert_eq!(http.post("/v3/kv/put", &whole).await.status, 200);
    let answer = http.post("/v3/kv/put", &"x".repeat(5_000_000)).await;
    assert_eq!(answer.status, 413);
    let said = answer.json()["message"].to_string();
    assert!(said.contains("4194304 bytes"), "{said}");
}
