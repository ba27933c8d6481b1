//! A disk that fails: one that is full, and one whose sync reports an error.
//!
//! A full disk is a small file system in memory, mounted in a mount namespace of the server's own. That needs root, or user
//! namespaces for everyone, and `unshare` and `mount`. Where they are refused, as in a container without privileges, or with
//! `VIGIL_CRASH_NO_MOUNT=1`, the store is opened in this process with a reserve that no disk has. What that leaves to the
//! tests of `src/storage` is a disk that gets full, and free again, under an open store.

use super::check::{Known, check, range};
use super::disk::{Before, Disk, Tail};
use super::load::{self, Load, limits};
use super::trace::{Step, Trace};
use super::{Dice, child, child_home, count, scratch, serve, shim};
use crate::support::pb::PutRequest;
use crate::support::process::Process;
use crate::support::requests::{get, on_everything};
use crate::support::stream::revisions_in;
use crate::support::{Client, PeerKind, Setup};
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tonic::Code;
use vigil::model::{DeleteRange, KeyRange, Put, Refusal, Revision, Write};
use vigil::storage::{ApplyError, CompactionStep, Readers, StorageLimits, Writer, open};

const MIB: usize = 1 << 20;
/// The file system is larger than what is kept free by this, before the ballast is put there.
const ROOM_MIB: u64 = 96;
const BALLAST_MIB: usize = 64;
/// More puts than fit, of a MiB each.
const PUTS_MAX: usize = 400;
/// Cuts behind a failed sync in a run of all tests, and of one child's run.
const CUTS: usize = 24;
const CUTS_PER_RUN: usize = 8;

