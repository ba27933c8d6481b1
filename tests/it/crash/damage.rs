//! Damaged files: a bit that flipped, a file that is cut short, zeroed or gone. What is served is exactly right, or nothing
//! is served and the refusal says what is wrong; never a wrong answer, never a panic.
//!
//! The store that is damaged was written by a load, and closed in good order or killed. There is one thing that no store can
//! tell: whether the end of the commit log of a store that was killed is damaged, or was never written because the power went.
//! Such damage may cost the last group, and zeros over the end of the log as much as they cover; nothing before that, and
//! nothing of a store that was closed.

use super::check::{Fault, Known, check};
use super::load::{self, Load, limits};
use super::trace::Trace;
use super::{Dice, child, child_home, count, scratch, serve};
use crate::support::process::Process;
use crate::support::{PeerKind, Setup};
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use vigil::model::{Put, Write};
use vigil::storage::{Readers, StorageError, StorageLimits, open};

/// Damages in a run of all tests.
const DAMAGES: usize = 40;
const NOTES: &str = "VIGIL_CRASH_NOTES";
const SEED: &str = "VIGIL_CRASH_SEED";
const BYTES: &str = "VIGIL_CRASH_BYTES";

/// A store, and what its clients know.
struct Written {
    home: tempfile::TempDir,
    known: Known,
    seed: u64,
    is_killed: bool,
}

/// Has a child write a store, and lets it end by itself or kills it.
fn written(test: &str, seed: u64, is_killed: bool) -> Written {
    let home = scratch();
    let notes = home.path().join("notes");
    let bytes: u64 = if is_killed { u64::MAX } else { 12 << 20 };
    let mut child = child(test, home.path())
        .env(SEED, seed.to_string())
        .env(NOTES, &notes)
        .env(BYTES, bytes.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the child starts");
    if is_killed {
        while fs::metadata(&notes).map_or(0, |notes| notes.len()) < 150_000 {
            assert!(child.try_wait().expect("a child of ours").is_none());
            std::thread::yield_now();
        }
        child.kill().expect("it is killed");
    }
    child.wait().expect("a child of ours");
    let mut known = Known::default();
    let trace = Trace::read(&notes);
    trace.steps.iter().for_each(|step| known.learn(step));
    Written {
        home,
        known,
        seed,
        is_killed,
    }
}

fn be_the_child(home: &Path) {
    let number = |name| -> u64 {
        let number = env::var(name).expect("a variable");
        number.parse().expect("a number")
    };
    let load = Load {
        seed: number(SEED),
        bytes: number(BYTES),
        groups_per_opening: 120,
    };
    let notes = PathBuf::from(env::var_os(NOTES).expect("a place for notes"));
    load::run(load, &home.join("data"), &notes);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).expect("a copy");
        }
    }
}

/// Does some damage to one file of `dir`, and says what.
fn damage(dir: &Path, dice: &mut Dice) -> String {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    // The data twice as often as the others.
    files.push(dir.join("db"));
    let path = &files[dice.below(files.len() as u64) as usize];
    let name = path.file_name().expect("a name").to_string_lossy();
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.expect("a file");
    let content = fs::read(path).expect("a file");
    let length = content.len() as u64;
    match dice.below(12) {
        0 => {
            fs::remove_file(path).expect("it goes");
            format!("{name} is gone")
        }
        1 => {
            let left = dice.below(length);
            file.set_len(left).expect("it is cut");
            format!("{name} ends at {left} of {length}")
        }
        2 => {
            file.write_all_at(&vec![0; content.len()], 0)
                .expect("zeros");
            format!("{name} is all zeros")
        }
        3 => {
            let at = dice.below(length);
            let zeros = (length - at).min(1 << 16);
            file.write_all_at(&vec![0; zeros as usize], at)
                .expect("zeros");
            format!("{name} has {zeros} zeros at {at} of {length}")
        }
        _ => {
            // Where there is something, because most of what the engine reserves is empty.
            let mut at = dice.below(length);
            for _ in 0..20 {
                if content[at as usize] != 0 {
                    break;
                }
                at = dice.below(length);
            }
            let bit = dice.below(8);
            let flipped = content[at as usize] ^ (1 << bit);
            file.write_all_at(&[flipped], at).expect("a flip");
            format!("{name} has bit {bit} of byte {at} of {length} flipped")
        }
    }
}

