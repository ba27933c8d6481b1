//! HTTP/1 on the same port: where it runs, its bounds, and how it ends.
//!
//! What the answers say is compared with etcd's in `tests/it`.

use super::fake::Fake;
use super::{eventually, kv, run, serve, serve_on, serve_with};
use crate::api::pb::etcdserverpb as pb;
use crate::api::{HttpSettings, NameList};
use crate::backend::{Batch, Outbox, StreamEnd, StreamItem};
use crate::model::{Event, EventKind, KeyValue, Revision, WatchId};
use crate::server::{Server, ServerLimits};
use actix_rt::Arbiter;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// A connection, and what was read from it so far.
struct Client {
    socket: TcpStream,
    said: String,
}

impl Client {
    async fn connect(server: &Server) -> Self {
        Self {
            socket: TcpStream::connect(server.local_addr()).await.unwrap(),
            said: String::new(),
        }
    }

    async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    async fn ask(server: &Server, head: &str, body: &str) -> Self {
        let mut client = Self::connect(server).await;
        let length = body.len();
        let request =
            format!("{head} HTTP/1.1\r\nhost: vigil\r\ncontent-length: {length}\r\n\r\n{body}");
        client.send(&request).await;
        client
    }

    /// Reads until this was said.
    async fn hears(&mut self, text: &str) {
        while !self.said.contains(text) {
            assert!(
                self.read().await,
                "the end, without {text:?}: {}",
                self.said
            );
        }
    }

    /// Reads to the end, which may be an error.
    async fn rest(mut self) -> String {
        while self.read().await {}
        self.said
    }

    async fn read(&mut self) -> bool {
        let mut bytes = vec![0; 1 << 16];
        let count = self.socket.read(&mut bytes).await.unwrap_or(0);
        self.said
            .push_str(&String::from_utf8_lossy(&bytes[..count]));
        count > 0
    }
}

pub(super) fn events(revisions: &[i64], value: impl Into<Bytes>) -> Arc<Batch> {
    let value = value.into();
    let event = |revision: &i64| {
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            create_revision: Revision(1),
            mod_revision: Revision(*revision),
            version: *revision,
            value: value.clone(),
            ..KeyValue::default()
        };
        Arc::new(Event::new(EventKind::Put, kv))
    };
    Arc::new(Batch::new(revisions.iter().map(event).collect(), false).unwrap())
}

pub(super) async fn push(outbox: &Arc<Outbox>, batch: Arc<Batch>) {
    let room = Arc::clone(outbox).room(Arc::clone(&batch)).await.unwrap();
    outbox.push(StreamItem::Events {
        watch_id: WatchId(0),
        batch,
        fragment: false,
        room,
    });
}

/// A watch over plain HTTP, which has begun.
async fn watching(server: &Server, fake: &Fake) -> (Client, Arc<Outbox>) {
    let mut client = Client::ask(server, "GET /watch/k", "").await;
    client.hears("id: 1\n\n").await;
    (client, fake.outbox())
}

