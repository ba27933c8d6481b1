//! Scripts of watch streams: which watches are taken, what each is told, and how it ends.
//!
//! Nothing is here that the two answer differently on purpose: negative ids, and ids that a compaction has freed.

use super::calls::{call, put, text};
use super::watch_script::{Script, Step};
use crate::support::pb::WatchCreateRequest;
use crate::support::requests::{OPEN, on, on_everything, on_prefix};
use serde_json::{Value, json};
use std::iter::repeat_n;

fn create(watch_id: i64, of: WatchCreateRequest) -> Step {
    Step::Create(WatchCreateRequest { watch_id, ..of })
}

fn range(key: &'static str, end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest {
        range_end: end.into(),
        ..on(key)
    }
}

fn write(key: &str, value: &str) -> Step {
    Step::Call(put(key, value))
}

fn delete(key: &str, end: &str) -> Step {
    let body = json!({"key": text(key), "range_end": text(end)});
    Step::Call(call("kv/deleterange", &body))
}

fn compact(revision: i64) -> Step {
    let body = json!({"revision": revision, "physical": true});
    Step::Call(call("kv/compaction", &body))
}

fn txn(body: &Value) -> Step {
    Step::Call(call("kv/txn", body))
}

fn op_put(key: &str, value: &str) -> Value {
    json!({"request_put": {"key": text(key), "value": text(value)}})
}

fn op_delete(key: &str, end: &str) -> Value {
    json!({"request_delete_range": {"key": text(key), "range_end": text(end)}})
}

/// A step with the number of its responses.
fn counted(step: Step, count: usize) -> Step {
    Step::Counted(Box::new(step), count)
}

/// Fourteen revisions of few keys: updates, deletes, keys that come again, and transactions.
fn history() -> Vec<Step> {
    vec![
        write("a", "1"),
        write("b", "1"),
        write("a", "2"),
        write("a/1", "1"),
        delete("a", ""),
        write("a", "3"),
        txn(&json!({"success": [op_put("c", "1"), op_delete("b", ""), op_put("a", "4")]})),
        write("a", "4"),
        write("", "refused"),
        delete("nobody", ""),
        write("b", "2"),
        delete("a", "c"),
        write("z", "1"),
        txn(&json!({"success": [op_put("a/1", "2"), op_put("a/2", "2")]})),
        write("a", "5"),
    ]
}

/// Every kind of range, and keys at and around its ends.
fn ranges() -> Vec<Step> {
    let mut steps = Vec::new();
    for (watch_id, of) in (10..).zip([
        on("a"),
        on(""),
        on(OPEN),
        on_everything(),
        range("", OPEN),
        range("", "b"),
        on_prefix("a"),
        on_prefix(""),
        range("a", "b"),
        range("b", OPEN),
        range("a", "a\0"),
        range("b", "b"),
        range("b", "a"),
        range("zz", OPEN),
        range("a/", "a0"),
        on("nobody"),
    ]) {
        steps.push(create(watch_id, of));
    }
    for key in ["a", "a\0", "a/1", "a0", "b", "c", "zz", "zzz", "\0", "aa"] {
        steps.push(write(key, "1"));
    }
    steps.extend([
        delete("a", ""),
        delete("a", "b"),
        delete("a", "b"),
        delete("", ""),
        delete("\0", "\0"),
    ]);
    steps
}

/// From every revision of the past, before and after a compaction, with what may be asked for.
fn starts() -> Vec<Step> {
    let mut steps = history();
    let from = |watch_id, start_revision, prev_kv, filters: &[i32]| {
        let of = WatchCreateRequest {
            start_revision,
            prev_kv,
            filters: filters.to_vec(),
            ..on_everything()
        };
        create(watch_id, of)
    };
    let mut watch_id = 100;
    for start in [0, 1, 2, 5, 8, 13, 14] {
        for (prev_kv, filters) in [(false, &[][..]), (true, &[]), (true, &[0]), (false, &[1])] {
            watch_id += 1;
            steps.push(from(watch_id, start, prev_kv, filters));
        }
    }
    steps.extend([write("a", "6"), delete("a", ""), Step::Progress]);
    steps
}

