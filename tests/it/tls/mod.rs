//! TLS on the client port: who is let in, what is told to those who are not, and certificates that change.
//!
//! Certificates are made here by authorities of the tests' own; the clients are etcdctl and Vigil's verbs.

mod http2;
mod relay;

use crate::support::peer::{etcd_binary, vigil_binary};
use crate::support::process::Process;
use crate::support::tool::{Running, Said, printed, run};
use crate::support::{PeerKind, Setup, eventually};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Somebody who vouches for others, with files in a directory.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
    name: String,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let common_name = rcgen::DnType::CommonName;
        params.distinguished_name.push(common_name, name);
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        fs::write(dir.join(format!("{name}.pem")), cert.pem()).expect("a file");
        Self {
            issuer: Issuer::new(params, key),
            dir: dir.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The file of its own certificate.
    fn file(&self) -> String {
        path(&self.dir, &format!("{}.pem", self.name))
    }

    /// Vouches for `name`, as the files `name.pem` and `name.key`.
    fn vouch_for(&self, name: &str) -> (String, String) {
        let hosts = vec!["127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(hosts).expect("good names");
        let common_name = rcgen::DnType::CommonName;
        params.distinguished_name.push(common_name, name);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (cert_file, key_file) = (format!("{name}.pem"), format!("{name}.key"));
        fs::write(self.dir.join(&cert_file), cert.pem()).expect("a file");
        fs::write(self.dir.join(&key_file), key.serialize_pem()).expect("a file");
        (path(&self.dir, &cert_file), path(&self.dir, &key_file))
    }
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

/// A server that speaks TLS.
struct Server {
    process: Process,
    endpoint: String,
}

impl Server {
    async fn start(setup: &Setup, home: &Path) -> Self {
        let command = setup.command(&home.join("data"));
        let mut process = Process::spawn(command, home);
        let endpoint = eventually("it says that it listens", async || {
            assert!(process.exit().is_none(), "{}", process.output());
            let said = process.stdout();
            let address = said.trim_end().strip_prefix("vigil: listening on ");
            address.map(str::to_owned).ok_or(said.clone())
        })
        .await;
        Self { process, endpoint }
    }

    fn etcdctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(etcd_binary("etcdctl"));
        let endpoint = format!("https://{}", self.endpoint);
        command.args(["--endpoints", &endpoint]).args(args);
        // One attempt is enough to be refused.
        command.args(["--dial-timeout", "1s", "--command-timeout", "2s"]);
        command
    }

    fn vigil(&self, args: &[&str]) -> Command {
        let mut command = Command::new(vigil_binary());
        let endpoint = format!("https://{}", self.endpoint);
        command.args(args).args(["--endpoint", &endpoint]);
        command
    }
}

fn vigil() -> Setup {
    Setup::new(PeerKind::Vigil).flag("--log-level", "info")
}

fn with_certificate(setup: Setup, (cert, key): &(String, String)) -> Setup {
    setup.flag("--cert-file", cert).flag("--key-file", key)
}

fn assert_one_line(said: &Said) {
    assert!(!said.success && said.out.is_empty(), "{said:?}");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
}

#[tokio::test]
async fn etcdctl_and_the_verbs_speak_tls() {
    let home = TempDir::new().expect("a temporary directory");
    let (ours, other) = (
        Authority::new(home.path(), "ours"),
        Authority::new(home.path(), "other"),
    );
    let setup = with_certificate(vigil(), &ours.vouch_for("server"));
    let server = Server::start(&setup, home.path()).await;
    let ca = ours.file();
    let trust = ["--cacert", ca.as_str()];
    let args = |words: &[&'static str]| [words, &trust[..]].concat();
    assert_eq!(printed(server.etcdctl(&args(&["put", "a", "1"]))), "OK\n");
    assert_eq!(printed(server.vigil(&args(&["get", "a"]))), "a\n1\n");
    assert_eq!(printed(server.vigil(&args(&["put", "b", "2"]))), "OK\n");
    assert_eq!(printed(server.etcdctl(&args(&["get", "b"]))), "b\n2\n");
    let mut theirs = Running::start(server.etcdctl(&args(&["watch", "a", "--rev=1"])));
    theirs.prints("PUT\na\n1\n").await;
    let members = printed(server.etcdctl(&args(&["member", "list"])));
    let url = format!("https://{}", server.endpoint);
    assert!(members.contains(&url), "{members}");

    let blind = ["get", "a", "--insecure-skip-tls-verify"];
    assert_eq!(printed(server.vigil(&blind)), "a\n1\n");
    // Without https:// before the endpoint, the flags say that TLS is meant.
    let mut bare = Command::new(vigil_binary());
    bare.args(args(&["get", "a"]))
        .args(["--endpoint", &server.endpoint]);
    assert_eq!(printed(bare), "a\n1\n");
    for untrusting in [
        vec!["get", "a"],
        vec!["get", "a", "--cacert", &other.file()],
    ] {
        let said = run(server.vigil(&untrusting));
        assert_one_line(&said);
        assert!(said.err.contains("certificate"), "{said:?}");
    }
    let mut elsewhere = Command::new(vigil_binary());
    let port = server.endpoint.rsplit_once(':').expect("a port").1;
    elsewhere.args(args(&["get", "a"]));
    elsewhere.args(["--endpoint", &format!("https://localhost:{port}")]);
    let said = run(elsewhere);
    assert_one_line(&said);
    assert!(said.err.contains("not valid for name"), "{said:?}");
}

#[tokio::test]
async fn a_client_whom_nobody_vouches_for_is_refused() {
    let home = TempDir::new().expect("a temporary directory");
    let (ours, other) = (
        Authority::new(home.path(), "ours"),
        Authority::new(home.path(), "other"),
    );
    let ca = ours.file();
    let setup = with_certificate(vigil(), &ours.vouch_for("server"))
        .flag("--client-cert-auth", "true")
        .flag("--trusted-ca-file", &ca);
    let server = Server::start(&setup, home.path()).await;
    let (known, stranger) = (ours.vouch_for("client"), other.vouch_for("stranger"));
    let shown = |(cert, key): &(String, String)| {
        let words = ["--cert", cert, "--key", key].map(str::to_owned);
        words.to_vec()
    };
    let line = |words: &[String]| {
        let mut line = vec!["put".to_owned(), "a".to_owned(), "1".to_owned()];
        line.extend(["--cacert".to_owned(), ca.clone()]);
        line.extend_from_slice(words);
        line
    };
    let words = |line: &[String]| -> (Command, Command) {
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        (server.etcdctl(&words), server.vigil(&words))
    };
    let (theirs, own) = words(&line(&shown(&known)));
    assert_eq!(
        (printed(theirs), printed(own)),
        ("OK\n".to_owned(), "OK\n".to_owned())
    );
    for refused in [line(&[]), line(&shown(&stranger))] {
        let (theirs, own) = words(&refused);
        assert!(!run(theirs).success, "{refused:?}");
        assert_one_line(&run(own));
    }
    let (theirs, own) = words(&line(&shown(&known)));
    assert_eq!(
        (printed(theirs), printed(own)),
        ("OK\n".to_owned(), "OK\n".to_owned())
    );
}

/// Whatever is asked fails, and the one line of it says what to do.
fn assert_advised(endpoint: &str, flags: &[&str], advice: &str) {
    for verb in [&["get", "a"][..], &["watch", "a"], &["export"], &["status"]] {
        let mut command = Command::new(vigil_binary());
        command.args(verb).args(flags);
        let said = run_at(command, endpoint);
        assert_one_line(&said);
        assert!(
            said.err.contains(advice),
            "{verb:?} {endpoint} {flags:?}: {said:?}"
        );
    }
}

fn run_at(mut command: Command, endpoint: &str) -> Said {
    command.args(["--endpoint", endpoint]);
    run(command)
}

#[tokio::test]
async fn who_speaks_plain_text_to_a_server_that_speaks_tls_is_told_what_to_do() {
    let home = TempDir::new().expect("a temporary directory");
    let ours = Authority::new(home.path(), "ours");
    let setup = with_certificate(vigil(), &ours.vouch_for("server"));
    let server = Server::start(&setup, home.path()).await;
    let address = &server.endpoint;
    let advice = format!("the server speaks TLS: give https://{address}");
    assert_advised(address, &[], &format!("{advice}, with --cacert"));
    let advice = format!("{advice}, http:// goes without it whatever --cacert says");
    let plain = format!("http://{address}");
    assert_advised(&plain, &["--cacert", &ours.file()], &advice);
    let advice = "give --cacert with the certificates that vouch for the server";
    assert_advised(&format!("https://{address}"), &[], advice);
}

#[tokio::test]
async fn who_is_not_let_in_over_tls_is_told_what_to_do() {
    let home = TempDir::new().expect("a temporary directory");
    let homes = ["plain", "strict"].map(|name| home.path().join(name));
    for home in &homes {
        fs::create_dir(home).expect("a directory");
    }
    let (ours, other) = (
        Authority::new(home.path(), "ours"),
        Authority::new(home.path(), "other"),
    );
    let ca = ours.file();
    let setup = with_certificate(vigil(), &ours.vouch_for("server"));
    let setup = setup.flag("--trusted-ca-file", &ca);
    let plain = Server::start(&vigil(), &homes[0]).await;
    let strict = Server::start(&setup, &homes[1]).await;
    let https = format!("https://{}", strict.endpoint);
    let advice = "the server may want a certificate of the client: give --cert and --key";
    assert_advised(&https, &["--cacert", &ca], advice);
    let (cert, key) = other.vouch_for("stranger");
    let shown = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    let advice = "the server does not take the certificate of --cert";
    assert_advised(&https, &shown, advice);
    let address = &plain.endpoint;
    let advice = format!("the server may not speak TLS: http://{address} goes without it");
    assert_advised(&format!("https://{address}"), &["--cacert", &ca], &advice);
    // The way to a mirror's destination has flags of its own.
    let mut mirror = Command::new(vigil_binary());
    mirror.args(["mirror", &https, "--dest-cacert", &ca]);
    let said = run_at(mirror, address);
    assert_one_line(&said);
    let advice = "give --dest-cert and --dest-key";
    assert!(said.err.contains(advice), "{said:?}");
}

#[tokio::test]
async fn certificates_are_reloaded_and_bad_ones_are_not_taken() {
    let home = TempDir::new().expect("a temporary directory");
    let (old, new) = (
        Authority::new(home.path(), "old"),
        Authority::new(home.path(), "new"),
    );
    let files = old.vouch_for("server");
    let setup = with_certificate(vigil(), &files);
    let server = Server::start(&setup, home.path()).await;
    let (old_ca, new_ca) = (old.file(), new.file());
    let put = |ca: &str, value: &str| server.vigil(&["put", "a", value, "--cacert", ca]);
    assert_eq!(printed(put(&old_ca, "1")), "OK\n");
    let watch = ["watch", "a", "--rev=1", "--cacert", &old_ca];
    let mut watch = Running::start(server.vigil(&watch));
    watch.prints("PUT\na\n1\n").await;

    new.vouch_for("server");
    assert_eq!(printed(put(&new_ca, "2")), "OK\n");
    assert!(run(put(&old_ca, "no")).err.contains("certificate"));
    let theirs = server.etcdctl(&["get", "a", "--cacert", &new_ca]);
    assert_eq!(printed(theirs), "a\n2\n");

    // A certificate without its key, no certificate at all, and no file: the last good ones stay.
    let key = fs::read(&files.1).expect("a key");
    old.vouch_for("server");
    fs::write(&files.1, &key).expect("a file");
    assert_eq!(printed(put(&new_ca, "3")), "OK\n");
    fs::write(&files.0, "not PEM").expect("a file");
    assert_eq!(printed(put(&new_ca, "4")), "OK\n");
    assert_eq!(printed(put(&new_ca, "5")), "OK\n");
    fs::remove_file(&files.0).expect("it was there");
    assert_eq!(printed(put(&new_ca, "6")), "OK\n");
    let log = server.process.stderr();
    let warnings = log.matches("serving with the previous certificates: ");
    assert_eq!(warnings.count(), 3, "once for each: {log}");
    assert!(log.contains("there is no certificate in it"), "{log}");

    old.vouch_for("server");
    assert_eq!(printed(put(&old_ca, "7")), "OK\n");
    // A connection is not asked twice.
    let events: Vec<String> = (1..=7).map(|value| format!("PUT\na\n{value}\n")).collect();
    watch.prints(&events.concat()).await;
}

#[tokio::test]
async fn plain_text_on_a_port_that_speaks_tls_is_answered_and_hurts_nobody() {
    let home = TempDir::new().expect("a temporary directory");
    let ours = Authority::new(home.path(), "ours");
    let setup = with_certificate(vigil(), &ours.vouch_for("server"));
    let server = Server::start(&setup, home.path()).await;
    let say = |words: &[u8]| {
        let mut socket = TcpStream::connect(&server.endpoint).expect("a connection");
        socket.write_all(words).expect("it takes a few bytes");
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = say(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(answer.contains("https://"), "{answer}");
    assert_eq!(say(b"\0\0\0\0\0\0\0\0"), "");
    // The first byte of a handshake, and nonsense behind it.
    say(&[0x16; 64]);
    let mut plain = Command::new(vigil_binary());
    plain.args(["get", "a", "--endpoint", &server.endpoint]);
    assert_one_line(&run(plain));
    let put = ["put", "a", "1", "--cacert", &ours.file()];
    assert_eq!(printed(server.vigil(&put)), "OK\n");
    let log = server.process.stderr();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn a_certificate_of_its_own_is_kept_across_a_restart() {
    let home = TempDir::new().expect("a temporary directory");
    let setup = vigil().flag("--auto-tls", "true");
    let mut server = Server::start(&setup, home.path()).await;
    let dir = home.path().join("data/fixtures/client");
    let cert = path(&dir, "cert.pem");
    let trust = ["--cacert", cert.as_str()];
    let put = [&["put", "a", "1"], &trust[..]].concat();
    assert_eq!(printed(server.etcdctl(&put)), "OK\n");
    let mode = fs::metadata(dir.join("key.pem"))
        .expect("a key")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let made = fs::read(&cert).expect("a certificate");
    server.process.terminate();
    assert!(server.process.wait_exit().await.success());
    let server = Server::start(&setup, home.path()).await;
    assert_eq!(fs::read(&cert).expect("a certificate"), made);
    let get = [&["get", "a"], &trust[..]].concat();
    assert_eq!(printed(server.vigil(&get)), "a\n1\n");
    assert_eq!(printed(server.etcdctl(&get)), "a\n1\n");
}

#[tokio::test]
async fn files_that_are_no_good_are_one_line_with_the_flag_and_the_file() {
    let home = TempDir::new().expect("a temporary directory");
    let ours = Authority::new(home.path(), "ours");
    let (one, two) = (ours.vouch_for("one"), ours.vouch_for("two"));
    let (nothing, nonsense) = (path(home.path(), "nothing"), path(home.path(), "nonsense"));
    fs::write(&nonsense, "nonsense").expect("a file");
    let pair = |cert: &str, key: &str| (cert.to_owned(), key.to_owned());
    let cases = [
        (
            pair(&nothing, &one.1),
            &ours.file(),
            "--cert-file",
            &nothing,
        ),
        (
            pair(&nonsense, &one.1),
            &ours.file(),
            "--cert-file",
            &nonsense,
        ),
        (
            pair(&one.0, &nonsense),
            &ours.file(),
            "--key-file",
            &nonsense,
        ),
        (pair(&one.0, &two.1), &ours.file(), "--key-file", &two.1),
        (one.clone(), &nonsense, "--trusted-ca-file", &nonsense),
    ];
    for (files, ca, flag, file) in cases {
        let setup = with_certificate(vigil(), &files).flag("--trusted-ca-file", ca);
        let command = setup.command(&home.path().join("data"));
        let mut process = Process::spawn(command, home.path());
        let status = process.wait_exit().await;
        let said = process.stderr();
        assert!(!status.success(), "{flag}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(&format!("{flag} {file}: ")), "{said}");
    }
    let server = Server::start(&vigil().flag("--auto-tls", "true"), home.path()).await;
    let said = run(server.vigil(&["get", "a", "--cacert", &nonsense]));
    assert_one_line(&said);
    assert!(
        said.err.contains(&format!("--cacert {nonsense}: ")),
        "{said:?}"
    );
}
