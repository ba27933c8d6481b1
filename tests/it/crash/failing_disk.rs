//! A disk that fails: one that is full, and one whose sync reports an error.
//!
//! A full disk is a small file system in memory, mounted in a mount namespace of the server's own. That needs root, or user
//! namespaces for everyone, and `unshare` and `mount`. Where they are refused, as in a container without privileges, the store
//! is opened in this process on the real disk, with a reserve that leaves it little of what is free there.

use super::check::{Known, check};
use super::load::{self, Load, limits};
use super::trace::{Step, Trace};
use super::{child, child_home, scratch, serve, shim};
use crate::support::pb::PutRequest;
use crate::support::requests::{get, on_everything};
use crate::support::stream::revisions_in;
use crate::support::{Client, PeerKind, Setup};
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tonic::Code;
use vigil::model::{Put, Refusal};
use vigil::storage::{ApplyError, Readers, StorageLimits, open};

const MIB: usize = 1 << 20;
/// The file system is larger than what is kept free by this, before the ballast is put there.
const ROOM_MIB: u64 = 96;
const BALLAST_MIB: usize = 64;
/// More puts than fit, of a MiB each.
const PUTS_MAX: usize = 400;

#[tokio::test]
async fn d5_puts_are_refused_before_the_disk_is_full_and_taken_again_after() {
    if can_mount() {
        on_a_small_disk().await;
    } else {
        eprintln!("no mount namespace here: on the real disk instead");
        on_the_real_disk();
    }
}

fn can_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "none", "/tmp"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

fn write_ballast(path: &Path) {
    let mut ballast = File::create(path).expect("a ballast");
    for _ in 0..BALLAST_MIB {
        ballast.write_all(&vec![1; MIB]).expect("room for it");
    }
}

async fn put(client: &Client, number: usize) -> Result<i64, tonic::Status> {
    let request = PutRequest {
        key: format!("k{number}").into(),
        value: vec![b'v'; MIB].into(),
        ..PutRequest::default()
    };
    let answer = client.try_put(request).await?;
    Ok(answer.header.expect("a header").revision)
}

async fn on_a_small_disk() {
    let home = scratch();
    let disk = home.path().join("disk");
    fs::create_dir(&disk).expect("a directory");
    let reserve_mib = StorageLimits::default().free_space_reserve_bytes >> 20;
    let served = Setup::new(PeerKind::Vigil).command(&disk.join("data"));
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=$1m none \"$2\" && shift 2 && exec \"$@\"";
    command
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg((reserve_mib + ROOM_MIB).to_string())
        .arg(&disk)
        .arg(served.get_program())
        .args(served.get_args());
    let (mut process, client) = serve(command, home.path()).await;
    // The disk as the server sees it.
    let below = disk.strip_prefix("/").expect("an absolute path");
    let seen = PathBuf::from(format!("/proc/{}/root", process.id())).join(below);
    let ballast = seen.join("ballast");
    write_ballast(&ballast);
    let mut stream = client.watch();
    stream.created(on_everything()).await;
    let mut last = 1;
    let mut refused = None;
    for number in 0..PUTS_MAX {
        match put(&client, number).await {
            Ok(revision) => last = revision,
            Err(status) => {
                refused = Some(status);
                break;
            }
        }
    }
    let status = refused.expect("the disk is full");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "etcdserver: mvcc: database space exceeded"
    );
    // Reads, deletes, compactions and watches go on.
    let read = client.range(get("k0")).await.expect("a read");
    assert_eq!(read.kvs[0].value.len(), MIB);
    let deleted = client.delete("k0", "").await;
    assert_eq!(deleted.deleted, 1);
    last += 1;
    let mut told = 1;
    while told < last {
        told = *revisions_in(&stream.next_events().await)
            .last()
            .expect("an event");
    }
    client.compact(last).await.expect("a compaction");
    fs::remove_file(&ballast).expect("it goes");
    let mut taken = Err(status);
    for number in 0..PUTS_MAX {
        taken = put(&client, number).await;
        if taken.is_ok() {
            break;
        }
    }
    assert_eq!(taken.expect("there is room again"), last + 1);
    let events = stream.next_events().await;
    assert_eq!(revisions_in(&events), [last + 1], "the watch goes on");
    process.terminate();
    assert!(process.wait_exit().await.success(), "{}", process.output());
}

