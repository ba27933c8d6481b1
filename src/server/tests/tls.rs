//! A port that speaks TLS, before anything has been said on it.

use super::fake::Fake;
use super::{member, run};
use crate::api::HttpSettings;
use crate::server::{Listening, Server, ServerLimits, Worker, start};
use crate::tls::ServerTls;
use actix_rt::Arbiter;
use std::net::TcpListener;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn serve(fake: &Fake, limits: ServerLimits, tls: ServerTls) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let worker = Worker {
        arbiter: Arbiter::current(),
        backend: fake.clone(),
    };
    let listening = Listening::over_tls(listener, tls);
    start(
        listening,
        vec![worker],
        member(),
        HttpSettings::default(),
        limits,
    )
    .unwrap()
}

#[test]
fn a_client_that_does_not_finish_its_handshake_does_not_stay() {
    run(async {
        let dir = TempDir::new().unwrap();
        let hosts = vec!["127.0.0.1".to_owned()];
        let tls = ServerTls::open_own(dir.path(), None, hosts).unwrap();
        let limits = ServerLimits {
            first_word_timeout: Duration::from_millis(50),
            ..ServerLimits::default()
        };
        let server = serve(&Fake::new(), limits, tls);
        // Nothing; the head of a record; and a record of which most is missing.
        for word in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01"] {
            let mut slow = TcpStream::connect(server.local_addr()).await.unwrap();
            slow.write_all(word).await.unwrap();
            let mut said = Vec::new();
            // An error is an end as well.
            let _ = slow.read_to_end(&mut said).await;
            assert!(said.is_empty(), "{said:?}");
        }
    });
}
