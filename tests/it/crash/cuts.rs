//! Power cuts: a child runs once, and the store is opened on what a cut at each of many points of its trace may leave.
//!
//! Points are drawn by a seed: right before a sync, when most is at stake, and anywhere.

use super::check::{Known, check};
use super::disk::{Before, Disk, Tail};
use super::load::{self, Load, limits};
use super::trace::{Note, Notes, Step, Trace};
use super::{Dice, child, child_home, count, scratch, serve, shim};
use crate::support::requests::on_everything;
use crate::support::stream::revisions_in;
use crate::support::{PeerKind, Setup};
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Cuts in a run of all tests, for each of the tests here.
const CUTS: usize = 24;
/// Cuts of one child's run.
const CUTS_PER_RUN: usize = 60;
const SEED: &str = "VIGIL_CRASH_SEED";

/// A child's run: where it worked, what was there before, and what it did.
struct Run {
    root: PathBuf,
    before: Before,
    trace: Trace,
}

fn run_child(test: &str, root: PathBuf, trace: &Path, seed: u64) -> Run {
    let root = root.canonicalize().expect("a directory");
    let before = Before::of(&root);
    let mut command = child(test, &root);
    command.env(SEED, seed.to_string());
    shim::preload(&mut command, &root, trace);
    let output = command.output().expect("the child starts");
    assert!(output.status.success(), "the child ends well: {output:?}");
    let trace = Trace::read(trace);
    Run {
        root,
        before,
        trace,
    }
}

/// Where to cut, ascending: two of seven right before a sync of writes that lie apart from each other, because then their
/// order counts; the others right before syncs of the engine's files or changes of names, of the commit log, of anything,
/// where one engine takes another one's place, and anywhere.
fn places(trace: &Trace, cuts: usize, dice: &mut Dice) -> Vec<usize> {
    let those = |wanted: &dyn Fn(&Step) -> bool| -> Vec<usize> {
        let steps = trace.steps.iter().zip(0..);
        let found = steps.filter(|(step, _)| wanted(step));
        found.map(|(_, at)| at).collect()
    };
    let rare = those(&|step| match step {
        Step::Sync { path, .. } => !path.ends_with(".log"),
        Step::Note(_) | Step::Write { .. } => false,
        _ => true,
    });
    let of_the_log = those(&is_sync_of_the_log);
    let syncs = those(&|step| matches!(step, Step::Sync { .. } | Step::SyncDirectory { .. }));
    let anywhere = (0..=trace.steps.len()).collect();
    let mut apart = syncs_of_writes_apart(trace);
    if apart.is_empty() {
        apart.clone_from(&rare);
    }
    // Right before and behind a change of the engine in use, and while the one before goes.
    let mut chosen = those(&|step| match step {
        Step::Rename { to, .. } => to.ends_with("/engine"),
        Step::Unlink { path } => path.ends_with("/db"),
        _ => false,
    });
    chosen.extend(chosen.clone().into_iter().map(|at| at + 1));
    if chosen.is_empty() {
        chosen.clone_from(&rare);
    }
    let kinds: [&Vec<usize>; 7] = [
        &apart,
        &rare,
        &of_the_log,
        &chosen,
        &syncs,
        &apart,
        &anywhere,
    ];
    let mut places: Vec<usize> = (0..cuts)
        .map(|cut| {
            let from = kinds[cut % kinds.len()];
            from[dice.below(from.len() as u64) as usize]
        })
        .collect();
    places.sort_unstable();
    places
}

fn is_sync_of_the_log(step: &Step) -> bool {
    matches!(step, Step::Sync { path, .. } if path.ends_with(".log"))
}

/// The syncs before which a file has several writes, one of them not where the one before it ended.
fn syncs_of_writes_apart(trace: &Trace) -> Vec<usize> {
    let mut found = Vec::new();
    let mut ends: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
    for (step, at) in trace.steps.iter().zip(0..) {
        match step {
            Step::Write {
                file, offset, data, ..
            } => {
                let end = offset + data.len() as u64;
                let before = ends.get(file);
                let apart = before.is_some_and(|(before, apart)| *apart || before != offset);
                ends.insert(*file, (end, apart));
            }
            Step::Sync { file, .. } if ends.remove(file).is_some_and(|(_, apart)| apart) => {
                found.push(at);
            }
            _ => {}
        }
    }
    found
}