/// Damages copies of a store, and answers what was wrong with what came of it.
fn damage_often(written: &Written, times: usize, dice: &mut Dice) -> Vec<String> {
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut faults = Vec::new();
    for _ in 0..times {
        let home = scratch();
        let dir = home.path().join("data");
        copy(&written.home.path().join("data"), &dir);
        let done = damage(&dir, dice);
        let at_the_end = written.is_killed && done.starts_with("commit.");
        let known = match at_the_end {
            true if done.contains(" zeros ") => written.known.but_for_any_end(),
            true => written.known.but_for_the_last_group(),
            false => written.known.clone(),
        };
        let checked = check(&dir, &limits(written.seed), &known, true);
        let outcome = match checked {
            Ok(_) => "right",
            Err(Fault::Refused(StorageError::Corrupt { place, reason, .. })) => {
                assert!(
                    !place.is_empty() && !reason.is_empty(),
                    "{done}: it says what"
                );
                "refused"
            }
            Err(fault) => {
                faults.push(format!("seed {}, {done}: {fault}", written.seed));
                "neither"
            }
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    eprintln!("seed {}: {outcomes:?}", written.seed);
    faults
}

#[test]
fn a_damaged_store_is_right_or_refused() {
    const TEST: &str = "crash::damage::a_damaged_store_is_right_or_refused";
    if let Some(home) = child_home() {
        return be_the_child(&home);
    }
    let damages = count("VIGIL_CRASH_DAMAGES", DAMAGES);
    let mut dice = Dice(count(SEED, 1) as u64);
    let mut faults = Vec::new();
    let stores = damages.div_ceil(60) * 2;
    for store in 0..stores {
        let written = written(TEST, dice.next(), store % 2 == 1);
        faults.extend(damage_often(&written, damages / stores, &mut dice));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Each file of a store in turn is cut short; a server that cannot go on says which, and ends.
#[tokio::test]
async fn a_server_names_the_file_that_is_damaged() {
    let home = scratch();
    let peer_home = scratch();
    let setup = Setup::new(PeerKind::Vigil);
    let data = home.path().join("data");
    let (mut process, client) = serve(setup.command(&data), peer_home.path()).await;
    for number in 0..300 {
        client
            .put(format!("k{}", number % 7), vec![b'v'; 30_000])
            .await;
    }
    process.kill();
    for name in ["db", "conf", "commit.0.log", "commit.1.log"] {
        let copied = scratch();
        let data_of_it = copied.path().join("data");
        copy(&data, &data_of_it);
        let path = data_of_it.join(name);
        let length = path.metadata().expect("a file").len();
        let file = OpenOptions::new().write(true).open(&path).expect("a file");
        // What is left of half the data may be right, with its log.
        let is_data = name == "db";
        let cut = if is_data { 0 } else { length / 2 };
        file.set_len(cut).expect("it is cut");
        let mut process = Process::spawn(setup.command(&data_of_it), copied.path());
        let status = process.wait_exit().await;
        assert!(
            !status.success() && status.code().is_some(),
            "{name}: {status}"
        );
        let said = process.stderr();
        let errors: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("Error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{name}: one line: {said}");
        let names_a_file = errors[0].contains(path.to_str().expect("a plain path"));
        // Of data that is gone it is the log that shows it.
        let shows = is_data && errors[0].contains(data_of_it.to_str().expect("a plain path"));
        assert!(names_a_file || shows, "{name}: {said}");
        assert!(errors[0].contains("backup"), "what to do: {said}");
    }
}

/// The engine's files of yesterday under the log of today: what lay between them is gone, and that is not passed over.
#[test]
fn data_that_is_older_than_its_log_is_refused() {
    let home = scratch();
    let (dir, kept) = (home.path().join("data"), home.path().join("kept"));
    let limits = StorageLimits {
        log_bytes_max: 64 << 10,
        ..StorageLimits::default()
    };
    let write = || {
        let (mut writer, _) = open(&dir, limits.clone(), Readers::Inline).expect("it opens");
        for number in 0..40 {
            let put = Put {
                key: format!("k{number}").into(),
                value: vec![b'v'; 10_000].into(),
                ..Put::default()
            };
            writer.apply(&Write::Put(put), false).expect("a put");
            writer.commit().expect("a commit");
        }
        writer.close().expect("a closing");
    };
    write();
    copy(&dir, &kept);
    write();
    for entry in fs::read_dir(&dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        if path.is_file() && !name.starts_with("commit.") {
            fs::remove_file(&path).expect("it goes");
        }
    }
    for entry in fs::read_dir(&kept).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        if path.is_file() && !name.starts_with("commit.") {
            fs::copy(&path, dir.join(&*name)).expect("a copy");
        }
    }
    let refused = open(&dir, limits.clone(), Readers::Inline).err();
    let Some(StorageError::Corrupt { place, reason, .. }) = refused else {
        panic!("it is not refused: {refused:?}");
    };
    assert!(place.contains("commit."), "{place}");
    assert!(reason.contains("older"), "{reason}");
}
