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
    ]
}
