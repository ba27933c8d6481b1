//! The edge in front of the real engine: that the two fit, and no more.
//!
//! What the engine promises is tested in its own room and over the wire in `tests/it`.

use super::{channel, kv, member, run, watch};
use crate::actors::{Engine, EngineConfig, Placement};
use crate::api::HttpSettings;
use crate::api::pb::etcdserverpb as pb;
use crate::api::pb::etcdserverpb::watch_request::RequestUnion;
use crate::server::{Server, ServerLimits, engine_workers, start};
use bytes::Bytes;
use pb::maintenance_client::MaintenanceClient;
use std::net::TcpListener;
use tonic::Code;

async fn serve(placement: Placement) -> (tempfile::TempDir, Engine, Server) {
    let dir = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        placement,
        ..EngineConfig::new(dir.path())
    };
    let engine = Engine::start(config).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let limits = ServerLimits::default();
    let server = start(
        listener,
        engine_workers(&engine),
        member(),
        HttpSettings::default(),
        limits,
    )
    .unwrap();
    (dir, engine, server)
}

fn put(key: &'static str, value: &'static str) -> pb::PutRequest {
    pb::PutRequest {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
        ..pb::PutRequest::default()
    }
}

fn watch_all(start_revision: i64) -> pb::WatchRequest {
    let create = pb::WatchCreateRequest {
        range_end: Bytes::from_static(b"\0"),
        start_revision,
        prev_kv: true,
        ..pb::WatchCreateRequest::default()
    };
    pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    }
}

async fn what_is_written_is_read_and_watched(placement: Placement) {
    let (_dir, engine, server) = serve(placement).await;
    let mut kv = kv(&server).await;
    for value in ["1", "2"] {
        kv.put(put("a", value)).await.unwrap();
    }
    let mut responses = watch(&server)
        .await
        .watch(tokio_stream::once(watch_all(2)))
        .await
        .unwrap()
        .into_inner();
    let created = responses.message().await.unwrap().unwrap();
    assert!(created.created);
    assert_eq!((created.watch_id, created.header.unwrap().revision), (0, 3));
    let delete = pb::DeleteRangeRequest {
        key: Bytes::from_static(b"a"),
        ..pb::DeleteRangeRequest::default()
    };
    kv.delete_range(delete).await.unwrap();
    let mut events = Vec::new();
    while events.len() < 3 {
        let response = responses.message().await.unwrap().unwrap();
        let last = response.events.last().unwrap().kv.as_ref().unwrap();
        assert_eq!(response.header.unwrap().revision, last.mod_revision);
        events.extend(response.events);
    }
    let seen: Vec<_> = events
        .iter()
        .map(|event| {
            let kv = event.kv.as_ref().unwrap();
            let prev = event.prev_kv.as_ref().map(|kv| kv.value.clone());
            (event.r#type, kv.mod_revision, kv.value.clone(), prev)
        })
        .collect();
    let text = Bytes::from_static;
    let expected = [
        (0, 2, text(b"1"), None),
        (0, 3, text(b"2"), Some(text(b"1"))),
        (1, 4, Bytes::new(), Some(text(b"2"))),
    ];
    assert_eq!(seen, expected);
    let status = MaintenanceClient::new(channel(&server).await)
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.header.unwrap().revision, 4);
    server.shutdown().await;
    let end = responses.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    engine.stop().await.unwrap();
}

#[test]
fn the_engine_serves_clients_from_threads_of_its_own() {
    run(what_is_written_is_read_and_watched(Placement::Threads {
        workers: 2,
    }));
}

#[test]
fn the_engine_serves_clients_from_the_thread_that_started_it() {
    run(what_is_written_is_read_and_watched(Placement::Current));
}

#[test]
fn refusals_of_the_store_reach_the_client_with_etcds_words() {
    run(async {
        let (_dir, engine, server) = serve(Placement::Current).await;
        let mut kv = kv(&server).await;
        kv.put(put("a", "1")).await.unwrap();
        let range = |revision| pb::RangeRequest {
            key: Bytes::from_static(b"a"),
            revision,
            ..pb::RangeRequest::default()
        };
        let future = kv.range(range(9)).await.unwrap_err();
        assert_eq!(
            future.message(),
            "etcdserver: mvcc: required revision is a future revision"
        );
        kv.put(put("a", "2")).await.unwrap();
        let compact = pb::CompactionRequest {
            revision: 3,
            physical: true,
        };
        kv.compact(compact).await.unwrap();
        let compacted = kv.range(range(2)).await.unwrap_err();
        assert_eq!(compacted.code(), Code::OutOfRange);
        let empty = kv.put(pb::PutRequest::default()).await.unwrap_err();
        assert_eq!(empty.message(), "etcdserver: key is not provided");
        server.shutdown().await;
        engine.stop().await.unwrap();
    });
}
