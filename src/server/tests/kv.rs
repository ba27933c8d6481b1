//! The calls that are not watches, as a client sees them.
//!
//! Nothing here looks behind the backend's face.

use super::fake::{Fake, IDENTITY};
use super::{channel, kv, member, run, serve};
use crate::api::pb::etcdserverpb as pb;
use crate::backend::BackendError;
use crate::model::{Refusal, Revision};
use crate::server::ServerLimits;
use bytes::Bytes;
use futures_util::StreamExt;
use pb::cluster_client::ClusterClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use tonic::{Code, Request};

fn put(key: &str, value: impl Into<Bytes>) -> pb::PutRequest {
    pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        prev_kv: true,
        ..pb::PutRequest::default()
    }
}

fn everything() -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..pb::RangeRequest::default()
    }
}

#[track_caller]
fn check_header(header: Option<pb::ResponseHeader>, revision: i64) {
    let header = header.unwrap();
    assert_eq!(header.cluster_id, IDENTITY.cluster_id);
    assert_eq!(header.member_id, IDENTITY.member_id);
    assert_eq!(header.raft_term, IDENTITY.raft_term);
    assert_eq!(header.revision, revision);
}

#[test]
fn reads_and_writes_are_answered_with_full_headers() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut kv = kv(&server).await;
        let answer = kv.put(put("a", "1")).await.unwrap().into_inner();
        check_header(answer.header, 2);
        assert_eq!(answer.prev_kv, None);
        let answer = kv.put(put("a", "2")).await.unwrap().into_inner();
        check_header(answer.header, 3);
        assert_eq!(answer.prev_kv.unwrap().value, Bytes::from_static(b"1"));
        let answer = kv.range(everything()).await.unwrap().into_inner();
        check_header(answer.header, 3);
        let got = &answer.kvs[0];
        assert_eq!(
            (
                got.create_revision,
                got.mod_revision,
                got.version,
                &got.value[..]
            ),
            (2, 3, 2, &b"2"[..])
        );
        assert_eq!((answer.count, answer.more), (1, false));
        let delete = pb::DeleteRangeRequest {
            key: Bytes::from_static(b"a"),
            prev_kv: true,
            ..pb::DeleteRangeRequest::default()
        };
        let answer = kv.delete_range(delete).await.unwrap().into_inner();
        check_header(answer.header, 4);
        assert_eq!((answer.deleted, answer.prev_kvs.len()), (1, 1));
        let compact = pb::CompactionRequest {
            revision: 3,
            physical: false,
        };
        check_header(kv.compact(compact).await.unwrap().into_inner().header, 4);
    });
}

#[test]
fn a_transaction_is_answered_operation_by_operation() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let op = |request| pb::RequestOp {
            request: Some(request),
        };
        let txn = pb::TxnRequest {
            success: vec![
                op(pb::request_op::Request::RequestPut(put("a", "1"))),
                op(pb::request_op::Request::RequestRange(everything())),
            ],
            ..pb::TxnRequest::default()
        };
        let answer = kv(&server).await.txn(txn).await.unwrap().into_inner();
        check_header(answer.header, 2);
        assert!(answer.succeeded);
        let [put, range] = &answer.responses[..] else {
            panic!("{answer:?}");
        };
        assert!(matches!(
            put.response,
            Some(pb::response_op::Response::ResponsePut(_))
        ));
        let Some(pb::response_op::Response::ResponseRange(range)) = &range.response else {
            panic!("{range:?}");
        };
        assert_eq!((range.count, range.header.unwrap().cluster_id), (1, 0));
    });
}

