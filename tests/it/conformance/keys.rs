//! Calls of the KV service, by the combinations of what they may ask for.

use super::calls::{Call, call, everything, put, text};
use serde_json::{Value, json};

/// Six keys with different numbers: c is the newest, a has three versions, and the values run against the keys.
fn filled() -> Vec<Call> {
    let puts = [
        ("a", "9"),
        ("b", "8"),
        ("d", "6"),
        ("e", "5"),
        ("a", "9"),
        ("a", "7"),
        ("c", "7"),
        ("ab", "1"),
    ];
    puts.map(|(key, value)| put(key, value)).into()
}

/// Every order of every target with and without a limit, and what narrows an answer down.
pub(super) fn ranges() -> Vec<Call> {
    let mut calls = filled();
    let range = |more: Value| {
        let mut body = json!({"key": text("a"), "range_end": text("e")});
        let (Some(body_fields), Some(more)) = (body.as_object_mut(), more.as_object()) else {
            panic!("objects");
        };
        body_fields.extend(more.clone());
        call("kv/range", &body)
    };
    for target in ["KEY", "VERSION", "CREATE", "MOD", "VALUE"] {
        for order in ["NONE", "ASCEND", "DESCEND"] {
            // Without an order etcd cuts first and sorts what is left.
            let limits: &[i32] = if order == "NONE" && target != "KEY" {
                &[0]
            } else {
                &[0, 1, 3]
            };
            for limit in limits {
                let sort = json!({"sort_target": target, "sort_order": order, "limit": limit});
                calls.push(range(sort));
            }
        }
    }
    for revision in [-1, 1, 2, 5, 9, 10] {
        calls.push(range(json!({"revision": revision})));
        calls.push(range(json!({"revision": revision, "count_only": true})));
    }
    for bound in [
        "min_mod_revision",
        "max_mod_revision",
        "min_create_revision",
    ] {
        for at in [1, 3, 7, 99] {
            calls.push(range(json!({bound: at})));
        }
    }
    for flags in [
        json!({"keys_only": true}),
        json!({"keys_only": true, "limit": 2}),
        json!({"count_only": true, "limit": 2}),
        json!({"serializable": true}),
        json!({"limit": -1}),
        json!({"max_create_revision": 4, "limit": 1, "sort_order": "DESCEND", "sort_target": "MOD"}),
        json!({"keys_only": true, "count_only": true}),
    ] {
        calls.push(range(flags));
    }
    for (key, end) in [
        ("a", ""),
        ("a", "b"),
        ("b", "a"),
        ("", "z"),
        ("b", "b"),
        ("z", ""),
    ] {
        let body = json!({"key": text(key), "range_end": text(end)});
        calls.push(call("kv/range", &body));
    }
    calls.push(everything());
    calls
}

/// Every combination of what a put can keep and ask for, on a key that is there and on one that is not.
pub(super) fn puts() -> Vec<Call> {
    let mut calls = filled();
    for key in ["a", "new", ""] {
        for flags in 0..8 {
            for value in ["", "v"] {
                let body = json!({
                    "key": text(key),
                    "value": text(value),
                    "prev_kv": flags & 1 > 0,
                    "ignore_value": flags & 2 > 0,
                    "ignore_lease": flags & 4 > 0,
                });
                calls.push(call("kv/put", &body));
            }
        }
    }
    let unknown = json!({"key": text("a"), "lease": 12345});
    calls.push(call("kv/put", &unknown));
    let both = json!({"key": text("a"), "lease": 12345, "ignore_lease": true});
    calls.push(call("kv/put", &both));
    calls.push(everything());
    calls
}

/// Every target compared in every way with less, the same and more, on one key, on a missing one and on several.
pub(super) fn transactions() -> Vec<Call> {
    let mut calls = filled();
    let get = json!({"request_range": {"key": text("a")}});
    let count =
        json!({"request_range": {"key": text("a"), "range_end": text("z"), "count_only": true}});
    for (target, field, given) in [
        ("VERSION", "version", json!(3)),
        ("CREATE", "create_revision", json!(2)),
        ("MOD", "mod_revision", json!(7)),
        ("VALUE", "value", json!(text("7"))),
        ("LEASE", "lease", json!(0)),
    ] {
        for result in ["EQUAL", "GREATER", "LESS", "NOT_EQUAL"] {
            for (key, end) in [("a", ""), ("missing", ""), ("a", "c")] {
                let compare = json!({
                    "target": target,
                    "result": result,
                    field: given,
                    "key": text(key),
                    "range_end": text(end),
                });
                let txn = json!({"compare": [compare], "success": [get], "failure": [count]});
                calls.push(call("kv/txn", &txn));
            }
        }
    }
    let put =
        |key: &str| json!({"request_put": {"key": text(key), "value": text("t"), "prev_kv": true}});
    let delete = |key: &str, end: &str| {
        let delete = json!({"key": text(key), "range_end": text(end), "prev_kv": true});
        json!({"request_delete_range": delete})
    };
    for success in [
        vec![put("x"), put("y"), get.clone()],
        vec![put("x"), put("x")],
        vec![put("x"), delete("x", "")],
        vec![delete("x", ""), put("x")],
        vec![delete("x", "z"), delete("x", "")],
        vec![count.clone(), delete("x", "z"), count.clone()],
        vec![
            json!({"request_txn": {"success": [put("n")], "failure": [put("m")]}}),
            put("o"),
        ],
        vec![json!({"request_txn": {"success": [put("n")]}}), put("n")],
        vec![
            json!({"request_range": {"key": text("a"), "revision": 99}}),
            put("q"),
        ],
        vec![
            put("q"),
            json!({"request_range": {"key": text("a"), "revision": 99}}),
        ],
        vec![json!({})],
        (0..128)
            .map(|number| put(&format!("many{number}")))
            .collect(),
        (0..129)
            .map(|number| put(&format!("more{number}")))
            .collect(),
    ] {
        calls.push(call("kv/txn", &json!({"success": success})));
    }
    calls.push(everything());
    calls
}

/// Deletes of one key, of several and of none.
pub(super) fn deletes() -> Vec<Call> {
    let mut calls = filled();
    for (key, end) in [
        ("c", ""),
        ("c", ""),
        ("missing", ""),
        ("", ""),
        ("a", "b"),
        ("b", "a"),
        ("d", "d"),
        ("d", "z"),
    ] {
        for prev_kv in [false, true] {
            let body = json!({"key": text(key), "range_end": text(end), "prev_kv": prev_kv});
            calls.push(call("kv/deleterange", &body));
            calls.push(put("c", "again"));
        }
    }
    let all = json!({"key": "AA==", "range_end": "AA==", "prev_kv": true});
    calls.push(call("kv/deleterange", &all));
    calls.push(everything());
    calls
}

/// Compactions at every kind of revision, and reads around them.
pub(super) fn compactions() -> Vec<Call> {
    let mut calls = filled();
    let gone = json!({"key": text("b")});
    calls.push(call("kv/deleterange", &gone));
    for revision in [0, -1, 1, 99, 3, 3, 2, 5, 10, 10] {
        let body = json!({"revision": revision, "physical": revision == 5});
        calls.push(call("kv/compaction", &body));
        for at in [2, 3, 5, 10] {
            let body = json!({"key": text("a"), "range_end": text("z"), "revision": at});
            calls.push(call("kv/range", &body));
        }
    }
    calls.push(everything());
    calls
}
