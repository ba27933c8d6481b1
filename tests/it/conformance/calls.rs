//! What a scripted call is made of.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A call of the JSON gateway.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) path: String,
    pub(super) body: String,
}

/// A call of a service's method.
pub(super) fn call(path: &str, body: &Value) -> Call {
    Call {
        path: format!("/v3/{path}"),
        body: body.to_string(),
    }
}

/// Bytes as JSON has them.
pub(super) fn text(text: &str) -> String {
    STANDARD.encode(text)
}

/// A put of a key.
pub(super) fn put(key: &str, value: &str) -> Call {
    let body = json!({"key": text(key), "value": text(value)});
    call("kv/put", &body)
}

/// A read of everything, to see what the calls before have left.
pub(super) fn everything() -> Call {
    let body = json!({"key": "AA==", "range_end": "AA=="});
    call("kv/range", &body)
}
