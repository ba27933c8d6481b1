//! Connections and threads: where a call runs, and what happens to it when the server stops.
//!
//! Nothing here depends on what a call says.

use super::fake::{Fake, one_key};
use super::{endpoint, eventually, kv, run, serve, serve_on, watch};
use crate::api::Edge;
use crate::api::pb::etcdserverpb as pb;
use crate::backend::{OutboxReader, StreamItem};
use crate::server::{Accepted, ServerLimits};
use actix_rt::Arbiter;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tonic::Code;

fn read() -> pb::RangeRequest {
    pb::RangeRequest {
        key: one_key().start,
        ..pb::RangeRequest::default()
    }
}

#[test]
fn t1_connections_are_dealt_out_in_turn_and_each_lives_on_its_workers_thread() {
    run(async {
        let fake = Fake::new();
        let workers = [Arbiter::new(), Arbiter::new()];
        let handles = workers.iter().map(Arbiter::handle).collect();
        let server = serve_on(&fake, ServerLimits::default(), handles);
        for _ in 0..4 {
            let mut kv = kv(&server).await;
            kv.range(read()).await.unwrap();
            kv.range(read()).await.unwrap();
        }
        let threads = fake.state().threads.clone();
        for calls in threads.chunks(2) {
            assert_eq!(calls[0], calls[1], "a connection stays where it is");
        }
        let distinct: HashSet<_> = threads.iter().collect();
        assert_eq!(distinct.len(), 2);
        assert!(!distinct.contains(&std::thread::current().id()));
        server.shutdown().await;
        for worker in workers {
            worker.stop();
            worker.join().unwrap();
        }
    });
}

#[test]
fn t1_a_watch_call_runs_where_actors_can_be_started() {
    run(async {
        // The reading side of a stream is spawned on the thread's `LocalSet`, as an actor would be.
        let fake = Fake::new();
        let worker = Arbiter::new();
        let server = serve_on(&fake, ServerLimits::default(), vec![worker.handle()]);
        let create = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(
                pb::WatchCreateRequest::default(),
            )),
        };
        let requests = tokio_stream::once(create);
        let mut responses = watch(&server)
            .await
            .watch(requests)
            .await
            .unwrap()
            .into_inner();
        assert!(responses.message().await.unwrap().unwrap().created);
        server.shutdown().await;
    });
}

#[test]
fn t3_what_crosses_threads_can() {
    fn is_send<T: Send>() {}
    is_send::<Accepted>();
    is_send::<Edge<Fake>>();
    is_send::<OutboxReader>();
    is_send::<StreamItem>();
}

#[test]
fn a_stopping_server_finishes_calls_and_ends_streams_with_unavailable() {
    run(async {
        let fake = Fake::new();
        let gate = Arc::new(Notify::new());
        fake.state().gate = Some(Arc::clone(&gate));
        let server = serve(&fake, ServerLimits::default());
        let address = server.local_addr();
        let mut stream = watch(&server)
            .await
            .watch(tokio_stream::pending())
            .await
            .unwrap()
            .into_inner();
        let mut kv = kv(&server).await;
        let put = pb::PutRequest {
            key: Bytes::from_static(b"k"),
            ..pb::PutRequest::default()
        };
        let write = tokio::spawn(async move { kv.put(put).await });
        eventually(|| fake.state().writes == 1).await;
        let stopping = actix_rt::spawn(server.shutdown());
        let status = stream.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "etcdserver: server stopped");
        assert!(!stopping.is_finished(), "a call is still being answered");
        assert!(TcpStream::connect(address).await.is_err());
        gate.notify_one();
        write.await.unwrap().unwrap();
        stopping.await.unwrap();
    });
}

#[test]
fn calls_that_do_not_finish_are_cut_off_after_the_grace() {
    run(async {
        let fake = Fake::new();
        fake.state().gate = Some(Arc::new(Notify::new()));
        let limits = ServerLimits {
            shutdown_grace: Duration::from_millis(20),
            ..ServerLimits::default()
        };
        let server = serve(&fake, limits);
        let mut kv = kv(&server).await;
        let write = tokio::spawn(async move { kv.put(pb::PutRequest::default()).await });
        eventually(|| fake.state().writes == 1).await;
        server.shutdown().await;
        assert!(write.await.unwrap().is_err());
    });
}

