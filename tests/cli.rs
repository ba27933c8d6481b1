//! The `vigil` binary as a user meets it: what it prints, how it fails, how it stops.
//!
//! Everything goes through the command line; nothing of the library is used.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken helper should stop the test"
)]

#[path = "cli/support.rs"]
mod support;

use support::{eventually, run, serve};
use tempfile::TempDir;

const ANY_PORT: &str = "127.0.0.1:0";

#[test]
fn verbs_print_what_etcds_client_prints() {
    let dir = TempDir::new().expect("temporary directory");
    let server = serve(dir.path(), ANY_PORT);
    assert_eq!(server.verb(&["put", "lamp/hall", "on"]), "OK\n");
    assert_eq!(
        server.verb(&["put", "lamp/hall", "off", "--prev-kv"]),
        "OK\nlamp/hall\non\n"
    );
    assert_eq!(
        server.verb(&["put", "lamp/porch"]),
        "OK\n",
        "standard input is empty"
    );
    assert_eq!(server.verb(&["get", "lamp/hall"]), "lamp/hall\noff\n");
    assert_eq!(
        server.verb(&["get", "lamp/hall", "--rev", "2"]),
        "lamp/hall\non\n"
    );
    assert_eq!(
        server.verb(&["get", "", "--prefix"]),
        "lamp/hall\noff\nlamp/porch\n\n"
    );
    assert_eq!(
        server.verb(&["get", "lamp/", "--prefix", "--count-only"]),
        "2\n"
    );
    let descending = [
        "get",
        "",
        "--from-key",
        "--order",
        "DESCEND",
        "--print-value-only",
    ];
    assert_eq!(server.verb(&descending), "\noff\n");
    assert_eq!(server.verb(&["get", "nothing"]), "");
    let json = server.verb(&["get", "lamp/hall", "-w", "json"]);
    let kv = r#""kvs":[{"key":"bGFtcC9oYWxs","create_revision":2,"mod_revision":3,"version":2,"value":"b2Zm"}]"#;
    assert!(
        json.contains(kv) && json.ends_with(",\"count\":1}\n"),
        "{json}"
    );
    assert_eq!(
        server.verb(&["del", "lamp/hall", "--prev-kv"]),
        "1\nlamp/hall\noff\n"
    );
    assert_eq!(server.verb(&["del", "lamp/hall"]), "0\n");
    assert_eq!(
        server.verb(&["compact", "4", "--physical"]),
        "compacted revision 4\n"
    );
    assert!(server.verb(&["status"]).contains("revision: 5\n"));
}

#[test]
fn a_failure_is_one_line_and_a_code() {
    let dir = TempDir::new().expect("temporary directory");
    let server = serve(dir.path(), ANY_PORT);
    let check = |words: &[&str], line: &str| assert_eq!(server.failing_verb(words), line);
    check(
        &["put", "", "x"],
        "Error: etcdserver: key is not provided\n",
    );
    check(
        &["put", "k", "--ignore-value"],
        "Error: etcdserver: key not found\n",
    );
    let future = "Error: etcdserver: mvcc: required revision is a future revision\n";
    check(&["get", "k", "--rev", "99"], future);
    server.verb(&["put", "k", "v"]);
    server.verb(&["compact", "2"]);
    let compacted =
        "Error: watch was canceled: etcdserver: mvcc: required revision has been compacted";
    let said = server.failing_verb(&["watch", "k", "--rev", "1"]);
    assert_eq!(
        said,
        format!("{compacted} (the oldest that is left is 2)\n")
    );

    let fails = |words: &[&str]| {
        let output = run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let away = fails(&["get", "k", "--endpoint", "127.0.0.1:1"]);
    assert!(
        away.starts_with("Error: cannot reach 127.0.0.1:1: ") && away.lines().count() == 1,
        "{away}"
    );
    let taken = fails(&[
        "serve",
        "--data-dir",
        "unused",
        "--log-level",
        "off",
        "--listen-client",
        &server.address,
    ]);
    assert!(
        taken.starts_with(&format!("Error: cannot listen on {}: ", server.address)),
        "{taken}"
    );
    assert_eq!(
        fails(&["serve", "--workers", "0"]),
        "Error: --workers is 0, and the least is 1\n"
    );
}

#[test]
fn a_watch_goes_on_across_a_crash_of_the_server_and_prints_every_event_once() {
    let dir = TempDir::new().expect("temporary directory");
    let mut server = serve(dir.path(), ANY_PORT);
    server.verb(&["put", "a", "1"]);
    let watch = server.start_verb(&["watch", "", "--prefix", "--rev", "1", "--prev-kv"]);
    let printed = |lines: &str| {
        eventually("the watch prints", || {
            let out = watch.out();
            if out == lines {
                Ok(())
            } else {
                Err(format!("{out:?}, {}", watch.err()))
            }
        });
    };
    printed("PUT\na\n1\n");
    server.running.kill();
    let mut server = serve(dir.path(), &server.address);
    server.verb(&["put", "a", "2"]);
    printed("PUT\na\n1\nPUT\na\n1\na\n2\n");
    assert_eq!(
        server.running.terminate(),
        Some(0),
        "{}",
        server.running.err()
    );
    let server = serve(dir.path(), &server.address);
    server.verb(&["del", "a"]);
    printed("PUT\na\n1\nPUT\na\n1\na\n2\nDELETE\na\n2\na\n\n");
    assert!(
        watch.err().contains("watching again from revision 3"),
        "{}",
        watch.err()
    );
}