/// From revisions around a compaction. etcd answers no request for progress on a stream that has had a watch compacted
/// away, until its client cancels it, so everything is counted.
fn compacted() -> Vec<Step> {
    let from = |watch_id, start_revision, of: WatchCreateRequest, count| {
        let of = WatchCreateRequest {
            start_revision,
            prev_kv: watch_id % 2 == 0,
            ..of
        };
        counted(create(watch_id, of), count)
    };
    let uncounted = history().into_iter().chain([compact(7)]);
    let mut steps: Vec<Step> = uncounted.map(|step| counted(step, 0)).collect();
    let mut watch_id = 100;
    let mut living = 0;
    for (start, count) in [
        (i64::MIN, 1),
        (-1, 1),
        (1, 2),
        (6, 2),
        (7, 2),
        (8, 2),
        (13, 2),
        (15, 1),
        (0, 1),
    ] {
        for _ in 0..2 {
            watch_id += 1;
            steps.push(from(watch_id, start, on_everything(), count));
            living += usize::from(start >= 7 || start == 0);
        }
    }
    steps.push(counted(write("a", "6"), living));
    steps.push(counted(compact(15), 0));
    steps.push(counted(write("a", "7"), living));
    // A single key: its history begins below, at and above the compaction.
    for (start, count) in [(14, 2), (15, 2), (16, 2), (17, 1)] {
        watch_id += 1;
        living += usize::from(start >= 15);
        steps.push(from(watch_id, start, on("a"), count));
    }
    steps.push(counted(delete("a", ""), living));
    steps
}

/// Watches of revisions that are not there yet.
fn futures() -> Vec<Step> {
    let from = |watch_id, start_revision| {
        let of = WatchCreateRequest {
            start_revision,
            ..on_prefix("a")
        };
        counted(create(watch_id, of), 1)
    };
    vec![
        from(1, 4),
        from(2, 6),
        from(3, i64::MAX),
        from(4, 2),
        counted(write("a", "1"), 1),
        counted(write("b", "1"), 0),
        counted(write("a", "2"), 2),
        counted(write("ab", "1"), 2),
        counted(delete("a", ""), 3),
        counted(
            txn(&json!({"success": [op_put("a", "3"), op_delete("ab", "")]})),
            3,
        ),
        counted(Step::Cancel(3), 1),
        counted(Step::Cancel(2), 1),
        counted(write("a", "4"), 2),
        counted(Step::Cancel(99), 0),
        // All are level now.
        write("a", "5"),
        Step::Progress,
    ]
}

/// Who picks ids, when they are taken and when they are free.
fn ids() -> Vec<Step> {
    let mut steps: Vec<Step> = repeat_n(create(0, on("a")), 3).collect();
    for id in [1, 7, 7, 4, i64::MAX, 3] {
        steps.push(create(id, on("a")));
    }
    steps.extend(repeat_n(create(0, on("a")), 3));
    steps.push(write("a", "1"));
    for id in [0, 0, 7, 99, -1, -7, i64::MAX, 6] {
        steps.push(Step::Cancel(id));
        steps.push(write("a", "2"));
    }
    for id in [7, 7, 0, 99, 0] {
        steps.push(create(id, on("a")));
    }
    steps.extend([
        write("a", "3"),
        // What is refused takes no id.
        create(55, range("b", "a")),
        create(55, on("a")),
        Step::Nothing,
        Step::Progress,
        delete("a", ""),
    ]);
    steps
}

/// Which changes a filter keeps away, and what it leaves of a transaction.
fn filters() -> Vec<Step> {
    let filtered = |watch_id, filters: &[i32]| {
        let of = WatchCreateRequest {
            filters: filters.to_vec(),
            prev_kv: watch_id % 2 == 0,
            ..on_prefix("a")
        };
        create(watch_id, of)
    };
    let kinds: [&[i32]; 8] = [&[], &[0], &[1], &[0, 1], &[0, 0], &[1, 1, 1], &[9], &[-1]];
    let mut steps: Vec<Step> = (10..)
        .zip(kinds)
        .map(|(id, filters)| filtered(id, filters))
        .collect();
    steps.extend(history());
    steps.push(Step::Progress);
    steps
}

/// The value before, of every kind of change.
fn previous_values() -> Vec<Step> {
    let of = WatchCreateRequest {
        prev_kv: true,
        ..on_everything()
    };
    let mut steps = vec![create(1, of.clone()), create(2, on_everything())];
    steps.extend(history());
    steps.extend([
        compact(10),
        write("a", "6"),
        compact(15),
        delete("a", ""),
        write("a", "7"),
        txn(&json!({"success": [op_delete("", "\0")]})),
        delete("\0", "\0"),
    ]);
    steps.push(create(
        3,
        WatchCreateRequest {
            start_revision: 15,
            ..of
        },
    ));
    steps
}

