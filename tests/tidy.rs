//! The shape of the project, checked as a test: rooms, lengths, opening lines, forbidden words, documents.
//!
//! It reads sources as text and never runs them, except for `vigil serve --help`. It depends on nothing.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken check should stop the test"
)]

#[path = "../build/seeded.rs"]
mod seeded;
#[path = "tidy/source.rs"]
mod source;

use source::{Import, Source, everything, imports, read, root, sources, tokens};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

const FILE_LINES_MAX: usize = 500;

/// Each room and the rooms that it may import. `server`, `lib.rs` and `main.rs` know everyone, and everyone may ask
/// `fault`, which is not there in a build that is used.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("fault", &[]),
    ("tls", &[]),
    ("model", &[]),
    ("storage", &["model"]),
    ("watch", &["model"]),
    ("actors", &["model", "storage", "watch"]),
    ("backend", &["model", "actors"]),
    ("api", &["model", "backend"]),
    (
        "relay",
        &[
            "tls", "model", "storage", "watch", "actors", "backend", "api",
        ],
    ),
    ("bench", &["api"]),
    (
        "cli",
        &["tls", "storage", "actors", "relay", "server", "bench"],
    ),
    (
        "config",
        &[
            "tls", "storage", "watch", "actors", "api", "relay", "server", "cli",
        ],
    ),
    ("verbs", &["tls", "model", "storage", "api", "cli"]),
];

/// In `actors`: the wiring, the table of who is started again, and the edge's half of a stream, which starts watchers.
const MAY_NAME_ACTORS: &[&str] = &[
    "broadcast",
    "engine",
    "supervision",
    "watch_stream",
    "tests",
];

/// In `actors`: the edge's doors, the only places that wait for an answer.
const MAY_ASK: &[&str] = &[
    "src/actors/engine.rs",
    "src/actors/engine/leases.rs",
    "src/actors/inspecting.rs",
    "src/actors/watch_stream.rs",
];

/// The rules between the actors, by their numbers in `docs/protocol.md`.
const RULES: &[(&str, u32)] = &[
    ("w", 7),
    ("l", 7),
    ("v", 2),
    ("p", 6),
    ("d", 6),
    ("b", 4),
    ("t", 5),
];

/// Bugs that other stores have had. The one about `range_end = "\0"` and permissions waits for authentication.
const KNOWN_BUGS: &[(&str, &[u32])] = &[
    (
        "etcd",
        &[
            14370, 15220, 15271, 17247, 17529, 18089, 19179, 19441, 20221, 20242, 20262, 20655,
            // A negative start revision.
            20693, 22264, 22294,
        ],
    ),
    ("kine", &[220, 731]),
    ("xline", &[166]),
    ("databend", &[18005, 18888]),
];

fn assert_none(rule: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{rule}\n{}", faults.join("\n"));
}

#[test]
fn rooms_import_one_way() {
    let mut faults = Vec::new();
    for source in sources(&["src"]) {
        let room = source.room().unwrap_or_default();
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else {
            assert!(
                ["", "server"].contains(&room.as_str()),
                "{room} is in no line of MAY_IMPORT"
            );
            continue;
        };
        for import in imports(&source) {
            let target = import.path.first().cloned().unwrap_or_default();
            if target != room && target != "fault" && !allowed.contains(&target.as_str()) {
                let path = import.path.join("::");
                faults.push(format!(
                    "{}:{}: {room} imports {path}",
                    source.path, import.line
                ));
            }
        }
    }
    assert_none("a room imports one that it must not know:", faults);
}

#[test]
fn actors_meet_only_in_messages() {
    let actors: Vec<Source> = sources(&["src/actors"]);
    // The file of an actor, and the actor's name.
    let mut known = Vec::new();
    for source in &actors {
        for line in source.production().lines() {
            if let Some((_, name)) = line.split_once("impl Actor for ") {
                let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
                known.push((source.module(), name));
            }
        }
    }
    let mut faults = Vec::new();
    for source in &actors {
        let module = source.module();
        // The face of the room has no part in this.
        if module.len() < 2 || MAY_NAME_ACTORS.contains(&module[1].as_str()) {
            continue;
        }
        for Import { line, path } in imports(source) {
            let of_another = known.iter().any(|(home, name)| {
                let all_of_it = path.starts_with(home) && path.ends_with(&["*".to_owned()]);
                home[1] != module[1] && (path.contains(name) || all_of_it)
            });
            if of_another {
                faults.push(format!("{}:{line}: {}", source.path, path.join("::")));
            }
        }
    }
    assert_none("an actor names another actor instead of a message:", faults);
}