/// Cuts the power at many points of a run, and answers what was wrong after which.
fn cut(mut disk: Disk<'_>, run: &Run, known: &Known, cuts: usize, seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut known = known.clone();
    let mut done = 0;
    let mut faults = Vec::new();
    for place in places(&run.trace, cuts, &mut dice) {
        for step in &run.trace.steps[done..place] {
            disk.step(step);
            known.learn(step);
        }
        done = place;
        // A record of the log is one write: what can be told of it only its sectors tell.
        let is_record = run.trace.steps.get(place).is_some_and(is_sync_of_the_log);
        let tail = if is_record && dice.percent(50) {
            Tail::Sectors
        } else {
            Tail::ALL[dice.below(Tail::ALL.len() as u64) as usize]
        };
        let image = scratch();
        disk.image(tail, &mut dice, image.path());
        let dir = image.path().join("data");
        if let Err(fault) = check(&dir, &limits(seed), &known, true) {
            let of = run.trace.steps.len();
            faults.push(format!(
                "seed {seed}, step {place} of {of}, {tail:?}: {fault}"
            ));
        }
    }
    faults
}

/// The child of each test here.
fn be_the_child(home: &Path, bytes: u64) {
    let seed = env::var(SEED).expect("a seed").parse().expect("a number");
    let load = Load {
        seed,
        bytes,
        groups_per_opening: 150,
        defragments: true,
    };
    let trace = PathBuf::from(env::var_os("VIGIL_SHIM_TRACE").expect("a trace"));
    load::run(load, &home.join("data"), &trace);
}

/// How often another engine took the place of the one in use.
fn defragmentations(trace: &Trace) -> usize {
    let is_choice =
        |step: &&Step| matches!(step, Step::Rename { to, .. } if to.ends_with("/engine"));
    trace.steps.iter().filter(is_choice).count()
}

