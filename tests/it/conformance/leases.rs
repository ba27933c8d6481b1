//! Calls of the Lease, Lock and Election services. Nothing here waits for a time to pass.

use super::calls::{Call, call, everything, put, text};
use serde_json::{Value, json};

fn grant(id: i64, ttl: i64) -> Call {
    call("lease/grant", &json!({"ID": id, "TTL": ttl}))
}

fn of_lease(path: &str, id: i64) -> Call {
    call(path, &json!({"ID": id}))
}

fn leased(key: &str, lease: i64) -> Call {
    let body = json!({"key": text(key), "value": text("v"), "lease": lease});
    call("kv/put", &body)
}

/// Grants, keep-alives, looks and ends, of leases that are there and of those that are not.
pub(super) fn leases() -> Vec<Call> {
    let mut calls = vec![
        grant(7, 600),
        grant(7, 600),
        grant(-8, 500),
        grant(9, 9_000_000_000),
        grant(10, 9_000_000_001),
        call("lease/leases", &json!({})),
    ];
    for key in ["b", "a", "c"] {
        calls.push(leased(key, 7));
    }
    calls.push(leased("a", 9));
    calls.push(leased("a", 99));
    calls.push(put("c", "free"));
    for id in [7, -8, 9, 99, 0] {
        calls.push(of_lease("lease/keepalive", id));
        calls.push(of_lease("lease/timetolive", id));
        calls.push(of_lease("kv/lease/timetolive", id));
    }
    for id in [7, 9] {
        let keys = json!({"ID": id, "keys": true});
        calls.push(call("lease/timetolive", &keys));
    }
    // A key keeps its lease, or gets another, or none.
    let keeps =
        json!({"key": text("b"), "value": text("w"), "ignore_lease": true, "prev_kv": true});
    calls.push(call("kv/put", &keeps));
    let compare = json!({"target": "LEASE", "key": text("b"), "lease": 7});
    let then = json!({"request_put": {"key": text("d"), "lease": 7}});
    calls.push(call(
        "kv/txn",
        &json!({"compare": [compare], "success": [then]}),
    ));
    let refused = json!({"request_put": {"key": text("e"), "lease": 99}});
    let also = json!({"request_put": {"key": text("f")}});
    calls.push(call("kv/txn", &json!({"success": [also, refused]})));
    calls.push(everything());
    for id in [7, 7, 99] {
        calls.push(of_lease("lease/revoke", id));
        calls.push(everything());
    }
    calls.push(of_lease("kv/lease/revoke", -8));
    calls.push(call("kv/lease/leases", &json!({})));
    calls.push(of_lease("lease/revoke", 9));
    calls.push(everything());
    // The id is free again.
    calls.push(grant(7, 600));
    calls.push(leased("a", 7));
    calls.push(everything());
    calls
}

/// Locks that are free, held by the caller already, and given up.
pub(super) fn locks() -> Vec<Call> {
    let lock =
        |name: &str, lease: i64| call("lock/lock", &json!({"name": text(name), "lease": lease}));
    let unlock = |key: &str| call("lock/unlock", &json!({"key": text(key)}));
    vec![
        grant(77, 600),
        grant(-5, 600),
        lock("door", 99),
        lock("door", 77),
        everything(),
        lock("door", 77),
        lock("window", -5),
        lock("window", -5),
        everything(),
        unlock("door/4d"),
        unlock("door/4d"),
        unlock(""),
        lock("door", -5),
        of_lease("lease/revoke", -5),
        everything(),
        lock("door", 77),
        lock("", 77),
        everything(),
    ]
}

/// Elections with one candidate at a time.
pub(super) fn elections() -> Vec<Call> {
    let campaign = |name: &str, lease: i64, value: &str| {
        let body = json!({"name": text(name), "lease": lease, "value": text(value)});
        call("election/campaign", &body)
    };
    let leader = |name: &str| call("election/leader", &json!({"name": text(name)}));
    let proof = |key: &str, rev: i64, lease: i64| -> Value {
        json!({"name": text("race"), "key": text(key), "rev": rev, "lease": lease})
    };
    let proclaim = |proof: &Value, value: &str| {
        call(
            "election/proclaim",
            &json!({"leader": proof, "value": text(value)}),
        )
    };
    let resign = |proof: &Value| call("election/resign", &json!({"leader": proof}));
    let mine = proof("race/4d", 2, 77);
    vec![
        grant(77, 600),
        leader("race"),
        campaign("race", 99, "nobody"),
        campaign("race", 77, "one"),
        leader("race"),
        campaign("race", 77, "one"),
        campaign("race", 77, "two"),
        leader("race"),
        proclaim(&mine, "three"),
        leader("race"),
        everything(),
        proclaim(&proof("race/4d", 3, 77), "late"),
        proclaim(&proof("race/4e", 2, 77), "other"),
        resign(&proof("race/4d", 9, 77)),
        leader("race"),
        call("election/proclaim", &json!({"value": text("x")})),
        call("election/resign", &json!({})),
        resign(&mine),
        resign(&mine),
        leader("race"),
        campaign("race", 77, "again"),
        of_lease("lease/revoke", 77),
        leader("race"),
        everything(),
    ]
}