#[test]
fn actors_tell_and_only_the_edge_asks() {
    let mut faults = Vec::new();
    for source in sources(&["src/actors"]) {
        if !MAY_ASK.contains(&source.path.as_str()) {
            // `tx` is the sending half of a reply, by convention; it does not wait.
            let asks = |line: &str| line.replace("tx.send(", "").contains(".send(");
            faults.extend(source.lines_with(source.production(), asks, "asks"));
        }
    }
    assert_none("an actor waits for another one:", faults);
}

#[test]
fn one_file_alone_knows_sled_and_one_knows_the_bytes_on_disk() {
    let mut faults = Vec::new();
    for source in sources(&["src"]) {
        for (word, home) in [
            ("sled", "src/storage/database.rs"),
            ("bincode", "src/storage/codec/"),
        ] {
            if !source.path.starts_with(home) {
                let is_there = |line: &str| {
                    tokens(line)
                        .windows(2)
                        .any(|pair| pair[0].text == word && pair[1].text == "::")
                };
                faults.extend(source.lines_with(&source.code, is_there, word));
            }
        }
    }
    assert_none("a name that belongs to one file:", faults);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut faults = Vec::new();
    for source in everything() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!(
                "{}: {lines} lines, and the most is {FILE_LINES_MAX}",
                source.path
            ));
        }
        if !source.text.starts_with("//!") {
            faults.push(format!("{}: does not open with //!", source.path));
        }
    }
    assert_none("files:", faults);
}

#[test]
fn nothing_is_left_open() {
    // Written apart, so that this file does not find itself.
    let notes = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
    ];
    let mut faults = Vec::new();
    for source in everything() {
        let has_note = |line: &str| notes.iter().any(|note| line.contains(note));
        faults.extend(source.lines_with(&source.text, has_note, "left open"));
        let is_ignored = |line: &str| line.contains("#[ignore");
        faults.extend(source.lines_with(&source.code, is_ignored, "a test that does not run"));
    }
    for document in documents() {
        let text = read(&document);
        let open = text
            .lines()
            .filter(|line| notes.iter().any(|note| line.contains(note)));
        faults.extend(open.map(|line| format!("{document}: left open: {line}")));
    }
    assert_none("something is left open:", faults);
}

#[test]
fn sources_are_ascii() {
    let mut faults = Vec::new();
    for source in sources(&["src"]) {
        faults.extend(source.lines_with(&source.text, |line| !line.is_ascii(), "not ASCII"));
    }
    assert_none("letters that editors and terminals disagree about:", faults);
}

#[test]
fn tests_wait_for_a_state_and_not_for_a_time() {
    let mut faults = Vec::new();
    for source in sources(&["tests"]) {
        if !source.path.contains("support") {
            let sleeps = |line: &str| line.contains("sleep(");
            faults.extend(source.lines_with(&source.code, sleeps, "waits by the clock"));
        }
    }
    assert_none("a test that waits by the clock:", faults);
}

#[test]
fn every_rule_has_a_test_or_a_decision() {
    let all: Vec<String> = everything().into_iter().map(|source| source.code).collect();
    let decisions = read("docs/decisions.md");
    let section = decisions
        .split("## Rules that another check than a test holds")
        .nth(1);
    let words = section
        .unwrap_or_default()
        .split(|c: char| !c.is_ascii_alphanumeric());
    let decided: BTreeSet<&str> = words.collect();
    let mut faults = Vec::new();
    for (letter, last) in RULES {
        for number in 1..=*last {
            let rule = format!("{letter}{number}");
            let test = format!("fn {rule}_");
            let is_tested = all.iter().any(|code| code.contains(&test));
            if !is_tested && !decided.contains(rule.to_uppercase().as_str()) {
                faults.push(format!(
                    "{}: no test begins with {rule}_",
                    rule.to_uppercase()
                ));
            }
        }
    }
    assert_none("a rule that nothing holds anybody to:", faults);
}