#[tokio::test]
async fn d5_puts_are_refused_before_the_disk_is_full_and_taken_again_after() {
    if env::var_os("VIGIL_CRASH_NO_MOUNT").is_none() && can_mount() {
        on_a_small_disk().await;
    } else {
        eprintln!("no mount namespace here: with a reserve that no disk has instead");
        with_a_reserve_that_no_disk_has();
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
    fs::write(&ballast, vec![1; BALLAST_MIB * MIB]).expect("room for it");
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

fn with_a_reserve_that_no_disk_has() {
    const PUTS: i64 = 8;
    let home = tempfile::tempdir().expect("a temporary directory");
    let data = home.path().join("data");
    let reserved = |free_space_reserve_bytes| {
        let limits = StorageLimits {
            free_space_reserve_bytes,
            ..StorageLimits::default()
        };
        open(&data, limits, Readers::Inline).expect("it opens")
    };
    let put = |writer: &mut Writer, number: i64| {
        let put = Put {
            key: format!("k{number}").into(),
            value: vec![b'v'; MIB].into(),
            ..Put::default()
        };
        let answer = writer.apply(&Write::Put(put), false)?;
        writer.commit()?;
        Ok::<Revision, ApplyError>(answer.revision)
    };
    let (mut writer, _) = reserved(0);
    for number in 0..PUTS {
        assert_eq!(put(&mut writer, number), Ok(Revision(2 + number)));
    }
    writer.close().expect("a closing");
    let (mut writer, view) = reserved(u64::MAX);
    let refused = put(&mut writer, 0);
    assert_eq!(refused, Err(ApplyError::Refused(Refusal::NoSpace)));
    // Reads, deletes and compactions go on.
    let read = range(&view, 0);
    assert_eq!(read.len(), 8);
    assert_eq!(read[0].value.len(), MIB);
    let delete = Write::Delete(DeleteRange {
        range: KeyRange::single("k0"),
        prev_kv: false,
    });
    writer.apply(&delete, false).expect("a delete");
    writer.commit().expect("a commit");
    let last = Revision(2 + PUTS);
    assert_eq!(view.revision(), last);
    writer.compact(last).expect("a compaction");
    while writer.compaction_step().expect("a step") != CompactionStep::Idle {}
    drop(view);
    writer.close().expect("a closing");
    let (mut writer, view) = reserved(0);
    assert_eq!(view.compact_revision(), last);
    assert_eq!(put(&mut writer, 0), Ok(last.next()), "it is taken again");
    assert_eq!(range(&view, 0).len(), 8);
    writer.close().expect("a closing");
}

/// The child of the tests below. One whose disk is well has less to do.
fn be_the_child(home: &Path) {
    let trace = PathBuf::from(env::var_os("VIGIL_SHIM_TRACE").expect("a trace"));
    let fails = env::var_os("VIGIL_SHIM_FAIL").is_some();
    let load = Load {
        seed: 3,
        bytes: if fails { 40 << 20 } else { 8 << 20 },
        groups_per_opening: 100_000,
        // The syncs of the engine in use are counted, and no other's.
        defragments: false,
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
            .position(|step| matches!(step, Step::SyncFailed { path, .. } if path.ends_with(name)));
        let failed = failed.expect("a sync failed");
        let again = trace.steps[failed..]
            .iter()
            .any(|step| matches!(step, Step::Sync { path, .. } if path.ends_with(name)));
        // The engine syncs its file once more as it is let go; nobody relies on that, as is seen below.
        assert!(
            !again || *name == "db",
            "{name} {number}: it was tried again"
        );
        keeps_what_was_acknowledged(&root, &trace, &format!("{name} {number}"));
    }
}

fn keeps_what_was_acknowledged(root: &Path, trace: &Trace, what: &str) {
    let mut known = Known::default();
    trace.steps.iter().for_each(|step| known.learn(step));
    if let Err(fault) = check(&root.join("data"), &limits(3), &known, true) {
        panic!("{what}: {fault}");
    }
}

/// The engine tells nobody of some writes that have failed: who waits for one of them by then must hear of it all the same.
#[tokio::test]
async fn d4_a_sync_that_fails_once_everybody_waits_for_it_ends_the_store() {
    const TEST: &str =
        "crash::failing_disk::d4_a_sync_that_fails_once_everybody_waits_for_it_ends_the_store";
    if let Some(home) = child_home() {
        return be_the_child(&home);
    }
    // While the store is made, and later, where the writer waits for the thread that settles.
    for number in (2..8).chain(20..24) {
        let home = scratch();
        let root = home.path().join("root");
        fs::create_dir(&root).expect("a directory");
        let root = root.canonicalize().expect("a directory");
        let trace = home.path().join("trace");
        let mut command = child(TEST, &root);
        shim::preload(&mut command, &root, &trace);
        shim::fail_sync(&mut command, "db", number);
        shim::fail_late(&mut command);
        let mut process = Process::spawn(command, home.path());
        let ended = process.wait_exit().await;
        assert!(!ended.success(), "{number}: {}", process.output());
        let trace = Trace::read(&trace);
        let is_failed = |step: &Step| matches!(step, Step::SyncFailed { .. });
        assert!(trace.steps.iter().any(is_failed), "{number}: a sync failed");
        keeps_what_was_acknowledged(&root, &trace, &number.to_string());
    }
}

/// The engine syncs once more at its end, on which nobody relies, and panics if that fails.
#[test]
fn a_last_sync_that_fails_ends_no_closing_and_is_noted() {
    const TEST: &str = "crash::failing_disk::a_last_sync_that_fails_ends_no_closing_and_is_noted";
    if let Some(home) = child_home() {
        return open_small(&home.join("data")).close().expect("a closing");
    }
    let run_child = |fails: Option<usize>| {
        let home = scratch();
        let root = home.path().join("root");
        fs::create_dir(&root).expect("a directory");
        let path = home.path().join("trace");
        let mut command = child(TEST, &root);
        shim::preload(&mut command, &root, &path);
        if let Some(number) = fails {
            shim::fail_sync(&mut command, "db", number);
        }
        let output = command.output().expect("the child starts");
        assert!(output.status.success(), "{fails:?}: {output:?}");
        let is_noted = root.join("data/db.distrusted").exists();
        let is_sync =
            |step: &&Step| matches!(step, Step::Sync { path, .. } if path.ends_with("db"));
        (
            Trace::read(&path).steps.iter().filter(is_sync).count(),
            is_noted,
        )
    };
    let (syncs, is_noted) = run_child(None);
    assert!(!is_noted, "nothing failed");
    assert_eq!(
        run_child(Some(syncs)),
        (syncs - 1, true),
        "the next opening is told"
    );
}

/// A cut of the power behind a sync that failed, at once or after the store was opened again: what the failed sync should
/// have made durable is lost, and every later sync is well.
#[test]
fn a_power_cut_behind_a_failed_sync_takes_nothing_that_was_acknowledged() {
    const TEST: &str =
        "crash::failing_disk::a_power_cut_behind_a_failed_sync_takes_nothing_that_was_acknowledged";
    if let Some(home) = child_home() {
        return be_the_child(&home);
    }
    let cuts = count("VIGIL_CRASH_CUTS", CUTS);
    let seed = count("VIGIL_CRASH_SEED", 1) as u64;
    let mut dice = Dice(seed);
    let mut faults = Vec::new();
    for run in 0..cuts.div_ceil(CUTS_PER_RUN) {
        let home = scratch();
        let root = home.path().join("root");
        fs::create_dir(&root).expect("a directory");
        let root = root.canonicalize().expect("a directory");
        let path = home.path().join("trace");
        // The engine's file more often than the log's.
        let name = ["db", "commit.0.log", "db", "commit.1.log"][run % 4];
        let number = 2 + dice.below(30) as usize;
        let run_child = |fails: bool| {
            let mut command = child(TEST, &root);
            shim::preload(&mut command, &root, &path);
            if fails {
                shim::fail_sync(&mut command, name, number);
            }
            command.output().expect("the child starts")
        };
        let ended = run_child(true);
        assert!(!ended.status.success(), "{name} {number}: the store ends");
        // The system has what the disk has not, and the store that is opened now sees all of it.
        let again = run_child(false);
        assert!(again.status.success(), "{name} {number}: {again:?}");
        let trace = Trace::read(&path);
        let is_failed = |step: &Step| matches!(step, Step::SyncFailed { .. });
        let failed = trace.steps.iter().position(is_failed);
        let failed = failed.expect("a sync failed");
        let left = trace.steps.len() - failed;
        // Half of them soon, where the store ends and opens.
        let mut places: Vec<usize> = (0..CUTS_PER_RUN.min(cuts - run * CUTS_PER_RUN))
            .map(|cut| if cut % 2 == 0 { left.min(400) } else { left })
            .map(|span| failed + 1 + dice.below(span as u64) as usize)
            .collect();
        places.sort_unstable();
        let mut disk = Disk::new(&trace, &root, &Before::default());
        let mut known = Known::default();
        let mut done = 0;
        for place in places {
            for step in &trace.steps[done..place] {
                disk.step(step);
                known.learn(step);
            }
            done = place;
            let tail = Tail::ALL[dice.below(Tail::ALL.len() as u64) as usize];
            let image = scratch();
            disk.image(tail, &mut dice, image.path());
            if let Err(fault) = check(&image.path().join("data"), &limits(3), &known, true) {
                let behind = place - failed;
                faults.push(format!(
                    "{name} {number}, {behind} steps behind, {tail:?}: {fault}"
                ));
            }
        }
    }
    eprintln!("{cuts} cuts behind a failed sync, {} faults", faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A writer that was killed before its sync, or whose sync failed, leaves a record in the system's memory alone: a power cut
/// while it is settled must not leave a part of it in the engine, so it has to be durable before that begins.
#[test]
fn the_last_record_of_the_log_is_durable_before_the_engine_has_any_of_it() {
    const TEST: &str = "crash::failing_disk::the_last_record_of_the_log_is_durable_before_the_engine_has_any_of_it";
    if let Some(home) = child_home() {
        drop(open_small(&home.join("data")));
        return;
    }
    let home = scratch();
    let root = home.path().join("root");
    fs::create_dir(&root).expect("a directory");
    let root = root.canonicalize().expect("a directory");
    let data = root.join("data");
    let sought = load::value(4, 0, 3000);
    let mut writer = open_small(&data);
    for revision in 2..=4 {
        let put = Put {
            key: "k".into(),
            value: load::value(revision, 0, 3000),
            ..Put::default()
        };
        writer.apply(&Write::Put(put), false).expect("a put");
        writer.commit().expect("a commit");
    }
    // Not closed: the record is in the log, and not in the engine.
    drop(writer);
    let log = data.join("commit.1.log");
    let before = fs::read(&log).expect("the log");
    let path = home.path().join("trace");
    let mut command = child(TEST, &root);
    shim::preload(&mut command, &root, &path);
    let output = command.output().expect("the child starts");
    assert!(output.status.success(), "{output:?}");
    let trace = Trace::read(&path);
    let number = |path: &Path| path.metadata().expect("a file").ino();
    let (log_number, data_number) = (number(&log), number(&data.join("db")));
    let has_value = |data: &[u8]| data.windows(sought.len()).any(|window| window == sought);
    let first = |wanted: &dyn Fn(&Step) -> bool| trace.steps.iter().position(wanted);
    let again = first(&|step| match step {
        Step::Write {
            file, offset, data, ..
        } if *file == log_number => {
            let (begin, data) = (*offset as usize, trace.data(data));
            has_value(data) && before[begin..begin + data.len()] == *data
        }
        _ => false,
    });
    let again = again.expect("the record is written again as it was");
    let synced = trace.steps[again..]
        .iter()
        .position(|step| matches!(step, Step::Sync { file, .. } if *file == log_number));
    let synced = again + synced.expect("and synced");
    let settled = first(&|step| match step {
        Step::Write { file, data, .. } => *file == data_number && has_value(trace.data(data)),
        _ => false,
    });
    let settled = settled.expect("the engine is given it");
    assert!(synced < settled, "synced at {synced}, given at {settled}");
}

fn open_small(data: &Path) -> Writer {
    let (writer, _) = open(data, limits(3), Readers::Inline).expect("it opens");
    writer
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
