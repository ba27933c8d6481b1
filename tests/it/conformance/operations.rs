//! Calls of the Maintenance and Cluster services, as a cluster of one answers them.

use super::calls::{Call, call, put};
use serde_json::json;

/// How the server is, and what is asked of it that one member alone cannot do.
pub(super) fn operations() -> Vec<Call> {
    vec![
        put("a", "1"),
        call("maintenance/status", &json!({})),
        call("maintenance/alarm", &json!({})),
        call(
            "maintenance/alarm",
            &json!({"action": "GET", "alarm": "NOSPACE"}),
        ),
        call("cluster/member/list", &json!({})),
        call("cluster/member/list", &json!({"linearizable": true})),
        call("cluster/member/remove", &json!({"ID": 1})),
        call(
            "cluster/member/update",
            &json!({"ID": 1, "peerURLs": ["http://127.0.0.1:9"]}),
        ),
        call("cluster/member/update", &json!({"ID": 1})),
        call("cluster/member/promote", &json!({"ID": 1})),
        call("cluster/member/add", &json!({"peerURLs": ["no url"]})),
        call("maintenance/transfer-leadership", &json!({"targetID": 1})),
        call("maintenance/downgrade", &json!({"action": "CANCEL"})),
        call(
            "maintenance/downgrade",
            &json!({"action": "VALIDATE", "version": "none"}),
        ),
        call(
            "maintenance/alarm",
            &json!({"action": "ACTIVATE", "memberID": 5, "alarm": "NOSPACE"}),
        ),
        call("maintenance/alarm", &json!({"action": "GET"})),
        put("b", "refused"),
        call("kv/deleterange", &json!({"key": "YQ=="})),
        call("lease/grant", &json!({"ID": 7, "TTL": 60})),
        call(
            "maintenance/alarm",
            &json!({"action": "DEACTIVATE", "memberID": 5, "alarm": "NOSPACE"}),
        ),
        call("maintenance/alarm", &json!({"action": "GET"})),
        put("b", "taken"),
    ]
}