fn run_in(home: &Path, test: &str, seed: u64) -> Run {
    let root = home.join("root");
    fs::create_dir(&root).expect("a directory");
    run_child(test, root, &home.join("trace"), seed)
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    const TEST: &str = "crash::cuts::a_power_cut_takes_nothing_that_was_acknowledged";
    if let Some(home) = child_home() {
        return be_the_child(&home, 32 << 20);
    }
    let cuts = count("VIGIL_CRASH_CUTS", CUTS);
    let first = count(SEED, 1) as u64;
    let mut faults = Vec::new();
    for (run, seed) in (0..cuts.div_ceil(CUTS_PER_RUN)).zip(first..) {
        let home = scratch();
        let here = run_in(home.path(), TEST, seed);
        let cuts = CUTS_PER_RUN.min(cuts - run * CUTS_PER_RUN);
        let disk = Disk::new(&here.trace, &here.root, &here.before);
        let found = cut(disk, &here, &Known::default(), cuts, seed);
        let steps = here.trace.steps.len();
        let defragmented = defragmentations(&here.trace);
        assert!(defragmented > 0, "the child defragments");
        eprintln!(
            "seed {seed}: {cuts} cuts in {steps} steps, {defragmented} defragmentations, {} faults",
            found.len()
        );
        faults.extend(found);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The power goes, comes, and goes again while the store opens or soon after.
#[test]
fn a_second_power_cut_takes_nothing_either() {
    const TEST: &str = "crash::cuts::a_second_power_cut_takes_nothing_either";
    if let Some(home) = child_home() {
        return be_the_child(&home, 6 << 20);
    }
    let cuts = count("VIGIL_CRASH_CUTS", CUTS);
    let first = count(SEED, 1) as u64;
    let mut faults = Vec::new();
    for (run, seed) in (0..cuts.div_ceil(CUTS_PER_RUN)).zip(first..) {
        let mut dice = Dice(seed);
        let home = scratch();
        let first = run_in(home.path(), TEST, seed);
        let place = dice.below(first.trace.steps.len() as u64) as usize;
        let mut known = Known::default();
        let mut disk = Disk::new(&first.trace, &first.root, &first.before);
        for step in &first.trace.steps[..place] {
            disk.step(step);
            known.learn(step);
        }
        let again = scratch();
        let root = again.path().join("root");
        fs::create_dir(&root).expect("a directory");
        disk.image(Tail::Sectors, &mut dice, &root);
        let second = run_child(TEST, root, &again.path().join("trace"), seed);
        let disk = Disk::new(&second.trace, &second.root, &second.before);
        let cuts = CUTS_PER_RUN.min(cuts - run * CUTS_PER_RUN);
        let found = cut(disk, &second, &known, cuts, seed);
        eprintln!(
            "seed {seed}: {cuts} cuts after one at {place}, {} faults",
            found.len()
        );
        faults.extend(found);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The real server, cut with what its clients were told by then: by answers, and by a watch.
#[tokio::test]
async fn a_power_cut_takes_nothing_that_the_server_told() {
    /// Enough to fill the commit log three times.
    const LAST: i64 = 400;
    let cuts = count("VIGIL_CRASH_CUTS", CUTS) / 4;
    let home = scratch();
    let trace = home.path().join("trace");
    let root = home.path().join("root");
    fs::create_dir(&root).expect("a directory");
    let root = root.canonicalize().expect("a directory");
    let mut command = Setup::new(PeerKind::Vigil).command(&root.join("data"));
    shim::preload(&mut command, &root, &trace);
    let (mut process, client) = serve(command, home.path()).await;
    let mut stream = client.watch();
    stream.created(on_everything()).await;
    let mut seen = Notes::open(&trace);
    let watching = tokio::spawn(async move {
        let mut revision = 1;
        while revision < LAST {
            let response = stream.next_events().await;
            revision = *revisions_in(&response).last().expect("an event");
            seen.add(&Note::Acknowledged { revision });
        }
    });
    let mut notes = Notes::open(&trace);
    for revision in 2..=LAST {
        let (key, bytes) = (format!("k{}", revision % 40), 32 << 10);
        let events = vec![(key.clone(), Some(bytes))];
        notes.add(&Note::Asked { revision, events });
        let given = client.put(key, load::value(revision, 0, bytes)).await;
        assert_eq!(given, revision, "one writer");
        notes.add(&Note::Acknowledged { revision });
    }
    watching.await.expect("the watch goes on");
    process.terminate();
    assert!(process.wait_exit().await.success(), "{}", process.output());
    let trace = Trace::read(&trace);
    let before = Before::default();
    let run = Run {
        root,
        before,
        trace,
    };
    let disk = Disk::new(&run.trace, &run.root, &run.before);
    let faults = cut(disk, &run, &Known::default(), cuts, 1);
    eprintln!("{cuts} cuts of the server, {} faults", faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// In the head of each segment the engine says up to where its log is stable, and opening believes it. The C library's
/// `sync_file_range` does not make that true: without our own in its place a third of the heads say too much, and of two
/// thousand cuts one left a store that did not open.
#[test]
fn what_the_engine_calls_stable_is_durable() {
    const TEST: &str = "crash::cuts::what_the_engine_calls_stable_is_durable";
    const SEGMENT_BYTES: u64 = 8 << 20;
    /// The engine writes its numbers so, that zeros are no head.
    const MASK: u64 = i64::MAX.unsigned_abs();
    if let Some(home) = child_home() {
        return be_the_child(&home, 40 << 20);
    }
    let home = scratch();
    let run = run_in(home.path(), TEST, 2);
    let mut heads = 0;
    // Where in the log each segment of the file begins, and what was written and not synced: its segment and its place.
    let mut begins: BTreeMap<u64, u64> = BTreeMap::new();
    let mut pending: Vec<(u64, u64)> = Vec::new();
    let mut data_file = None;
    for step in &run.trace.steps {
        match step {
            Step::Create { path, file } if path.ends_with("/db") => {
                // An engine that is to take the other one's place has a log of its own.
                data_file = Some(*file);
                (begins, pending) = (BTreeMap::new(), Vec::new());
            }
            Step::Sync { file, .. } if data_file == Some(*file) => pending.clear(),
            Step::Write {
                file, offset, data, ..
            } if data_file == Some(*file) => {
                let (segment, within) = (offset / SEGMENT_BYTES, offset % SEGMENT_BYTES);
                let bytes = run.trace.data(data);
                if within == 0 && bytes.len() >= 20 {
                    let number = |at: usize| {
                        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight")) ^ MASK
                    };
                    let (begin, stable) = (number(4), number(12));
                    begins.remove(&segment);
                    // What is not the head of a segment are the fillings of one that is free.
                    if begin % SEGMENT_BYTES == 0 && begin < 1 << 40 {
                        heads += 1;
                        begins.insert(segment, begin);
                        let early = pending
                            .iter()
                            .find(|(of, at)| *of != segment && *at <= stable);
                        assert_eq!(early, None, "segment {begin}: {stable} is called stable");
                    }
                }
                if let Some(begin) = begins.get(&segment) {
                    pending.push((segment, begin + within));
                }
            }
            _ => {}
        }
    }
    assert!(
        heads > 8,
        "the log of the engine went through {heads} segments"
    );
}

/// Were one of our syncs missing, these cuts would find it: here the disk makes it missing.
#[test]
fn a_sync_that_does_nothing_is_found() {
    const TEST: &str = "crash::cuts::a_sync_that_does_nothing_is_found";
    if let Some(home) = child_home() {
        return be_the_child(&home, 12 << 20);
    }
    let home = scratch();
    let here = run_in(home.path(), TEST, 1);
    for name in ["/db", ".log"] {
        let disk = Disk::new(&here.trace, &here.root, &here.before).lying_about(name);
        let found = cut(disk, &here, &Known::default(), 12, 1);
        eprintln!("{name}: {} of 12 cuts found it", found.len());
        assert!(
            !found.is_empty(),
            "without syncs of {name} nothing was lost"
        );
    }
}
