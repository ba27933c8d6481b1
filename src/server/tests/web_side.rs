//! Plain requests on HTTP/2 connections: beside calls of gRPC, with the same bounds and the same end.

use super::fake::Fake;
use super::http1::{events, push};
use super::{eventually, run, serve, serve_with};
use crate::api::{HttpSettings, NameList};
use crate::server::{Server, ServerLimits};
use actix_rt::Arbiter;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::net::TcpStream;

/// A connection, which ends with its last request.
async fn connect(server: &Server) -> SendRequest<Full<Bytes>> {
    let socket = TcpStream::connect(server.local_addr()).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .unwrap();
    actix_rt::spawn(connection);
    sender
}

fn request(method: Method, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method);
    let request = request.uri(format!("http://vigil{path}"));
    request.body(Full::new(body.into())).unwrap()
}

async fn whole(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

/// Reads until this was said.
async fn hears(said: &mut String, body: &mut Incoming, text: &str) {
    // What was looked through already is not looked through again: it may be long.
    let mut looked = 0;
    while !said[looked..].contains(text) {
        looked = said.len().saturating_sub(text.len());
        let frame = body.frame().await.expect("it goes on").unwrap();
        said.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
}

#[test]
fn t2_calls_of_grpc_and_plain_requests_share_a_connection() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut sender = connect(&server).await;
        let put = request(Method::POST, "/v3/kv/put", r#"{"key":"aw=="}"#);
        let (status, said) = whole(sender.send_request(put).await.unwrap()).await;
        assert_eq!(status, StatusCode::OK);
        assert!(said.contains(r#""revision":"2""#), "{said}");
        // A range request for the key "k".
        let message = &b"\0\0\0\0\x03\x0a\x01k"[..];
        let mut call = request(Method::POST, "/etcdserverpb.KV/Range", message);
        let kind = "application/grpc".parse().unwrap();
        call.headers_mut().insert(CONTENT_TYPE, kind);
        let mut answer = sender.send_request(call).await.unwrap();
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/grpc");
        assert!(answer.body_mut().frame().await.unwrap().is_ok());
        let head = request(Method::HEAD, "/version", "");
        let head = sender.send_request(head).await.unwrap();
        assert!(head.headers().contains_key(CONTENT_LENGTH));
        assert_eq!(whole(head).await.1, "");
        // What is meant for gRPC and is none of its calls is still refused there.
        let mut call = request(Method::POST, "/etcdserverpb.KV/Range", "");
        let kind = "application/grpc-web".parse().unwrap();
        call.headers_mut().insert(CONTENT_TYPE, kind);
        let answer = sender.send_request(call).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    });
}

#[test]
fn the_host_of_a_request_is_its_authority() {
    run(async {
        let settings = HttpSettings {
            host_whitelist: NameList::read("elsewhere"),
            ..HttpSettings::default()
        };
        let threads = vec![Arbiter::current()];
        let fake = Fake::new();
        let server = serve_with(&fake, settings, ServerLimits::default(), threads);
        let mut sender = connect(&server).await;
        let get = request(Method::GET, "/version", "");
        let (status, said) = whole(sender.send_request(get).await.unwrap()).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);
        assert!(said.contains(r#""vigil""#), "{said}");
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
        let put = request(Method::POST, "/v3/kv/put", " ".repeat(bytes_max + 1));
        let answer = connect(&server).await.send_request(put).await.unwrap();
        let (status, said) = whole(answer).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(
            said.contains(&format!("limit of {bytes_max} bytes")),
            "{said}"
        );
        assert_eq!(fake.state().writes, 0);
    });
}

#[test]
fn b2_a_reader_that_does_not_read_fills_its_outbox_and_its_connection_goes_on() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut sender = connect(&server).await;
        let watch = request(Method::GET, "/watch/k", "");
        let mut slow = sender.send_request(watch).await.unwrap().into_body();
        let mut said = String::new();
        hears(&mut said, &mut slow, "id: 1\n\n").await;
        let outbox = fake.outbox();
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
            // What the client's window takes is bounded by the client, and what we hold must be.
            assert!(sent < 2000, "nothing holds the watch back");
        }
        // Another watch on the same connection gets its events meanwhile.
        let watch = request(Method::GET, "/watch/k", "");
        let mut other = sender.send_request(watch).await.unwrap().into_body();
        let mut told = String::new();
        hears(&mut told, &mut other, "id: 1\n\n").await;
        push(&fake.outbox(), events(&[9], "x")).await;
        hears(&mut told, &mut other, "id: 9\n").await;
        // Nothing was lost and nothing came twice.
        hears(&mut said, &mut slow, &format!("id: {sent}\n")).await;
        let ids = said.split("id: ").skip(2).map(|rest| {
            let id: String = rest.chars().take_while(char::is_ascii_digit).collect();
            id.parse::<i64>().unwrap()
        });
        assert!(ids.eq(2..=sent));
        // Whoever leaves takes the watch along, and the connection stays.
        drop(slow);
        eventually(|| outbox.is_ended()).await;
        let get = request(Method::GET, "/version", "");
        assert_eq!(
            sender.send_request(get).await.unwrap().status(),
            StatusCode::OK
        );
    });
}

#[test]
fn a_stopping_server_ends_streams_in_order() {
    run(async {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let mut sender = connect(&server).await;
        let watch = request(Method::GET, "/watch/k", "");
        let mut body = sender.send_request(watch).await.unwrap().into_body();
        hears(&mut String::new(), &mut body, "id: 1\n\n").await;
        let stopping = actix_rt::spawn(server.shutdown());
        // An end that is no error.
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
        stopping.await.unwrap();
    });
}
