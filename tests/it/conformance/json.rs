//! The ways in which JSON can say the same: numbers, bytes, names, what is null, given twice, or nested.

use super::calls::{Call, everything, put};

/// Numbers of 64 bits.
const NUMBERS: [&str; 37] = [
    "1e2",
    "\"1e2\"",
    "1.0",
    "\"1.0\"",
    "100e-2",
    "10.0e-1",
    "0.5e1",
    "1E2",
    "\"1e+2\"",
    "-1e2",
    "-0",
    "\"-0\"",
    "0.0",
    "0e2147483648",
    "\"\\u0031\"",
    "12345678901234567890e-1",
    "9007199254740993.0",
    "null",
    "1.5",
    "\"1.5\"",
    "5.0e-1",
    "\"+1\"",
    "\" 1\"",
    "\"1 \"",
    "\"01\"",
    "01",
    "1e400",
    "1e-400",
    "1e19",
    "9223372036854775808",
    "\"0x10\"",
    "\"\"",
    "\"null\"",
    "\"NaN\"",
    "\"\\\"1\\\"\"",
    "[1]",
    "1e2147483648",
];

/// Bytes, of which some are keys that are there.
const BYTES: [&str; 23] = [
    "\"YQ==\"",
    "\"YQ\"",
    "\"YQ=\"",
    "\"YQ===\"",
    "\"YR==\"",
    "\"Y\\u0051==\"",
    "\"\\/w==\"",
    "\"-_8=\"",
    "\"-_8\"",
    "\"YWJj-_\"",
    "\"YWJj+_==\"",
    "\"+/8=\"",
    "\"Y\\nQ==\"",
    "\"YWFh\\nYWFh\"",
    "\"YQ==\\n\\n\\n\\n\"",
    "\"YQ\\n\\n\"",
    "\"Y Q==\"",
    "\"YQ==YQ==\"",
    "\"Y\"",
    "\"====\"",
    "null",
    "[]",
    "1",
];

/// Orders.
const NAMES: [&str; 16] = [
    "1.0",
    "2e0",
    "\"DESCEND\"",
    "\"descend\"",
    "\"1\"",
    "\"\"",
    "null",
    "0.0",
    "1.5",
    "2147483648",
    "true",
    "[]",
    "[1]",
    "{}",
    "-2147483649",
    "20e-1",
];

/// Requests whose fields are given twice, or are null, or say nothing.
const OTHERS: [(&str, &str); 26] = [
    ("kv/range", r#"{"key":"YQ==","key":"YQ=="}"#),
    ("kv/range", r#"{"key":null,"key":"YQ=="}"#),
    (
        "kv/range",
        r#"{"key":"YQ==","range_end":"Yg==","rangeEnd":"Yw=="}"#,
    ),
    ("kv/range", r#"{"key":"YQ==","limit":1,"limit":1}"#),
    ("kv/range", r#"{"key":"YQ==","nobody":1,"nobody":2}"#),
    ("kv/range", r#"{"key":"YQ==","Key":"Yg=="}"#),
    ("kv/range", r#"{"k\u0065y":"YQ=="}"#),
    ("kv/range", r#"{"KEY":"YQ=="}"#),
    ("kv/range", r#"{"key":"YQ==","serializable":1.0}"#),
    ("kv/range", r#"{"key":"YQ==","serializable":null}"#),
    ("kv/range", r#"{"key":"YQ==",}"#),
    ("kv/range", r#"{key:"YQ=="}"#),
    ("kv/txn", r#"{"success":null}"#),
    ("kv/txn", r#"{"success":[null]}"#),
    ("kv/txn", r#"{"success":{}}"#),
    ("kv/txn", r#"{"success":[{"request_put":null}]}"#),
    (
        "kv/txn",
        r#"{"success":[{"request_put":null,"request_range":{"key":"YQ=="}}]}"#,
    ),
    (
        "kv/txn",
        r#"{"success":[{"request_range":{"key":"YQ=="},"request_put":null}]}"#,
    ),
    (
        "kv/txn",
        r#"{"success":[{"request_put":{"key":"YQ=="},"request_range":{"key":"YQ=="}}]}"#,
    ),
    (
        "kv/txn",
        r#"{"success":[{"requestRange":{"key":"YQ=="},"request_range":{"key":"YQ=="}}]}"#,
    ),
    (
        "kv/txn",
        r#"{"compare":[{"key":"YQ","target":"VERSION","version":1.0}]}"#,
    ),
    (
        "kv/txn",
        r#"{"compare":[{"key":"YQ","target":"VERSION","version":"0","value":"YQ"}]}"#,
    ),
    (
        "kv/txn",
        r#"{"compare":[{"key":"YQ","target":3.0,"result":0.0,"value":"MQ"}]}"#,
    ),
    (
        "kv/txn",
        r#"{"compare":[{"key":"YQ","version":1,"version":1}]}"#,
    ),
    ("cluster/member/add", r#"{"peerURLs":null}"#),
    ("cluster/member/add", r#"{"peerURLs":["http://x",null]}"#),
];

fn of(path: &str, body: String) -> Call {
    Call {
        path: format!("/v3/{path}"),
        body,
    }
}

/// Transactions one in the other.
fn nested(levels: usize) -> Call {
    let around = r#"{"success":[{"request_txn":"#.repeat(levels);
    let inner = r#"{"success":[{"request_range":{"key":"YQ=="}}]}"#;
    of("kv/txn", format!("{around}{inner}{}", "}]}".repeat(levels)))
}

/// Calls that say what they say in unusual ways.
pub(super) fn forms() -> Vec<Call> {
    let mut calls = vec![put("a", "1"), put("a", "2"), put("b", "1")];
    for (number, id) in NUMBERS.into_iter().zip(100..) {
        calls.push(of(
            "lease/grant",
            format!(r#"{{"ID":{id},"TTL":{number}}}"#),
        ));
    }
    for bytes in BYTES {
        calls.push(of("kv/range", format!(r#"{{"key":{bytes}}}"#)));
    }
    for name in NAMES {
        let all = r#""key":"AA==","range_end":"AA==""#;
        calls.push(of("kv/range", format!(r#"{{{all},"sort_order":{name}}}"#)));
    }
    calls.extend(OTHERS.map(|(path, body)| of(path, body.to_owned())));
    calls.extend([5, 40, 48].map(nested));
    for levels in [100, 9999, 10_000, 20_000] {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        calls.push(of(
            "kv/range",
            format!(r#"{{"key":"YQ==","nobody":{open}{close}}}"#),
        ));
    }
    calls.push(everything());
    calls
}
