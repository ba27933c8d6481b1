//! Requests as flags make them, and answers as they are printed.
//!
//! The printed forms are those of etcd's own client; a change here is a change for scripts.

use super::print::{Parts, Printer};
use super::{VerbError, kv};
use crate::api::pb::etcdserverpb::{
    DeleteRangeResponse, PutRequest, PutResponse, RangeResponse, ResponseHeader, StatusResponse,
    WatchResponse,
};
use crate::api::pb::mvccpb::{Event, KeyValue};
use crate::cli::{Cli, Command, Format, Verb};
use crate::tls::ClientFiles;
use clap::Parser;
use std::io::{self, Write};

fn verb(line: &[&str]) -> Verb {
    match Cli::try_parse_from(["vigil"].iter().chain(line))
        .unwrap()
        .command
    {
        Command::Verb(verb) => verb,
        _ => panic!("not a verb"),
    }
}

fn put_request(line: &[&str], stdin: &str) -> PutRequest {
    match verb(line) {
        Verb::Put(args) => kv::put_request(&args, stdin.as_bytes()).unwrap(),
        other => panic!("not a put: {other:?}"),
    }
}

fn printed(
    format: Format,
    print: impl FnOnce(&mut Printer<&mut Vec<u8>>) -> Result<(), VerbError>,
) -> String {
    let mut out = Vec::new();
    print(&mut Printer::new(&mut out, format)).unwrap();
    String::from_utf8(out).unwrap()
}

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader {
        cluster_id: 12_101_053_776_118_486_841,
        member_id: 3,
        revision,
        raft_term: 2,
    }
}

fn key_value(key: &'static str, value: &'static str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value.into(),
        create_revision: 2,
        mod_revision: 7,
        version: 5,
        lease: 0,
    }
}

#[test]
fn ranges_become_the_protocols_pairs() {
    let check = |line: &[&str], key: &[u8], end: &[u8]| {
        let (Verb::Get(_) | Verb::Del(_)) = verb(line) else {
            panic!("{line:?}")
        };
        let range = match verb(line) {
            Verb::Get(args) => args.range,
            Verb::Del(args) => args.range,
            other => panic!("{other:?}"),
        };
        let (found_key, found_end) = kv::wire_range(&range);
        assert_eq!(
            (found_key.as_ref(), found_end.as_ref()),
            (key, end),
            "{line:?}"
        );
    };
    check(&["get", "a"], b"a", b"");
    check(&["get", "a", "c"], b"a", b"c");
    check(&["get", "a", "--prefix"], b"a", b"b");
    check(&["get", "", "--prefix"], b"\0", b"\0");
    check(&["del", "", "--from-key"], b"\0", b"\0");
    check(&["del", "k", "--from-key"], b"k", b"\0");
    check(&["get", ""], b"", b"");
}

#[test]
fn a_put_reads_its_value_from_standard_input_when_it_has_none() {
    assert_eq!(
        put_request(&["put", "k", "v"], "input").value.as_ref(),
        b"v"
    );
    assert_eq!(put_request(&["put", "k"], "input").value.as_ref(), b"input");
    assert_eq!(
        put_request(&["put", "k", "-1"], "input").value.as_ref(),
        b"-1"
    );
    let ignore = put_request(&["put", "k", "--ignore-value"], "input");
    assert!(ignore.ignore_value && ignore.value.is_empty());
    assert!(Cli::try_parse_from(["vigil", "put", "k", "v", "--ignore-value"]).is_err());
    assert!(Cli::try_parse_from(["vigil", "get", "a", "b", "--prefix"]).is_err());
}

#[test]
fn answers_in_plain_lines() {
    let put = PutResponse {
        header: Some(header(7)),
        prev_kv: Some(key_value("a", "1")),
    };
    assert_eq!(printed(Format::Simple, |p| p.put(&put)), "OK\na\n1\n");
    let range = RangeResponse {
        header: Some(header(7)),
        kvs: vec![key_value("a", "1"), key_value("b", "")],
        more: true,
        count: 3,
    };
    let get = |parts| printed(Format::Simple, |p| p.range(&range, parts));
    assert_eq!(get(Parts::KeysAndValues), "a\n1\nb\n\n");
    assert_eq!(get(Parts::Values), "1\n\n");
    assert_eq!(get(Parts::Count), "3\n");
    let delete = DeleteRangeResponse {
        header: Some(header(7)),
        deleted: 1,
        prev_kvs: vec![key_value("a", "1")],
    };
    assert_eq!(printed(Format::Simple, |p| p.delete(&delete)), "1\na\n1\n");
}