#[test]
fn t2_http1_and_http2_are_answered_on_one_port_by_one_worker() {
    run(async {
        let fake = Fake::new();
        let worker = Arbiter::new();
        let server = serve_on(&fake, ServerLimits::default(), vec![worker.handle()]);
        let mut client = Client::ask(&server, "POST /v3/kv/put", r#"{"key":"aw=="}"#).await;
        client.hears(r#""revision":"2""#).await;
        let read = pb::RangeRequest {
            key: Bytes::from_static(b"k"),
            ..pb::RangeRequest::default()
        };
        let answer = kv(&server).await.range(read).await.unwrap().into_inner();
        assert_eq!(answer.count, 1);
        let mut client = Client::ask(&server, "POST /v3/kv/range", r#"{"key":"aw=="}"#).await;
        client.hears(r#""count":"1""#).await;
        let threads = fake.state().threads.clone();
        assert_eq!(threads[0], threads[1]);
        assert_ne!(threads[0], std::thread::current().id());
        server.shutdown().await;
    });
}

#[test]
fn a_stopping_server_ends_streams_and_idle_connections_and_finishes_what_it_answers() {
    run(async {
        let fake = Fake::new();
        let gate = Arc::new(Notify::new());
        fake.state().gate = Some(Arc::clone(&gate));
        let server = serve(&fake, ServerLimits::default());
        let (events, _) = watching(&server, &fake).await;
        let create = r#"{"create_request":{"key":"aw=="}}"#;
        let mut stream = Client::ask(&server, "POST /v3/watch", create).await;
        stream.hears("created").await;
        let mut idle = Client::ask(&server, "GET /version", "").await;
        idle.hears("etcdserver").await;
        let put = Client::ask(&server, "POST /v3/kv/put", r#"{"key":"aw=="}"#).await;
        eventually(|| fake.state().writes == 1).await;
        let stopping = actix_rt::spawn(server.shutdown());
        // The chunk of no bytes is the end of a body that was not cut off.
        assert!(events.rest().await.ends_with("\r\n0\r\n\r\n"));
        let ended = stream.rest().await;
        let said = r#"{"error":{"code":14,"message":"etcdserver: server stopped"}}"#;
        assert!(ended.contains(said), "{ended}");
        idle.rest().await;
        assert!(!stopping.is_finished(), "a call is still being answered");
        gate.notify_one();
        assert!(put.rest().await.starts_with("HTTP/1.1 200 "));
        stopping.await.unwrap();
    });
}

#[test]
fn a_reader_that_leaves_takes_its_watch_along() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let (events, of_events) = watching(&server, &fake).await;
        let create = r#"{"create_request":{"key":"aw=="}}"#;
        let mut stream = Client::ask(&server, "POST /v3/watch", create).await;
        stream.hears("created").await;
        let of_stream = fake.outbox();
        let waiting = Client::ask(&server, "GET /watch/k?wait", "").await;
        eventually(|| fake.state().outboxes.len() == 3).await;
        let of_waiting = fake.outbox();
        let all = [of_events, of_stream, of_waiting];
        assert!(all.iter().all(|outbox| !outbox.is_ended()));
        drop((events, stream, waiting));
        eventually(|| all.iter().all(|outbox| outbox.is_ended())).await;
    });
}

#[test]
fn a_body_above_the_limit_is_refused_with_the_limits_name() {
    run(async {
        let fake = Fake::new();
        let limits = ServerLimits {
            request_bytes_max: 1000,
            ..ServerLimits::default()
        };
        let server = serve(&fake, limits);
        let bytes_max = 2 * (1000 + (512 << 10));
        let said = format!("limit of {bytes_max} bytes");
        // Announced, and in pieces that announce nothing.
        let mut client = Client::connect(&server).await;
        let head = format!(
            "POST /v3/kv/put HTTP/1.1\r\nhost: v\r\ncontent-length: {}\r\n\r\n",
            bytes_max + 1
        );
        client.send(&head).await;
        client.hears(&said).await;
        assert!(client.said.starts_with("HTTP/1.1 413 "), "{}", client.said);
        let mut client = Client::connect(&server).await;
        client
            .send("POST /v3/kv/put HTTP/1.1\r\nhost: v\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        let piece = format!("{:x}\r\n{}\r\n", 64 << 10, " ".repeat(64 << 10));
        for _ in 0..17 {
            // The answer may come first.
            let _ = client.socket.write_all(piece.as_bytes()).await;
        }
        client.hears(&said).await;
        assert!(client.said.starts_with("HTTP/1.1 413 "), "{}", client.said);
        assert_eq!(fake.state().writes, 0);
    });
}

#[test]
fn a_connection_whose_request_does_not_come_does_not_stay() {
    run(async {
        let fake = Fake::new();
        let limits = ServerLimits {
            first_word_timeout: Duration::from_millis(20),
            http_idle_timeout: Duration::from_millis(20),
            shutdown_grace: Duration::from_millis(20),
            ..ServerLimits::default()
        };
        let server = serve(&fake, limits);
        let said = async |request: &str| {
            let mut client = Client::connect(&server).await;
            client.send(request).await;
            client.rest().await
        };
        // A head, a body, and a second request.
        let body = "POST /v3/kv/put HTTP/1.1\r\nhost: v\r\ncontent-length: 9\r\n\r\n{";
        let (head, body, second) = tokio::join!(
            said("GET /hea"),
            said(body),
            said("GET /version HTTP/1.1\r\nhost: v\r\n\r\n")
        );
        assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
        assert!(body.starts_with("HTTP/1.1 408 "), "{body}");
        assert!(second.contains("etcdserver"), "{second}");
    });
}

#[test]
fn b2_a_reader_of_events_that_does_not_read_fills_its_outbox_and_not_the_memory() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let (mut slow, outbox) = watching(&server, &fake).await;
        let value = vec![b'v'; 64 << 10];
        let mut sent = 1;
        loop {
            let next = events(&[sent + 1], value.clone());
            let wait = Duration::from_millis(300);
            let pushed = tokio::time::timeout(wait, push(&outbox, next)).await;
            if pushed.is_err() {
                break;
            }
            sent += 1;
            // What the sockets hold is bounded by the kernel, and what we hold must be.
            assert!(sent < 2000, "nothing holds the watch back");
        }
        // Another reader gets its events meanwhile.
        let (mut other, of_other) = watching(&server, &fake).await;
        push(&of_other, events(&[9], "x")).await;
        other.hears("id: 9\n").await;
        // Nothing was lost and nothing came twice.
        slow.hears(&format!("id: {sent}\n")).await;
        slow.hears("]").await;
        let ids = slow.said.split("id: ").skip(2).map(|rest| {
            let id: String = rest.chars().take_while(char::is_ascii_digit).collect();
            id.parse::<i64>().unwrap()
        });
        assert!(ids.eq(2..=sent));
    });
}

