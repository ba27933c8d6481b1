//! Kills of a child that drives the store itself: hundreds of openings, commits, compactions and closings cut short.
//!
//! A kill is SIGKILL at a moment that depends on a seed and the machine: what was given to the system stays, nothing else.

use super::check::{Known, check};
use super::load::{self, Load, limits};
use super::trace::Trace;
use super::{Dice, child, child_home, count};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

/// Kills in a run of all tests.
const KILLS: usize = 24;
/// Kills of one store, before another begins.
const KILLS_PER_STORE: usize = 40;
/// Where the child notes what it does.
const NOTES: &str = "VIGIL_CRASH_NOTES";
const SEED: &str = "VIGIL_CRASH_SEED";

#[test]
fn a_kill_takes_nothing_that_was_acknowledged() {
    const TEST: &str = "crash::kills::a_kill_takes_nothing_that_was_acknowledged";
    if let Some(home) = child_home() {
        let seed = env::var(SEED).expect("a seed").parse().expect("a number");
        let load = Load {
            seed,
            bytes: u64::MAX,
            groups_per_opening: 60,
            defragments: true,
        };
        let notes = PathBuf::from(env::var_os(NOTES).expect("a place for notes"));
        return load::run(load, &home.join("data"), &notes);
    }
    let kills = count("VIGIL_CRASH_KILLS", KILLS);
    let mut dice = Dice(count(SEED, 1) as u64);
    let mut acknowledged = 0;
    for store in 0..kills.div_ceil(KILLS_PER_STORE) {
        // On the disk of the machine, because a file system in memory writes otherwise.
        let home = tempfile::tempdir().expect("a temporary directory");
        let mut known = Known::default();
        for kill in 0..KILLS_PER_STORE.min(kills - store * KILLS_PER_STORE) {
            let notes = home.path().join(format!("notes.{kill}"));
            let seed = dice.next();
            let mut child = child(TEST, home.path())
                .env(SEED, seed.to_string())
                .env(NOTES, &notes)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the child starts");
            // Some are killed while they open.
            let most = if dice.percent(30) { 2 } else { 60_000 };
            let enough = dice.below(most);
            while fs::metadata(&notes).map_or(0, |notes| notes.len()) < enough {
                let ended = child.try_wait().expect("a child of ours");
                assert!(ended.is_none(), "seed {seed}: the child ended: {ended:?}");
                std::thread::yield_now();
            }
            for _ in 0..dice.below(2_000) {
                std::thread::yield_now();
            }
            child.kill().expect("it is killed");
            child.wait().expect("a child of ours");
            if notes.exists() {
                let trace = Trace::read(&notes);
                trace.steps.iter().for_each(|step| known.learn(step));
            }
            if let Err(fault) = check(&home.path().join("data"), &limits(seed), &known, false) {
                panic!("store {store}, kill {kill}, seed {seed}: {fault}");
            }
        }
        acknowledged += known.acknowledged();
    }
    eprintln!("{kills} kills, {acknowledged} acknowledged revisions, none lost");
}