fn on_the_real_disk() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let ballast = home.path().join("ballast");
    write_ballast(&ballast);
    let stat = rustix::fs::statvfs(home.path()).expect("a disk");
    let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
    let limits = StorageLimits {
        free_space_reserve_bytes: free_bytes.saturating_sub(16 << 20),
        free_space_check_bytes: 1 << 20,
        ..StorageLimits::default()
    };
    let data = home.path().join("data");
    let (mut writer, view) = open(&data, limits, Readers::Inline).expect("it opens");
    let put = |number: usize| {
        vigil::model::Write::Put(Put {
            key: format!("k{number}").into(),
            value: vec![b'v'; MIB].into(),
            ..Put::default()
        })
    };
    let mut until = |is_wanted: &dyn Fn(&Result<_, ApplyError>) -> bool| {
        (0..PUTS_MAX).any(|number| {
            let answer = writer.apply(&put(number), false);
            writer.commit().expect("a commit");
            is_wanted(&answer.map(|_| ()))
        })
    };
    let is_full = |answer: &Result<(), ApplyError>| {
        matches!(answer, Err(ApplyError::Refused(Refusal::NoSpace)))
    };
    assert!(until(&is_full), "it is refused some time");
    assert!(view.revision().0 > 1, "and not at once");
    fs::remove_file(&ballast).expect("it goes");
    assert!(until(&|answer| answer.is_ok()), "it is taken again");
    writer.close().expect("a closing");
}

/// The child of the test below.
fn be_the_child(home: &Path) {
    let trace = PathBuf::from(env::var_os("VIGIL_SHIM_TRACE").expect("a trace"));
    let load = Load {
        seed: 3,
        bytes: 40 << 20,
        groups_per_opening: 100_000,
    };
    load::run(load, &home.join("data"), &trace);
}

#[test]
fn d4_a_failed_sync_ends_the_store_and_is_never_retried() {
    const TEST: &str = "crash::failing_disk::d4_a_failed_sync_ends_the_store_and_is_never_retried";
    if let Some(home) = child_home() {
        return be_the_child(&home);
    }
    let files = ["commit.0.log", "commit.1.log", "db"];
    for (name, number) in files
        .iter()
        .flat_map(|name| [2, 5, 20].map(|number| (name, number)))
    {
        let home = scratch();
        let root = home.path().join("root");
        fs::create_dir(&root).expect("a directory");
        let root = root.canonicalize().expect("a directory");
        let trace = home.path().join("trace");
        let mut command = child(TEST, &root);
        shim::preload(&mut command, &root, &trace);
        shim::fail_sync(&mut command, name, number);
        let output = command.output().expect("the child starts");
        assert!(!output.status.success(), "{name} {number}: the store ends");
        let trace = Trace::read(&trace);
        let failed = trace
            .steps
            .iter()
            .position(|step| matches!(step, Step::SyncFailed { path } if path.ends_with(name)));
        let failed = failed.expect("a sync failed");
        let again = trace.steps[failed..]
            .iter()
            .any(|step| matches!(step, Step::Sync { path, .. } if path.ends_with(name)));
        // The engine syncs its file once more as it is let go; nobody relies on that, as is seen below.
        assert!(
            !again || *name == "db",
            "{name} {number}: it was tried again"
        );
        let mut known = Known::default();
        trace.steps.iter().for_each(|step| known.learn(step));
        if let Err(fault) = check(&root.join("data"), &limits(3), &known, true) {
            panic!("{name} {number}: {fault}");
        }
    }
}

/// A server whose disk fails says so and ends, and what it told is there when the disk is well again.
#[tokio::test]
async fn a_server_ends_when_a_sync_fails() {
    let home = scratch();
    let root = home.path().canonicalize().expect("a directory");
    let (data, trace) = (root.join("data"), scratch());
    let setup = Setup::new(PeerKind::Vigil);
    let mut command = setup.command(&data);
    shim::preload(&mut command, &root, &trace.path().join("trace"));
    shim::fail_sync(&mut command, "commit.1.log", 30);
    let (mut process, client) = serve(command, trace.path()).await;
    let mut last = 1;
    for number in 0..PUTS_MAX {
        let request = PutRequest {
            key: format!("k{number}").into(),
            ..PutRequest::default()
        };
        match client.try_put(request).await {
            Ok(answer) => last = answer.header.expect("a header").revision,
            Err(_) => break,
        }
    }
    assert!(last > 1 && last < 40, "{last} were told");
    let status = process.wait_exit().await;
    assert!(!status.success() && status.code().is_some(), "{status}");
    let said = process.stderr();
    let says = |line: &str| line.starts_with("Error: ") && line.contains("commit log");
    assert_eq!(said.lines().filter(|line| says(line)).count(), 1, "{said}");
    let (_process, client) = serve(setup.command(&data), trace.path()).await;
    // The put whose sync failed may be there, and nobody was told.
    let revision = client.revision().await;
    assert!((last..=last + 1).contains(&revision), "{last}, {revision}");
    let answer = client.range(get(format!("k{}", last - 2))).await;
    assert_eq!(answer.expect("a read").count, 1);
}
