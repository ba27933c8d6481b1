//! HTTP/2 over TLS, which browsers and curl choose: all of the HTTP side, held against etcd's.

use super::{Authority, vigil, with_certificate};
use crate::support::http::Answer;
use crate::support::process::Process;
use crate::support::{Http, PeerKind, Setup, eventually};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A server that speaks TLS, and a client that speaks HTTP/2 to it.
struct Secure {
    _process: Process,
    http: Http,
}

impl Secure {
    async fn vigil(home: &Path, ours: &Authority) -> Self {
        let setup = with_certificate(vigil(), &ours.vouch_for("vigil"));
        let server = super::Server::start(&setup, home).await;
        Self {
            http: Http::over_tls(&server.endpoint, trusting(ours)),
            _process: server.process,
        }
    }

    async fn etcd(home: &Path, ours: &Authority) -> Self {
        let [client, peer] = [(); 2].map(|()| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("a bound port").to_string()
        });
        let (url, peer_url) = (format!("https://{client}"), format!("http://{peer}"));
        let setup = with_certificate(Setup::new(PeerKind::Etcd), &ours.vouch_for("etcd"))
            .flag("--listen-client-urls", &url)
            .flag("--advertise-client-urls", &url)
            .flag("--listen-peer-urls", &peer_url)
            .flag("--initial-advertise-peer-urls", &peer_url)
            .flag("--initial-cluster", &format!("default={peer_url}"));
        let data = home.join("etcd");
        fs::create_dir(&data).expect("a directory");
        let mut process = Process::spawn(setup.command(&data.join("data")), &data);
        eventually("etcd listens", async || {
            assert!(process.exit().is_none(), "{}", process.output());
            TcpStream::connect(&client).await
        })
        .await;
        Self {
            _process: process,
            http: Http::over_tls(&client, trusting(ours)),
        }
    }
}

fn trusting(authority: &Authority) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let cert = CertificateDer::from_pem_file(authority.file()).expect("a certificate");
    roots.add(cert).expect("a good one");
    ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// What two servers say alike: without the numbers that each has of its own.
fn said(answer: &Answer) -> (u16, Value) {
    let json = serde_json::from_str(&answer.text);
    let mut json: Value = json.unwrap_or(answer.text.clone().into());
    if let Some(header) = json.get_mut("header").and_then(Value::as_object_mut) {
        header.retain(|name, _| name == "revision");
    }
    (answer.status, json)
}

// Whoever agreed on HTTP/2 was told 405, and 415 for JSON: all of that connection was taken for gRPC.
#[tokio::test]
async fn json_and_what_operators_ask_are_answered_as_by_etcd() {
    let home = TempDir::new().expect("a temporary directory");
    let ours = Authority::new(home.path(), "ours");
    let (us, them) = (
        Secure::vigil(home.path(), &ours).await,
        Secure::etcd(home.path(), &ours).await,
    );
    eventually("etcd is healthy", async || {
        let health = them.http.get("/health").await;
        if health.status == 200 {
            Ok(())
        } else {
            Err(health.text)
        }
    })
    .await;
    let put = r#"{"key":"YQ==","value":"MQ=="}"#;
    let create = r#"{"create_request":{"key":"YQ==","start_revision":"1"}}"#;
    for (method, path, body) in [
        ("GET", "/health", ""),
        ("GET", "/livez?verbose", ""),
        ("POST", "/version", ""),
        ("GET", "/nobody", ""),
        ("POST", "/nobody", ""),
        ("POST", "/etcdserverpb.KV/Put", ""),
        ("POST", "/v3/kv/put", put),
        ("POST", "/v3/kv/range", r#"{"key":"YQ=="}"#),
        ("POST", "/v3/kv/range", r#"{"key":5}"#),
        ("GET", "/v3/kv/range", ""),
        ("OPTIONS", "/v3/kv/range", ""),
    ] {
        let ours = us.http.ask(method, path, &[], body).await;
        let theirs = them.http.ask(method, path, &[], body).await;
        let (mut ours, mut theirs) = (said(&ours), said(&theirs));
        if body == r#"{"key":5}"# {
            // What is wrong with it is said in words of one's own.
            for said in [&mut ours, &mut theirs] {
                said.1["message"] = Value::Null;
                said.1["error"] = Value::Null;
            }
        }
        assert_eq!(ours, theirs, "{method} {path} {body}");
    }
    for secure in [&us, &them] {
        let metrics = secure.http.get("/metrics").await;
        assert_eq!(metrics.status, 200);
        assert!(metrics.text.contains("etcd_server_has_leader 1"));
        let mut watch = secure.http.stream("/v3/watch", create).await;
        assert_eq!(watch.status, 200);
        assert_eq!(watch.json().await["result"]["created"], true);
        let event = &watch.json().await["result"]["events"][0];
        assert_eq!(event["kv"]["value"], "MQ==");
    }
}

#[tokio::test]
async fn a_watch_of_a_browser_goes_on_from_the_event_it_saw_last() {
    let home = TempDir::new().expect("a temporary directory");
    let ours = Authority::new(home.path(), "ours");
    let secure = Secure::vigil(home.path(), &ours).await;
    let put = async |value: &str| {
        let body = format!(r#"{{"key":"YS9i","value":"{value}"}}"#);
        assert_eq!(secure.http.post("/v3/kv/put", &body).await.status, 200);
    };
    put("MQ==").await;
    let mut first = secure.http.lines("/watch/a/?prefix&since=1", &[]).await;
    assert_eq!(first.status, 200);
    let seen = first.event().await;
    drop(first);
    put("Mg==").await;
    let last = [("last-event-id", seen.id.as_str())];
    let mut again = secure.http.lines("/watch/a/?prefix", &last).await;
    let event = again.event().await;
    assert_eq!(event.data["events"][0]["value"], "2", "{event:?}");
    put("Mw==").await;
    let event = again.event().await;
    assert_eq!(event.data["events"][0]["value"], "3", "{event:?}");
    let head = secure.http.ask("HEAD", "/health", &[], "").await;
    assert_eq!(head.text, "");
    let waited = secure.http.get("/watch/a/b?wait&since=1").await;
    assert_eq!(waited.status, 200);
    assert_eq!(waited.json()["revision"], 4);
}