#[test]
fn every_known_bug_has_a_test_that_says_what_broke() {
    let all = everything();
    let mut faults = Vec::new();
    for (project, numbers) in KNOWN_BUGS {
        for number in *numbers {
            let test = format!("fn {project}_{number}_");
            if !all.iter().any(|source| has_documented(source, &test)) {
                faults.push(format!(
                    "no test with a doc begins with {project}_{number}_"
                ));
            }
        }
    }
    assert_none("a known bug that could come back:", faults);
}

/// True when a function whose head begins so has a doc above its attributes.
fn has_documented(source: &Source, head: &str) -> bool {
    let text: Vec<&str> = source.text.lines().collect();
    let heads = source.code.lines().enumerate();
    let mut heads = heads.filter(|(_, line)| line.contains(head));
    heads.any(|(at, _)| {
        let above = text[..at].iter().rev().map(|line| line.trim());
        let mut above = above.skip_while(|line| line.starts_with("#["));
        above.next().is_some_and(|line| line.starts_with("///"))
    })
}

// ---- Seeded faults ----

/// The names in the list of `src/fault.rs`.
fn seeded_faults() -> BTreeSet<String> {
    let text = read("src/fault.rs");
    let list = text.split("\nfaults! {").nth(1).unwrap_or_default();
    let list = list.split("\n}").next().unwrap_or_default();
    let names = list.lines().map(str::trim);
    let names = names.filter(|line| !line.starts_with("//") && !line.is_empty());
    let names: BTreeSet<_> = names.map(|line| line.replace(',', "")).collect();
    assert!(names.len() > 50, "the list has changed its form: {names:?}");
    names
}

#[test]
fn every_seeded_fault_breaks_something_and_is_in_the_lists() {
    let faults = seeded_faults();
    let first = |line: &str| {
        let name = line.split([';', '|']).next().unwrap_or_default();
        name.trim().to_owned()
    };
    let script = read("scripts/mutants.list");
    let listed: Vec<String> = script
        .lines()
        .filter(|line| (3..=4).contains(&line.split(" ; ").count()))
        .map(first)
        .collect();
    let document = read("docs/mutants.md");
    let documented: Vec<String> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| first(line).replace('`', ""))
        .collect();
    for (place, names) in [
        ("scripts/mutants.list", listed),
        ("docs/mutants.md", documented),
    ] {
        let once: BTreeSet<String> = names.iter().cloned().collect();
        assert_eq!(once.len(), names.len(), "{place} names one twice");
        let missing: Vec<_> = faults.symmetric_difference(&once).collect();
        assert!(
            missing.is_empty(),
            "only here or only in {place}: {missing:?}"
        );
    }
    let production: Vec<Source> = sources(&["src"])
        .into_iter()
        .filter(|source| source.path != "src/fault.rs")
        .collect();
    let seeded = |fault: &String| {
        let name = format!("(Fault::{fault})");
        production
            .iter()
            .any(|source| source.production().contains(&name))
    };
    let idle: Vec<_> = faults.iter().filter(|fault| !seeded(fault)).collect();
    assert!(idle.is_empty(), "faults that break nothing: {idle:?}");
}

#[test]
fn no_release_has_seeded_faults() {
    use seeded::may_have_faults;
    for asked in [None, Some(""), Some("0")] {
        assert_eq!(may_have_faults(asked, "debug"), Ok(false));
        assert_eq!(may_have_faults(asked, "release"), Ok(false));
    }
    assert_eq!(may_have_faults(Some("1"), "debug"), Ok(true));
    assert!(may_have_faults(Some("1"), "release").is_err());
    // Nobody else lets them in, and a build that has none answers with a constant.
    let cargo = [read("Cargo.toml"), read(".cargo/config.toml")].concat();
    assert!(!cargo.contains("vigil_faults"), "Cargo.toml lets faults in");
    assert_eq!(read("build.rs").matches("rustc-cfg=").count(), 1);
    let fault = read("src/fault.rs");
    assert!(fault.contains("#[cfg(all(vigil_faults, not(debug_assertions)))]\ncompile_error!"));
    let nothing = "#[cfg(not(vigil_faults))]\npub(crate) const fn active(_fault: Fault) -> bool {\n    false\n}";
    assert!(fault.contains(nothing));
}