/// Transactions by what they are made of; what one changes is one response.
fn transactions() -> Vec<Step> {
    let mut steps = vec![
        create(1, on_everything()),
        create(2, on("b")),
        create(3, on_prefix("a")),
    ];
    let is_new = json!({"target": "VERSION", "key": text("b"), "version": 0});
    let read = json!({"request_range": {"key": text("a")}});
    let nested = json!({"request_txn": {
        "compare": [is_new],
        "success": [op_put("n", "then")],
        "failure": [op_put("n", "else"), op_delete("a", "")],
    }});
    for success in [
        vec![op_put("c", "1"), op_put("a", "1"), op_put("b", "1")],
        vec![op_delete("a", "c"), op_put("d", "1")],
        vec![read.clone()],
        vec![op_delete("nobody", "")],
        vec![
            op_put("a", "2"),
            read.clone(),
            op_delete("c", "d"),
            op_put("b", "2"),
        ],
        vec![nested, op_put("o", "1")],
        vec![op_put("a", "3"), op_put("a", "3")],
        vec![op_delete("a", "z"), op_delete("a", "z")],
        (0..128)
            .map(|number| op_put(&format!("a{number:03}"), "m"))
            .collect(),
        vec![op_delete("a", "b")],
    ] {
        let body = json!({"compare": [is_new], "success": success, "failure": success});
        steps.push(txn(&body));
    }
    let one_way =
        json!({"compare": [is_new], "success": [op_put("b", "x")], "failure": [op_put("e", "x")]});
    steps.extend([txn(&one_way), txn(&one_way), delete("b", ""), txn(&one_way)]);
    steps
}

/// Keys that go with their lease, and locks and candidates, which are keys too.
fn leases() -> Vec<Step> {
    let of = WatchCreateRequest {
        prev_kv: true,
        ..on_everything()
    };
    let other = |path: &str, body: &Value| Step::Call(call(path, body));
    let leased = |key: &str| {
        let body = json!({"key": text(key), "value": text("v"), "lease": 7});
        other("kv/put", &body)
    };
    vec![
        create(1, of),
        create(2, on("b")),
        other("lease/grant", &json!({"ID": 7, "TTL": 600})),
        leased("c"),
        leased("b"),
        leased("a"),
        write("c", "free"),
        other("lease/revoke", &json!({"ID": 7})),
        other("lease/grant", &json!({"ID": 77, "TTL": 600})),
        other("lock/lock", &json!({"name": text("door"), "lease": 77})),
        other(
            "election/campaign",
            &json!({"name": text("race"), "lease": 77, "value": text("me")}),
        ),
        other("lock/unlock", &json!({"key": text("door/4d")})),
        other("lease/revoke", &json!({"ID": 77})),
        other("lease/revoke", &json!({"ID": 77})),
    ]
}

/// Flags that change nothing here, and many watches of one key.
fn crowds() -> Vec<Step> {
    let mut steps = Vec::new();
    for flags in 0..8 {
        let of = WatchCreateRequest {
            progress_notify: flags & 1 > 0,
            fragment: flags & 2 > 0,
            prev_kv: flags & 4 > 0,
            ..on("a")
        };
        steps.push(create(20 + flags, of));
    }
    steps.extend([write("a", "1"), write("a", "2"), delete("a", "")]);
    steps.extend(repeat_n(create(0, on("a")), 12));
    steps.extend([write("a", "3"), write("b", "3")]);
    steps.extend((0..12).step_by(2).map(Step::Cancel));
    steps.extend([write("a", "4"), Step::Progress, write("a", "4")]);
    steps
}

/// All of them.
pub(super) fn scripts() -> Vec<Script> {
    vec![
        ("watched ranges", ranges()),
        ("watches from a revision", starts()),
        ("watches around a compaction", compacted()),
        ("watches of the future", futures()),
        ("watch ids", ids()),
        ("filtered watches", filters()),
        ("previous values", previous_values()),
        ("watched transactions", transactions()),
        ("watched leases", leases()),
        ("many watches", crowds()),
    ]
}
