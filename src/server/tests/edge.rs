//! What comes in from outside and is no proper call: it is answered clearly, and opens nothing.

use super::fake::Fake;
use super::{member, run};
use crate::api::{Edge, EdgeLimits, Stop};
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use std::sync::Arc;
use tonic::body::Body;
use tonic_health::server::HealthReporter;

const WATCH: &str = "/etcdserverpb.Watch/Watch";

async fn answer(fake: &Fake, request: Request<Full<Bytes>>) -> Response<Body> {
    let (_stop, signal) = Stop::new();
    let health = HealthReporter::new();
    let limits = EdgeLimits::default();
    let edge = Edge::new(fake.clone(), Arc::new(member()), limits, &health, signal);
    edge.handle(request).await.unwrap()
}

fn call(path: &str, content_type: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("http://vigil{path}"))
        .header(CONTENT_TYPE, content_type)
        .body(Full::default())
        .unwrap()
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> &'r str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

// A GET of the watch path, from a browser or a health check, opened a watch stream that nobody would ever use: neither
// the method nor the content type was looked at.
#[test]
fn what_is_no_grpc_call_is_refused_in_http() {
    run(async {
        let fake = Fake::new();
        for path in [WATCH, "/etcdserverpb.KV/Range", "/"] {
            for content_type in ["application/json", "application/grpcx", "text/plain", ""] {
                let response = answer(&fake, call(path, content_type)).await;
                let status = response.status();
                assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}");
            }
            let mut get = call(path, "application/grpc");
            *get.method_mut() = Method::GET;
            let response = answer(&fake, get).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(header(&response, ALLOW.as_str()), "POST");
        }
        assert_eq!(fake.state().outboxes.len(), 0);
        for content_type in ["application/grpc", "application/grpc+proto"] {
            let response = answer(&fake, call(WATCH, content_type)).await;
            assert_eq!(response.status(), StatusCode::OK);
        }
        assert_eq!(fake.state().outboxes.len(), 2);
    });
}

// Compressed watch requests ended the stream with Internal, after which common clients open it again, without end.
#[test]
fn a_watch_in_compressed_messages_is_unimplemented() {
    run(async {
        let fake = Fake::new();
        let mut compressed = call(WATCH, "application/grpc");
        let encoding = "gzip".parse().unwrap();
        compressed.headers_mut().insert("grpc-encoding", encoding);
        let response = answer(&fake, compressed).await;
        assert_eq!(header(&response, "grpc-status"), "12");
        assert_eq!(header(&response, "grpc-accept-encoding"), "identity");
        assert!(header(&response, "grpc-message").contains("gzip"));
        let mut plain = call(WATCH, "application/grpc");
        let encoding = "identity".parse().unwrap();
        plain.headers_mut().insert("grpc-encoding", encoding);
        assert_eq!(header(&answer(&fake, plain).await, "grpc-status"), "");
    });
}

// The answer to a call of a service that is not served was Unimplemented without a word.
#[test]
fn a_service_that_is_not_served_is_named() {
    run(async {
        let fake = Fake::new();
        for service in ["Auth"] {
            let path = format!("/etcdserverpb.{service}/Anything");
            let response = answer(&fake, call(&path, "application/grpc")).await;
            assert_eq!(header(&response, "grpc-status"), "12");
            let said = header(&response, "grpc-message").replace("%20", " ");
            assert_eq!(said, format!("vigil: {service} is not served"));
        }
        let response = answer(&fake, call("/some.Thing/Else", "application/grpc")).await;
        assert_eq!(header(&response, "grpc-status"), "12");
    });
}

// A client with a name and a password was refused, where etcd without users tells it that it needs none.
#[test]
fn credentials_are_answered_as_by_a_store_that_asks_for_none() {
    run(async {
        let fake = Fake::new();
        let path = "/etcdserverpb.Auth/Authenticate";
        let response = answer(&fake, call(path, "application/grpc")).await;
        assert_eq!(header(&response, "grpc-status"), "9");
        let said = header(&response, "grpc-message").replace("%20", " ");
        assert_eq!(said, "etcdserver: authentication is not enabled");
    });
}
