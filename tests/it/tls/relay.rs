//! A relay between clients and a server that both want TLS: each way has its own certificates.
//!
//! Whom a relay trusts on one way it need not trust on the other.

use super::{Authority, Server, vigil, with_certificate};
use crate::support::Relay;
use crate::support::peer::etcd_binary;
use crate::support::tool::{Said, run};
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