#[test]
fn a_connection_that_never_says_a_word_does_not_stay() {
    run(async {
        let fake = Fake::new();
        let limits = ServerLimits {
            first_word_timeout: Duration::from_millis(20),
            ..ServerLimits::default()
        };
        let server = serve(&fake, limits);
        let mut silent = TcpStream::connect(server.local_addr()).await.unwrap();
        let mut bytes = [0; 1];
        assert_eq!(silent.read(&mut bytes).await.unwrap(), 0);
    });
}

// One byte was enough to hold a connection's place for ever: what came after the first word had no limit in time.
#[test]
fn a_connection_that_stops_within_its_first_word_does_not_stay() {
    run(async {
        let fake = Fake::new();
        let limits = ServerLimits {
            first_word_timeout: Duration::from_millis(50),
            ..ServerLimits::default()
        };
        let server = serve(&fake, limits);
        for word in [&b"P"[..], b"PRI * HTTP/2.0\r\n"] {
            let mut slow = TcpStream::connect(server.local_addr()).await.unwrap();
            slow.write_all(word).await.unwrap();
            let mut said = Vec::new();
            // An error is an end as well.
            let _ = slow.read_to_end(&mut said).await;
            assert!(said.is_empty(), "{said:?}");
        }
    });
}

#[test]
fn what_is_neither_http_2_nor_http_1_is_not_spoken_to() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut client = TcpStream::connect(server.local_addr()).await.unwrap();
        client.write_all(b"\x16\x03\x01\x02").await.unwrap();
        let mut said = Vec::new();
        let _ = client.read_to_end(&mut said).await;
        assert!(said.is_empty(), "{said:?}");
    });
}

#[test]
fn with_room_for_one_connection_the_next_waits_for_it_to_go() {
    run(async {
        let fake = Fake::new();
        let limits = ServerLimits {
            connections_max: 1,
            accepts_per_worker_max: 1,
            ..ServerLimits::default()
        };
        let server = serve(&fake, limits);
        let mut first = kv(&server).await;
        first.range(read()).await.unwrap();
        let waiting = endpoint(&server);
        let second = tokio::spawn(async move {
            let channel = waiting.connect().await.unwrap();
            pb::kv_client::KvClient::new(channel).range(read()).await
        });
        // The first one's calls go on; the second one gets no turn meanwhile.
        for _ in 0..20 {
            first.range(read()).await.unwrap();
        }
        assert_eq!(fake.state().queries.len(), 21);
        drop(first);
        second.await.unwrap().unwrap();
    });
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head, payload.to_vec()].concat()
}

/// The headers of a Range call, each a literal that needs no table.
fn call_headers() -> Vec<u8> {
    let literal = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/etcdserverpb.KV/Range"),
        (":authority", "vigil"),
        ("content-type", "application/grpc"),
    ];
    let field = |(name, value)| [vec![0], literal(name), literal(value)].concat();
    fields.map(field).concat()
}

// A client that gave up more than 20 calls while its worker was busy lost its connection, and with it all its watches:
// that was the default of the library below.
#[test]
fn a_client_that_gives_up_many_calls_at_once_keeps_its_connection() {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut client = TcpStream::connect(server.local_addr()).await.unwrap();
        let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        wire.extend(frame(SETTINGS, 0, 0, &[]));
        for call in 0..300 {
            let stream = 2 * call + 1;
            wire.extend(frame(HEADERS, 4, stream, &call_headers()));
            wire.extend(frame(RST_STREAM, 0, stream, &CANCEL));
        }
        // One more, which is not given up and has an empty body.
        wire.extend(frame(HEADERS, 5, 601, &call_headers()));
        client.write_all(&wire).await.unwrap();
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            client.read_exact(&mut payload).await.unwrap();
            assert_ne!(head[3], GOAWAY, "{:?}", String::from_utf8_lossy(&payload));
            if head[3] == HEADERS && head[5..] == 601_u32.to_be_bytes() {
                break;
            }
        }
    });
}