#[test]
fn a_json_watch_that_asks_for_a_leader_is_told_when_there_is_none() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let create = r#"{"create_request":{"key":"aw=="}}"#;
        let asking = async || {
            let mut client = Client::connect(&server).await;
            let length = create.len();
            let head = "POST /v3/watch HTTP/1.1\r\nhost: vigil\r\ngrpc-metadata-hasleader: true";
            let request = format!("{head}\r\ncontent-length: {length}\r\n\r\n{create}");
            client.send(&request).await;
            client
        };
        let mut watching = asking().await;
        watching.hears(r#""created":true"#).await;
        let lost = Arc::clone(&fake.state().leader_lost);
        lost.notify_waiters();
        watching.hears("etcdserver: no leader").await;
        fake.state().leaderless = true;
        let mut refused = asking().await;
        refused.hears("etcdserver: no leader").await;
        assert!(
            refused.said.starts_with("HTTP/1.1 503 "),
            "{}",
            refused.said
        );
    });
}

#[test]
fn an_event_stream_says_how_far_it_has_come_while_nothing_happens() {
    run(async {
        let fake = Fake::new();
        let limits = ServerLimits {
            event_keep_alive_interval: Duration::from_millis(10),
            ..ServerLimits::default()
        };
        let server = serve(&fake, limits);
        let (mut client, outbox) = watching(&server, &fake).await;
        client.hears("\n:\n\n").await;
        fake.state().revision = 7;
        client.hears("\nid: 7\n\n").await;
        push(&outbox, events(&[8, 8, 9], "x")).await;
        client.hears("\nid: 9\ndata: ").await;
        let told: Vec<_> = client
            .said
            .lines()
            .filter(|it| it.starts_with("id: "))
            .collect();
        assert_eq!(told, ["id: 1", "id: 7", "id: 8", "id: 9"]);
    });
}

#[test]
fn a_watch_that_cannot_go_on_says_why() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let compacted = || StreamItem::Compacted {
            watch_id: WatchId(0),
            compact_revision: Revision(40),
        };
        let (mut client, outbox) = watching(&server, &fake).await;
        outbox.push(compacted());
        client.hears("event: compacted\ndata: {").await;
        client.hears("\"compact_revision\":40").await;
        client.hears("\r\n0\r\n\r\n").await;
        let mut waiting = Client::ask(&server, "GET /watch/k?wait&since=3", "").await;
        eventually(|| fake.state().outboxes.len() == 2).await;
        fake.outbox().push(compacted());
        waiting.hears("\"compact_revision\":40").await;
        assert!(waiting.said.starts_with("HTTP/1.1 410 "));
        let (mut client, outbox) = watching(&server, &fake).await;
        outbox.end(StreamEnd::Unavailable("watch side restarted"));
        client.hears(": watch side restarted\n\n").await;
        client.hears("\r\n0\r\n\r\n").await;
    });
}

#[test]
fn origins_and_hosts_are_those_of_the_settings() {
    run(async {
        let fake = Fake::new();
        let settings = HttpSettings {
            cors: NameList::read("http://page"),
            host_whitelist: NameList::read("vigil"),
            grpc_gateway: false,
        };
        let threads = vec![Arbiter::current()];
        let server = serve_with(&fake, settings, ServerLimits::default(), threads);
        let ask = async |head: &str| {
            let mut client = Client::connect(&server).await;
            let close = "connection: close\r\n\r\n";
            client.send(&format!("{head}\r\n{close}")).await;
            client.rest().await.to_ascii_lowercase()
        };
        let said = ask("GET /version HTTP/1.1\r\nhost: vigil:1\r\norigin: http://page").await;
        assert!(said.starts_with("http/1.1 200 "), "{said}");
        assert!(said.contains("access-control-allow-origin: http://page\r\n"));
        let said = ask("GET /version HTTP/1.1\r\nhost: vigil\r\norigin: http://other").await;
        assert!(said.starts_with("http/1.1 200 "), "{said}");
        assert!(!said.contains("access-control"), "{said}");
        let said = ask("GET /version HTTP/1.1\r\nhost: elsewhere").await;
        assert!(said.starts_with("http/1.1 421 "), "{said}");
        assert!(said.contains("--host-whitelist"), "{said}");
        let said = ask("POST /v3/kv/range HTTP/1.1\r\nhost: vigil").await;
        assert!(said.starts_with("http/1.1 404 "), "{said}");
    });
}