#[test]
fn what_the_backend_refuses_reaches_the_client_as_etcds_error() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut kv = kv(&server).await;
        let keyless = kv.range(pb::RangeRequest::default()).await.unwrap_err();
        assert_eq!(keyless.code(), Code::InvalidArgument);
        assert_eq!(keyless.message(), "etcdserver: key is not provided");
        let unsorted = pb::RangeRequest {
            sort_order: 17,
            ..everything()
        };
        let unsorted = kv.range(unsorted).await.unwrap_err();
        assert_eq!(unsorted.message(), "etcdserver: invalid sort option");
        let table = [
            (
                BackendError::Stopped,
                Code::Unavailable,
                "etcdserver: server stopped",
            ),
            (
                BackendError::TooManyRequests,
                Code::ResourceExhausted,
                "etcdserver: too many requests",
            ),
            (BackendError::Failed("disk".into()), Code::Unknown, "disk"),
            (
                BackendError::Refused(Refusal::Compacted {
                    compact_revision: Revision(3),
                }),
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
        ];
        for (error, code, text) in table {
            fake.state().errors.push(error);
            let status = kv.put(put("a", "1")).await.unwrap_err();
            assert_eq!((status.code(), status.message()), (code, text));
        }
    });
}

#[test]
fn a_request_too_large_is_told_apart_from_a_message_too_large() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut kv = kv(&server).await;
        kv.put(put("a", vec![b'x'; 1_500_000])).await.unwrap();
        let status = kv.put(put("a", vec![b'x'; 1_572_864])).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "etcdserver: request is too large");
        let status = kv.put(put("a", vec![b'x'; 2_097_152])).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    });
}

#[test]
fn metadata_that_is_no_text_is_refused_and_hasleader_is_accepted() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut kv = kv(&server).await;
        let mut request = Request::new(everything());
        request
            .metadata_mut()
            .insert("hasleader", "true".parse().unwrap());
        request
            .metadata_mut()
            .insert("client-api-version", "3.6".parse().unwrap());
        kv.range(request).await.unwrap();
        let mut request = Request::new(everything());
        let unreadable = (&b"3.\xff"[..]).try_into().unwrap();
        request
            .metadata_mut()
            .insert("client-api-version", unreadable);
        let status = kv.range(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "etcdserver: invalid client api version");
    });
}

async fn streamed(
    kv: &mut pb::kv_client::KvClient<tonic::transport::Channel>,
    request: pb::RangeRequest,
) -> Vec<pb::RangeResponse> {
    let mut stream = kv.range_stream(request).await.unwrap().into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        parts.push(part.range_response.unwrap());
    }
    parts
}

#[test]
fn a_streamed_range_comes_in_growing_parts_and_the_last_one_has_the_header() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut kv = kv(&server).await;
        for number in 0..35 {
            kv.put(put(&format!("k{number:02}"), "v")).await.unwrap();
        }
        let parts = streamed(&mut kv, everything()).await;
        let sizes: Vec<_> = parts.iter().map(|part| part.kvs.len()).collect();
        assert_eq!(sizes, [10, 20, 5]);
        for part in &parts[..2] {
            assert_eq!((part.header, part.count, part.more), (None, 0, false));
        }
        check_header(parts[2].header, 36);
        assert_eq!((parts[2].count, parts[2].more), (35, false));
        let revisions: Vec<_> = fake.state().queries.iter().map(|q| q.revision).collect();
        assert_eq!(
            revisions,
            [0, 36, 36],
            "later parts are read at the first one's revision"
        );
        let limited = pb::RangeRequest {
            limit: 12,
            ..everything()
        };
        let parts = streamed(&mut kv, limited).await;
        assert_eq!(parts.iter().map(|part| part.kvs.len()).sum::<usize>(), 12);
        let last = parts.last().unwrap();
        assert_eq!((last.count, last.more), (35, true));
        let count = pb::RangeRequest {
            count_only: true,
            ..everything()
        };
        let parts = streamed(&mut kv, count).await;
        assert_eq!((parts.len(), parts[0].count), (1, 35));
        fake.state().keys_per_answer_max = Some(3);
        let parts = streamed(&mut kv, everything()).await;
        assert_eq!(parts.iter().map(|part| part.kvs.len()).sum::<usize>(), 35);
    });
}

#[test]
fn a_streamed_range_is_plain_or_refused() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut kv = kv(&server).await;
        let sorted = pb::RangeRequest {
            sort_target: pb::range_request::SortTarget::Mod as i32,
            ..everything()
        };
        let status = kv.range_stream(sorted).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert_eq!(
            status.message(),
            "RangeStream does not support custom sort orders"
        );
        let bounded = pb::RangeRequest {
            min_mod_revision: 1,
            ..everything()
        };
        let status = kv.range_stream(bounded).await.unwrap_err();
        assert_eq!(
            status.message(),
            "RangeStream does not support revision filters"
        );
        let parts = streamed(&mut kv, everything()).await;
        assert_eq!(parts.len(), 1);
        check_header(parts[0].header, 1);
    });
}

