//! `vigil serve` as a process: how it starts, how it says that it cannot, and how it stops.
//!
//! A failure is one line on standard error and an exit code that is not zero.

use crate::support::process::Process;
use crate::support::requests::{get, on};
use crate::support::{Peer, PeerKind, Setup, eventually};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use tempfile::TempDir;
use tonic::Code;

/// Starts a server that cannot start, and returns the one line that it says.
async fn refusal(setup: &Setup, data_dir: &Path) -> String {
    let home = TempDir::new().expect("a temporary directory");
    let mut process = Process::spawn(setup.command(data_dir), home.path());
    let status = process.wait_exit().await;
    assert!(!status.success() && status.code().is_some(), "{status}");
    assert_eq!(process.stdout(), "", "it never said that it listens");
    let said = process.stderr();
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn vigil() -> Setup {
    Setup::new(PeerKind::Vigil)
}

#[tokio::test]
async fn a_busy_port_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound port").to_string();
    let home = TempDir::new().expect("a temporary directory");
    let said = refusal(&vigil().flag("--listen-client", &address), home.path()).await;
    assert!(said.contains(&address), "{said}");
}

#[tokio::test]
async fn a_data_directory_that_is_none_is_one_clear_line() {
    let home = TempDir::new().expect("a temporary directory");
    let file = home.path().join("file");
    fs::write(&file, "not a directory").expect("a file");
    let said = refusal(&vigil(), &file).await;
    assert!(said.contains(&file.display().to_string()), "{said}");
    let below = refusal(&vigil(), &file.join("below")).await;
    assert!(below.contains(&file.display().to_string()), "{below}");
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_one_clear_line() {
    let peer = Peer::start(PeerKind::Vigil).await;
    peer.client().put("a", "1").await;
    let said = refusal(&vigil(), &peer.data_dir()).await;
    assert!(
        said.contains(&peer.data_dir().display().to_string()),
        "{said}"
    );
    // The first has not noticed.
    assert_eq!(peer.client().put("a", "2").await, 3);
}

#[tokio::test]
async fn a_limit_of_zero_is_one_clear_line() {
    let home = TempDir::new().expect("a temporary directory");
    let said = refusal(&vigil().flag("--txn-ops-max", "0"), home.path()).await;
    assert!(said.contains("--txn-ops-max is 0"), "{said}");
}

#[tokio::test]
async fn a_stop_ends_streams_with_unavailable_and_keeps_the_data() {
    let mut peer = Peer::start(PeerKind::Vigil).await;
    let client = peer.client();
    let mut streams = [client.watch(), client.watch(), peer.connect().await.watch()];
    for stream in &mut streams {
        stream.created(on("a")).await;
    }
    let revision = client.put("a", "kept").await;
    let status = peer.terminate().await;
    assert!(status.success(), "{status}: {}", peer.process().output());
    for stream in &mut streams {
        let (rest, end) = stream.end().await;
        let events: usize = rest.iter().map(|response| response.events.len()).sum();
        assert_eq!(
            events, 1,
            "what was committed is told before the end: {rest:?}"
        );
        // Common clients resume after Unavailable, and give up after anything else.
        assert_eq!(
            end.expect_err("not in good order").code(),
            Code::Unavailable
        );
    }
    peer.restart().await;
    let answer = peer.client().range(get("a")).await.expect("a range");
    assert_eq!(answer.kvs[0].value, "kept");
    assert_eq!(answer.header.expect("a header").revision, revision);
}

#[tokio::test]
async fn a_stop_is_not_held_up_by_a_stream_that_is_not_read() {
    let mut peer = Peer::start(PeerKind::Vigil).await;
    let (client, stalled_client) = (peer.client(), peer.connect().await);
    let mut stalled = stalled_client.watch();
    stalled.created(on("a")).await;
    for _ in 0..20 {
        client.put("a", vec![b'v'; 1 << 20]).await;
    }
    let status = peer.terminate().await;
    assert!(status.success(), "{status}: {}", peer.process().output());
}

#[tokio::test]
async fn it_says_where_it_listens_once_it_does() {
    let home = TempDir::new().expect("a temporary directory");
    let command = vigil().command(&home.path().join("data"));
    let mut process = Process::spawn(command, home.path());
    let said = eventually("it says where it listens", async || {
        assert!(process.exit().is_none(), "{}", process.output());
        let said = process.stdout();
        if said.ends_with('\n') {
            Ok(said)
        } else {
            Err(said)
        }
    })
    .await;
    let address = said
        .trim_end()
        .strip_prefix("vigil: listening on 127.0.0.1:");
    let port: u16 = address.expect(&said).parse().expect("a port");
    assert_ne!(port, 0, "the real one");
}