#[test]
fn answers_in_json_leave_out_what_is_zero() {
    let put = PutResponse {
        header: Some(header(7)),
        prev_kv: Some(key_value("a", "3")),
    };
    let start =
        r#"{"header":{"cluster_id":12101053776118486841,"member_id":3,"revision":7,"raft_term":2}"#;
    let kv = r#"{"key":"YQ==","create_revision":2,"mod_revision":7,"version":5,"value":"Mw=="}"#;
    let json = printed(Format::Json, |p| p.put(&put));
    assert_eq!(json, format!("{start},\"prev_kv\":{kv}}}\n"));
    let range = RangeResponse {
        header: Some(header(7)),
        kvs: vec![key_value("a", "3")],
        more: true,
        count: 3,
    };
    let json = printed(Format::Json, |p| p.range(&range, Parts::KeysAndValues));
    assert_eq!(
        json,
        format!("{start},\"kvs\":[{kv}],\"more\":true,\"count\":3}}\n")
    );
    let nothing = RangeResponse {
        header: Some(header(7)),
        ..RangeResponse::default()
    };
    let json = printed(Format::Json, |p| p.range(&nothing, Parts::Count));
    assert_eq!(json, format!("{start}}}\n"));
    let status = StatusResponse {
        header: Some(header(7)),
        version: "3.5.0".to_owned(),
        db_size: 9,
        ..StatusResponse::default()
    };
    let json = printed(Format::Json, |p| p.status("h:1", &status));
    let inner = format!("{start},\"version\":\"3.5.0\",\"dbSize\":9}}");
    assert_eq!(
        json,
        format!("[{{\"Endpoint\":\"h:1\",\"Status\":{inner}}}]\n")
    );
}

#[test]
fn events_show_the_previous_value_first() {
    let mut tombstone = key_value("a", "");
    tombstone.version = 0;
    tombstone.create_revision = 0;
    let events = vec![
        Event {
            r#type: 0,
            kv: Some(key_value("a", "2")),
            prev_kv: Some(key_value("a", "1")),
        },
        Event {
            r#type: 1,
            kv: Some(tombstone),
            prev_kv: None,
        },
    ];
    let answer = WatchResponse {
        header: Some(header(8)),
        events,
        ..WatchResponse::default()
    };
    let lines = printed(Format::Simple, |p| p.events(&answer));
    assert_eq!(lines, "PUT\na\n1\na\n2\nDELETE\na\n\n");
    let json = printed(Format::Json, |p| p.events(&answer));
    assert!(json.starts_with("{\"Header\":{\"cluster_id\":"), "{json}");
    assert!(
        json.contains(r#"{"type":1,"kv":{"key":"YQ==","mod_revision":7}}"#),
        "{json}"
    );
    assert!(json.ends_with("\"CompactRevision\":0,\"Canceled\":false,\"Created\":false}\n"));
    let progress = printed(Format::Simple, |p| p.progress(&answer));
    assert_eq!(progress, "progress notify: 8\n");
}

/// A terminal that has gone away.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_stops_reading_is_recognised() {
    let error = Printer::new(Closed, Format::Simple)
        .put(&PutResponse::default())
        .unwrap_err();
    assert!(error.is_broken_pipe() && !error.is_connection());
    let error = Printer::new(Closed, Format::Json)
        .put(&PutResponse::default())
        .unwrap_err();
    assert!(error.is_broken_pipe());
}

// A port that is none was taken modulo 65536, and a path was passed over in silence.
#[tokio::test]
async fn an_endpoint_is_a_host_and_a_port_and_nothing_else() {
    for endpoint in [
        "127.0.0.1:99999",
        "127.0.0.1:",
        "127.0.0.1:1/path",
        "127.0.0.1:1?query",
        "user@127.0.0.1:1",
        ":1",
        "127.0.0.1",
        "::1",
        "https://127.0.0.1:1/path",
        "ftp://127.0.0.1:1",
    ] {
        let error = super::connect::connect_to(endpoint, &ClientFiles::default())
            .await
            .unwrap_err();
        assert!(matches!(error, VerbError::Endpoint { .. }), "{error}");
    }
    for endpoint in [
        "127.0.0.1:1",
        "http://127.0.0.1:1/",
        "https://127.0.0.1:1",
        "[::1]:1",
    ] {
        let error = super::connect::connect_to(endpoint, &ClientFiles::default())
            .await
            .unwrap_err();
        assert!(matches!(error, VerbError::Unreachable { .. }), "{error}");
    }
}

#[test]
fn negative_numbers_are_numbers_and_not_flags() {
    let Verb::Get(get) = verb(&["get", "k", "--rev", "-1", "--limit", "-2"]) else {
        panic!("not a get");
    };
    assert_eq!((get.rev, get.limit), (-1, -2));
    let Verb::Watch(watch) = verb(&["watch", "k", "--rev", "-1"]) else {
        panic!("not a watch");
    };
    assert_eq!(watch.rev, -1);
    let Verb::Compact(compact) = verb(&["compact", "-1"]) else {
        panic!("not a compact");
    };
    assert_eq!(compact.revision, -1);
}