// ---- Documents ----

fn documents() -> Vec<String> {
    let mut found: Vec<String> = ["README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG"]
        .iter()
        .map(|name| format!("{name}.md"))
        .collect();
    for entry in fs::read_dir(root().join("docs")).expect("docs").flatten() {
        found.push(format!("docs/{}", entry.file_name().to_string_lossy()));
    }
    found
}

/// One row of the configuration table for each flag, as `--help` has it.
fn rows_of_help() -> Vec<String> {
    let run = Command::new(env!("CARGO_BIN_EXE_vigil"))
        .args(["serve", "--help"])
        .output();
    let help = String::from_utf8(run.expect("vigil runs").stdout).expect("UTF-8");
    let between = |text: &str, start: &str| -> String {
        let found = text
            .split_once(start)
            .and_then(|(_, tail)| tail.split_once(']'));
        found.map_or_else(String::new, |(inner, _)| format!("`{inner}`"))
    };
    let mut rows = Vec::new();
    let mut flag = None;
    for line in help.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("--") {
            flag = name.split(' ').next();
        } else if let Some(name) = flag.take() {
            let meaning = line.split(" [env:").next().unwrap_or_default();
            let (variable, default) = (between(line, "[env: "), between(line, "[default: "));
            rows.push(format!(
                "| `--{name}` | {variable} | {default} | {meaning} |"
            ));
        }
    }
    assert!(rows.len() > 10, "help has changed its form:\n{help}");
    rows
}

#[test]
fn the_configuration_table_is_what_help_says() {
    let readme = read("README.md");
    let shown: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .collect();
    let rows = rows_of_help();
    assert!(
        shown == rows,
        "the table in README.md should be\n{}",
        rows.join("\n")
    );
}

/// The names in the cells that no test has.
fn without_a_test<'a>(cells: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let all: Vec<String> = everything().into_iter().map(|source| source.code).collect();
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let is_missing = |name: &&str| {
        let test = format!("fn {}(", name.rsplit("::").next().unwrap_or(name));
        !all.iter().any(|code| code.contains(&test))
    };
    names.filter(is_missing).collect()
}

#[test]
fn every_test_that_a_table_of_guarantees_names_exists() {
    let mut missing = String::new();
    for document in ["README.md", "docs/watch-guarantees.md"] {
        let text = read(document);
        let section = text.split("## Guarantees").nth(1).unwrap_or_default();
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter(|line| line.starts_with('|'));
        let proofs = rows.filter_map(|row| row.rsplit('|').nth(1));
        for name in without_a_test(proofs) {
            writeln!(missing, "{document}: {name}").expect("a string takes everything");
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{missing}");
}

#[test]
fn the_table_of_seeded_faults_names_tests_that_exist_and_says_what_the_search_finds() {
    let document = read("docs/mutants.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    let of_five = rows.iter().filter(|cells| cells.len() == 5);
    assert_eq!(of_five.count(), rows.len(), "a row has five cells");
    let missing = without_a_test(rows.iter().map(|cells| cells[3]));
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
    let script = read("scripts/mutants.list");
    let mut faults = Vec::new();
    for cells in &rows {
        let name = cells[0].trim_matches(['|', ' ', '`']);
        let mut lines = script.lines().map(|line| line.split(" ; ").collect());
        let listed = lines.find(|line: &Vec<&str>| line[0] == name);
        let is_searched = listed.is_some_and(|line| line.len() == 4);
        let is_found = cells[4].trim_matches(['|', ' ']) != "-";
        if is_searched != is_found {
            faults.push(name);
        }
    }
    assert!(faults.is_empty(), "found by search or not? {faults:?}");
}
