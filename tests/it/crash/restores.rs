//! Restores of a snapshot that are cut short: there is the whole store under its name, or nothing under it.
//!
//! What was restored is judged by the hash that the snapshot has, and never by what the restore says.

use super::disk::{Before, Disk, Tail};
use super::load::{self, Load, limits};
use super::trace::Trace;
use super::{Dice, child, child_home, count, scratch, shim};
use crate::support::peer::vigil_binary;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use vigil::storage::{
    Readers, SnapshotInfo, StorageLimits, inspect_snapshot, open, restore_snapshot,
};

/// Kills, and cuts of the power, in a run of all tests.
const KILLS: usize = 12;
const CUTS: usize = 24;
const SEED: &str = "VIGIL_CRASH_SEED";

/// Saves a snapshot of a store that the load of this seed has filled.
fn save(home: &Path, seed: u64, bytes: u64) -> (PathBuf, SnapshotInfo) {
    let (data, notes) = (home.join("saved.data"), home.join("notes"));
    let load = Load {
        seed,
        bytes,
        groups_per_opening: 100,
        defragments: true,
    };
    load::run(load, &data, &notes);
    let (writer, view) = open(&data, limits(seed), Readers::Inline).expect("it opens");
    let mut all = Vec::new();
    let mut snapshot = view.snapshot().expect("a snapshot");
    while let Some(part) = snapshot.next_part().expect("a part") {
        all.extend_from_slice(&part.bytes);
    }
    drop(snapshot);
    writer.close().expect("a closing");
    let file = home.join("saved");
    fs::write(&file, all).expect("a file");
    let info = inspect_snapshot(&file).expect("it is whole");
    (file, info)
}

/// Sees that a directory is the store of this snapshot, and takes writes.
fn check(dir: &Path, saved: &SnapshotInfo) -> Result<(), String> {
    let opened = open(dir, StorageLimits::default(), Readers::Inline);
    let (writer, view) = opened.map_err(|error| error.to_string())?;
    let (sender, receiver) = mpsc::channel();
    view.hash(None, Box::new(move |hash| drop(sender.send(hash))));
    let hash = receiver.recv().expect("an answer");
    let hash = hash.map_err(|error| error.to_string())?;
    writer.close().map_err(|error| error.to_string())?;
    if (hash.hash, hash.revision) == (saved.hash, saved.revision) {
        Ok(())
    } else {
        Err(format!("{hash:?}, and {saved:?} was saved"))
    }
}

#[test]
fn a_restore_that_is_killed_leaves_a_whole_store_or_none() {
    let kills = count("VIGIL_CRASH_KILLS", KILLS);
    let home = tempfile::tempdir().expect("a temporary directory");
    let (file, saved) = save(home.path(), 1, 8 << 20);
    let (target, unfinished) = (home.path().join("data"), home.path().join("data.restoring"));
    let mut dice = Dice(count(SEED, 1) as u64);
    let mut whole = 0;
    for kill in 0..kills {
        let mut restore = Command::new(vigil_binary())
            .args(["snapshot", "restore"])
            .arg(&file)
            .arg("--data-dir")
            .arg(&target)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        while !unfinished.exists() && !target.exists() {
            std::thread::yield_now();
        }
        // Some get to their end.
        let moments = dice.below(if kill % 3 == 0 { 2_000_000 } else { 60_000 });
        for _ in 0..moments {
            if target.exists() {
                break;
            }
            std::thread::yield_now();
        }
        restore.kill().expect("it is killed");
        restore.wait().expect("a child of ours");
        if target.exists() {
            whole += 1;
            check(&target, &saved).unwrap_or_else(|fault| panic!("kill {kill}: {fault}"));
            fs::remove_dir_all(&target).expect("removed");
        }
        if let Ok(mut left) = fs::read_dir(&unfinished) {
            // Nobody takes it for the store, and the next restore says that it is in the way, unless nothing is in it yet.
            let is_empty = left.next().is_none();
            let again = restore_snapshot(&file, &target, &StorageLimits::default());
            assert_eq!(again.is_ok(), is_empty, "kill {kill}: {again:?}");
            let made = if is_empty { &target } else { &unfinished };
            fs::remove_dir_all(made).expect("removed");
        }
    }
    eprintln!("{kills} kills, {whole} restores were whole");
    restore_snapshot(&file, &target, &StorageLimits::default()).expect("a restore");
    check(&target, &saved).expect("the store");
}

#[test]
fn a_power_cut_leaves_a_whole_restored_store_or_none() {
    const TEST: &str = "crash::restores::a_power_cut_leaves_a_whole_restored_store_or_none";
    if let Some(root) = child_home() {
        let limits = StorageLimits::default();
        let restored = restore_snapshot(&root.join("saved"), &root.join("data"), &limits);
        restored.expect("a restore");
        return;
    }
    let cuts = count("VIGIL_CRASH_CUTS", CUTS);
    let seed = count(SEED, 1) as u64;
    let (home, from) = (scratch(), scratch());
    let (file, saved) = save(from.path(), seed, 4 << 20);
    let root = home.path().join("root");
    fs::create_dir(&root).expect("a directory");
    let root = root.canonicalize().expect("a directory");
    fs::copy(&file, root.join("saved")).expect("a copy");
    let before = Before::of(&root);
    let trace = home.path().join("trace");
    let mut command = child(TEST, &root);
    shim::preload(&mut command, &root, &trace);
    let output = command.output().expect("the child starts");
    assert!(output.status.success(), "the child ends well: {output:?}");
    let trace = Trace::read(&trace);

    let mut dice = Dice(seed);
    let steps = trace.steps.len();
    // The last few steps are where the store gets its name.
    let mut places: Vec<usize> = (0..cuts)
        .map(|cut| match cut % 3 {
            0 => dice.below(steps as u64 + 1) as usize,
            _ => steps - dice.below(steps.min(12) as u64) as usize,
        })
        .collect();
    places.sort_unstable();
    // The end is cut in every way: only there it is certain what has to be there.
    let in_the_end = Tail::ALL.map(|tail| (steps, tail));
    let cuts_made = places.into_iter().map(|place| {
        let tail = Tail::ALL[dice.below(Tail::ALL.len() as u64) as usize];
        (place, tail)
    });
    let cuts_made: Vec<_> = cuts_made.chain(in_the_end).collect();
    let mut disk = Disk::new(&trace, &root, &before);
    let (mut done, mut whole) = (0, 0);
    for (place, tail) in cuts_made {
        trace.steps[done..place]
            .iter()
            .for_each(|step| disk.step(step));
        done = place;
        let image = scratch();
        disk.image(tail, &mut dice, image.path());
        let target = image.path().join("data");
        if target.exists() {
            whole += 1;
            if let Err(fault) = check(&target, &saved) {
                panic!("seed {seed}, step {place} of {steps}, {tail:?}: {fault}");
            }
        } else {
            assert!(place < steps, "what was restored has its name");
        }
    }
    eprintln!("{cuts} cuts in {steps} steps, {whole} left a whole store");
    assert!(whole > 0, "the last one does");
}
