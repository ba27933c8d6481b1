//! Damaged files: a bit that flipped, a file that is cut short, zeroed or gone. What is served is exactly right, or nothing
//! is served and the refusal says what is wrong; never a wrong answer, never a panic.
//!
//! The store that is damaged was written by a load, and closed in good order or killed. There is one thing that no store can
//! tell: whether the end of the commit log of a store that was killed is damaged, or was never written because the power went.
//! Such damage may cost the last group, and zeros over the end of the log the groups that they cover; nothing before that,
//! and nothing of a store that was closed.

use super::check::{Fault, Known, check};
use super::load::{self, Load, limits};
use super::trace::Trace;
use super::{Dice, child, child_home, count, log_tail, scratch, serve};
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
/// How the names of a store's files begin.
const FILES: [&str; 6] = [
    "db",
    "conf",
    "snap.",
    "engine",
    "commit.0.log",
    "commit.1.log",
];
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
        defragments: true,
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

/// What was done.
struct Damage {
    text: String,
    /// Where, if it is in the commit log.
    place: Option<LogPlace>,
}

struct LogPlace {
    name: String,
    /// Where a stretch of zeros begins that was written over a part of it.
    zeros: Option<u64>,
}

/// Does some damage to one file of `dir`.
fn damage(dir: &Path, dice: &mut Dice) -> Damage {
    let (name, text, zeros) = damage_one(dir, dice);
    let text = format!("{name} {text}");
    let place = name
        .starts_with("commit.")
        .then_some(LogPlace { name, zeros });
    Damage { text, place }
}

/// All files that hold anything, those of the engine in use too.
fn files_of(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files_of(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.metadata().is_ok_and(|file| file.len() > 0))
        .collect()
}

/// Answers which file, what was done to it, and from where on zeros were written over a part of it.
fn damage_one(dir: &Path, dice: &mut Dice) -> (String, String, Option<u64>) {
    let mut files = files_of(dir);
    files.sort();
    // The data twice as often as the others.
    let data = files.iter().find(|path| path.ends_with("db"));
    files.push(data.expect("data").clone());
    let path = &files[dice.below(files.len() as u64) as usize];
    let name = path.strip_prefix(dir).expect("a path below");
    let name = name.display().to_string();
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.expect("a file");
    let content = fs::read(path).expect("a file");
    let length = content.len() as u64;
    match dice.below(12) {
        0 => {
            fs::remove_file(path).expect("it goes");
            (name, "is gone".to_owned(), None)
        }
        1 => {
            let left = dice.below(length);
            file.set_len(left).expect("it is cut");
            (name, format!("ends at {left} of {length}"), None)
        }
        2 => {
            file.write_all_at(&vec![0; content.len()], 0)
                .expect("zeros");
            (name, "is all zeros".to_owned(), None)
        }
        3 => {
            let at = dice.below(length);
            let zeros = (length - at).min(1 << 16);
            file.write_all_at(&vec![0; zeros as usize], at)
                .expect("zeros");
            let text = format!("has {zeros} zeros at {at} of {length}");
            (name, text, Some(at))
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
            let text = format!("has bit {bit} of byte {at} of {length} flipped");
            (name, text, None)
        }
    }
}

/// Damages copies of a store, and answers what was wrong with what came of it.
fn damage_often(written: &Written, times: usize, dice: &mut Dice) -> Vec<String> {
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut faults = Vec::new();
    let original = written.home.path().join("data");
    // How many acknowledged revisions each stretch of zeros could have cost.
    let mut floors = Vec::new();
    for _ in 0..times {
        let home = scratch();
        let dir = home.path().join("data");
        copy(&original, &dir);
        let done = damage(&dir, dice);
        let known = match &done.place {
            Some(log) if written.is_killed => match log.zeros {
                Some(from) => {
                    let through = log_tail::certain(&written.known, &original, &log.name, from);
                    floors.push(written.known.acknowledged() - through);
                    written.known.but_for_what_follows(through)
                }
                None => written.known.but_for_the_last_group(),
            },
            _ => written.known.clone(),
        };
        let done = done.text;
        let checked = check(&dir, &limits(written.seed), &known, true);
        let outcome = match checked {
            Ok(_) => "right",
            Err(Fault::Refused(error)) if says_where_and_what_to_do(&error, &dir) => "refused",
            Err(fault) => {
                faults.push(format!("seed {}, {done}: {fault}", written.seed));
                "neither"
            }
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    eprintln!(
        "seed {}: {outcomes:?}, zeros at the end may cost {floors:?}",
        written.seed
    );
    faults
}

/// True when a refusal names a file of the directory, which need not be there, and what can be done.
fn says_where_and_what_to_do(error: &StorageError, dir: &Path) -> bool {
    let StorageError::Corrupt { place, reason, .. } = error else {
        return false;
    };
    let names_a_file = FILES
        .iter()
        .any(|name| place.starts_with(dir.join(name).to_str().expect("a plain path")));
    names_a_file && !reason.is_empty() && error.to_string().contains("from a backup")
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
        let cut = if name == "db" { 0 } else { length / 2 };
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
        // Of data that is gone it is the log that shows it.
        let shows = if name == "db" { "commit." } else { name };
        let shows = data_of_it.join(shows);
        let names_a_file = errors[0].contains(shows.to_str().expect("a plain path"));
        assert!(names_a_file, "{name}: {said}");
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