#[test]
fn the_server_tells_who_and_how_it_is() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let channel = channel(&server).await;
        let mut cluster = ClusterClient::new(channel.clone());
        let list = pb::MemberListRequest { linearizable: true };
        let answer = cluster.member_list(list).await.unwrap().into_inner();
        check_header(answer.header, 0);
        let listed = &answer.members[0];
        assert_eq!((listed.id, listed.is_learner), (IDENTITY.member_id, false));
        assert_eq!(listed.name, member().name);
        assert_eq!(listed.client_ur_ls, member().client_urls);
        let mut maintenance = MaintenanceClient::new(channel.clone());
        let status = maintenance
            .status(pb::StatusRequest {})
            .await
            .unwrap()
            .into_inner();
        check_header(status.header, 1);
        assert_eq!(
            (status.version.as_str(), status.storage_version.as_str()),
            ("3.6.14", "3.6.0")
        );
        assert_eq!((status.db_size, status.db_size_in_use), (1000, 100));
        assert_eq!((status.leader, status.raft_term), (IDENTITY.member_id, 33));
        let alarms = maintenance
            .alarm(pb::AlarmRequest::default())
            .await
            .unwrap();
        assert!(alarms.into_inner().alarms.is_empty());
        let hash = maintenance.hash_kv(pb::HashKvRequest::default()).await;
        assert_eq!(hash.unwrap_err().code(), Code::ResourceExhausted);
    });
}

#[test]
fn keep_alives_are_answered_in_order_and_end_with_their_client() {
    run(async {
        let server = serve(&Fake::new(), ServerLimits::default());
        let mut lease = LeaseClient::new(channel(&server).await);
        let ids = (1..1000).map(|id| pb::LeaseKeepAliveRequest { id });
        let answers = lease.lease_keep_alive(tokio_stream::iter(ids)).await;
        let mut answers = answers.unwrap().into_inner();
        for id in 1..1000 {
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!((answer.id, answer.ttl), (id, 2 * id));
            check_header(answer.header, 1);
        }
        assert_eq!(answers.message().await.unwrap(), None);
        server.shutdown().await;
    });
}

#[test]
fn keep_alive_streams_end_when_the_server_stops() {
    run(async {
        let server = serve(&Fake::new(), ServerLimits::default());
        let mut lease = LeaseClient::new(channel(&server).await);
        let first = tokio_stream::once(pb::LeaseKeepAliveRequest { id: 4 });
        let silent = first.chain(tokio_stream::pending());
        let answers = lease.lease_keep_alive(silent).await;
        let mut answers = answers.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().ttl, 8);
        server.shutdown().await;
        let end = answers.message().await.unwrap_err();
        assert_eq!(end.code(), Code::Unavailable);
        assert_eq!(end.message(), "etcdserver: server stopped");
    });
}

#[test]
fn health_and_reflection_answer() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response};
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let channel = channel(&server).await;
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        let check = tonic_health::pb::HealthCheckRequest::default();
        let answer = health.check(check).await.unwrap().into_inner();
        assert_eq!(
            answer.status(),
            tonic_health::pb::health_check_response::ServingStatus::Serving
        );
        let question = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut reflection = ServerReflectionClient::new(channel);
        let answers = reflection
            .server_reflection_info(tokio_stream::once(question))
            .await;
        let answer = answers
            .unwrap()
            .into_inner()
            .message()
            .await
            .unwrap()
            .unwrap();
        let Some(server_reflection_response::MessageResponse::ListServicesResponse(list)) =
            answer.message_response
        else {
            panic!("not a list");
        };
        let names: Vec<_> = list
            .service
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        for name in [
            "etcdserverpb.KV",
            "etcdserverpb.Watch",
            "grpc.health.v1.Health",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
    });
}
