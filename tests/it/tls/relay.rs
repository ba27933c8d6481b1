//! A relay between clients and a server that both want TLS: each way has its own certificates.
//!
//! Whom a relay trusts on one way it need not trust on the other.

use super::{Authority, Server, vigil, with_certificate};
use crate::support::peer::{etcd_binary, free_ports};
use crate::support::process::Process;
use crate::support::requests::{on, on_prefix};
use crate::support::stream::revisions_in;
use crate::support::tool::{Said, run};
use crate::support::{PeerKind, Relay, Setup, eventually};
use etcd_client::{Client, Permission};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

fn put(relay: &Relay, cacert: &str) -> Said {
    let mut command = Command::new(etcd_binary("etcdctl"));
    let endpoint = format!("https://{}", relay.endpoint());
    command.args(["--endpoints", &endpoint, "--cacert", cacert]);
    command.args(["--dial-timeout", "5s", "--command-timeout", "5s"]);
    command.args(["put", "a", "1"]);
    run(command)
}

#[tokio::test]
async fn a_relay_speaks_tls_to_its_cluster_and_to_its_clients() {
    let home = TempDir::new().expect("a temporary directory");
    let (inner, outer) = (
        Authority::new(home.path(), "inner"),
        Authority::new(home.path(), "outer"),
    );
    let (inner_ca, outer_ca) = (inner.file(), outer.file());
    let setup = with_certificate(vigil(), &inner.vouch_for("server"))
        .flag("--client-cert-auth", "true")
        .flag("--trusted-ca-file", &inner_ca);
    let server = Server::start(&setup, home.path()).await;
    let (front, front_key) = outer.vouch_for("front");
    let (back, back_key) = inner.vouch_for("back");
    let own = ["--cert-file", &front, "--key-file", &front_key];
    let known = ["--cacert", &inner_ca, "--cert", &back, "--key", &back_key];

    let relay = Relay::with_flags(&[&server.endpoint], &[&own[..], &known].concat()).await;
    let said = put(&relay, &outer_ca);
    assert!(said.success, "{said:?}");
    let said = put(&relay, &inner_ca);
    assert!(!said.success, "somebody else vouches for the relay");

    // Without a certificate of its own a relay is nobody to the server.
    let trusting = [&own[..], &known[..2]].concat();
    let relay = Relay::with_flags(&[&server.endpoint], &trusting).await;
    let said = put(&relay, &outer_ca);
    assert!(!said.success, "{said:?}");
}

/// An etcd that speaks TLS at one address, to those who are vouched for, and plain text at another.
struct Both {
    _process: Process,
    secure: String,
    plain: String,
}

impl Both {
    async fn start(home: &Path, ours: &Authority) -> Self {
        let ((secure, plain), (peer, _)) = (free_ports(), free_ports());
        let (secure, plain) = (format!("127.0.0.1:{secure}"), format!("127.0.0.1:{plain}"));
        let urls = format!("https://{secure},http://{plain}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        let setup = with_certificate(Setup::new(PeerKind::Etcd), &ours.vouch_for("etcd"))
            .flag("--client-cert-auth", "true")
            .flag("--trusted-ca-file", &ours.file())
            .flag("--listen-client-urls", &urls)
            .flag("--advertise-client-urls", &urls)
            .flag("--listen-peer-urls", &peer_url)
            .flag("--initial-advertise-peer-urls", &peer_url)
            .flag("--initial-cluster", &format!("default={peer_url}"));
        let mut process = Process::spawn(setup.command(&home.join("data")), home);
        eventually("etcd answers", async || {
            assert!(process.exit().is_none(), "{}", process.output());
            let client = Client::connect([&plain], None).await;
            let mut client = client.map_err(|error| error.to_string())?;
            let read = client.get("up", None).await;
            read.map(drop).map_err(|error| error.to_string())
        })
        .await;
        Self {
            _process: process,
            secure,
            plain,
        }
    }
}

/// From now on this user may read the first key of all and what begins with `/open/`, and nobody else may read anything.
async fn let_read(plain: &str, name: &str) {
    let client = Client::connect([plain], None).await;
    let mut auth = client.expect("a connection").auth_client();
    for user in ["root", name] {
        auth.user_add(user, "secret", None).await.expect("a user");
        auth.role_add(user).await.expect("a role");
        let granted = auth.user_grant_role(user, user).await;
        granted.expect("the user has the role");
    }
    let rights = [
        Permission::read(b"\0"),
        Permission::read("/open/").with_prefix(),
    ];
    for right in rights {
        let granted = auth.role_grant_permission(name, right).await;
        granted.expect("the role has the right");
    }
    auth.auth_enable().await.expect("authentication");
}

// The proxy keeps what its cluster refuses to itself (#18231): who watches there would wait for ever.
#[tokio::test]
async fn d06_what_the_user_of_a_relay_may_not_watch_is_refused_as_by_the_cluster() {
    let home = TempDir::new().expect("a temporary directory");
    let ours = Authority::new(home.path(), "ours");
    let etcd = Both::start(home.path(), &ours).await;
    let ca = ours.file();
    let (cert, key) = ours.vouch_for("relay");
    let known = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    let relay = Relay::with_flags(&[&etcd.secure], &known).await;
    let client = relay.connect().await;
    let_read(&etcd.plain, "relay").await;

    let mut stream = client.watch();
    stream.created(on_prefix("/open/")).await;
    let refused = stream.rejected(on("/closed")).await;
    let mut theirs = Command::new(etcd_binary("etcdctl"));
    theirs.args(["--endpoints", &format!("https://{}", etcd.secure)]);
    theirs.args(known).args(["watch", "/closed"]);
    let theirs = run(theirs);
    assert!(!refused.cancel_reason.is_empty());
    let outer = Relay::before(&[relay.endpoint()]).await;
    let of_outer = outer.connect().await.watch().rejected(on("/closed")).await;
    assert_eq!(of_outer.cancel_reason, refused.cancel_reason);
    assert!(
        theirs.err.contains(&refused.cancel_reason),
        "{theirs:?}, {refused:?}"
    );

    let options = etcd_client::ConnectOptions::new().with_user("root", "secret");
    let root = Client::connect([&etcd.plain], Some(options)).await;
    let mut root = root.expect("a connection as root");
    let put = root.put("/open/a", "w", None).await.expect("a put");
    let put = put.header().expect("a header").revision();
    assert_eq!(revisions_in(&stream.next_events().await), [put]);
}
