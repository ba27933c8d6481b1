//! Power cuts: a child runs once, and the store is opened on what a cut at each of many points of its trace may leave.
//!
//! Points are drawn by a seed: right before a sync, when most is at stake, and anywhere.

use super::check::{Fault, Known, check};
use super::disk::{Before, Disk, Tail};
use super::load::{self, Load, limits};
use super::trace::{Step, Trace};
use super::{Dice, child, child_home, count, scratch, shim};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Cuts in a run of all tests, over all of the tests here.
const CUTS: usize = 48;
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

/// Where to cut, ascending: a third right before syncs of the engine's files or changes of names, a third right before any
/// sync, a third anywhere.
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
    let syncs = those(&|step| matches!(step, Step::Sync { .. } | Step::SyncDirectory { .. }));
    let anywhere = (0..=trace.steps.len()).collect();
    let mut places: Vec<usize> = (0..cuts)
        .map(|cut| {
            let from: &Vec<usize> = [&rare, &syncs, &anywhere][cut % 3];
            from[dice.below(from.len() as u64) as usize]
        })
        .collect();
    places.sort_unstable();
    places
}

/// Cuts the power at many points of a run, and answers what was wrong after which.
fn cut(run: &Run, known: &Known, cuts: usize, seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut known = known.clone();
    let mut disk = Disk::new(&run.trace, &run.root, &run.before);
    let mut done = 0;
    let mut faults = Vec::new();
    for place in places(&run.trace, cuts, &mut dice) {
        for step in &run.trace.steps[done..place] {
            disk.step(step);
            known.learn(step);
        }
        done = place;
        let tail = Tail::ALL[dice.below(Tail::ALL.len() as u64) as usize];
        let image = scratch();
        disk.image(tail, &mut dice, image.path());
        let dir = image.path().join("data");
        if let Err(fault) = check(&dir, &limits(seed), &known) {
            let of = run.trace.steps.len();
            let fault = match fault {
                Fault::Refused(error) => format!("refused: {error}"),
                Fault::Panicked(text) => format!("panicked: {text}"),
                Fault::Wrong(text) => text,
            };
            faults.push(format!("seed {seed}, step {place} of {of}, {tail:?}: {fault}"));
            if let Some(keep) = env::var_os("VIGIL_CRASH_KEEP") {
                let to = Path::new(&keep).join(format!("{seed}-{place}-{tail:?}"));
                let _ = fs::create_dir_all(&to);
            }
        }
    }
    faults
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    const TEST: &str = "crash::cuts::a_power_cut_takes_nothing_that_was_acknowledged";
    if let Some(home) = child_home() {
        let seed = env::var(SEED).expect("a seed").parse().expect("a number");
        let load = Load {
            seed,
            bytes: 80 << 20,
            groups_per_opening: 150,
        };
        let trace = PathBuf::from(env::var_os("VIGIL_SHIM_TRACE").expect("a trace"));
        return load::run(load, &home.join("data"), &trace);
    }
    let cuts = count("VIGIL_CRASH_CUTS", CUTS);
    let cuts_per_run = 60;
    let first = count(SEED, 1) as u64;
    let mut faults = Vec::new();
    for (run, seed) in (0..cuts.div_ceil(cuts_per_run)).zip(first..) {
        let started = std::time::Instant::now();
        let home = scratch();
        let root = home.path().join("root");
        fs::create_dir(&root).expect("a directory");
        let here = run_child(TEST, root, &home.path().join("trace"), seed);
        let spent = started.elapsed();
        let cuts = cuts_per_run.min(cuts - run * cuts_per_run);
        let found = cut(&here, &Known::default(), cuts, seed);
        eprintln!("seed {seed}: {} steps, {cuts} cuts, {} faults, child {spent:?}, all {:?}", here.trace.steps.len(), found.len(), started.elapsed());
        faults.extend(found);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
