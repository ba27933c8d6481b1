//! Vigil beside etcd: the same loads on both, in turn, on the same machine in the same run, as a table of ratios.

use crate::load;
use crate::rows::{History, ROWS, Row, Work};
use crate::servers::{BOTH, Kind, Server, free_address, fresh_dir};
use crate::table;
use clap::Args;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Vigil beside etcd.
#[derive(Debug, Args)]
pub(crate) struct Versus {
    /// How often each load is put on each server; the table has the medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long a load is measured where its row does not say.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many overwrites the row about the disk makes; the longer, the plainer it shows what grows.
    #[arg(long, default_value_t = 2_000_000)]
    overwrites: u64,
    /// Every report, one a line.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Rows to run; one runs with all whose names begin so.
    rows: Vec<String>,
}

/// Measures, and prints the table.
pub(crate) fn run(args: &Versus) {
    let wanted = |row: &&Row| {
        args.rows.is_empty() || args.rows.iter().any(|name| row.name.starts_with(&**name))
    };
    let rows: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    let names = ROWS
        .iter()
        .map(|row| row.name)
        .collect::<Vec<_>>()
        .join(" ");
    assert!(!rows.is_empty(), "no such row; there are: {names}");
    let mut json = args
        .json
        .as_ref()
        .map(|path| File::create(path).expect("the file"));
    let mut histories = Histories::default();
    println!("{}", table::head());
    for row in rows {
        let mut reports = [Vec::new(), Vec::new()];
        for round in 0..args.rounds {
            for kind in BOTH {
                eprintln!(
                    "{}: {kind:?}, round {} of {}",
                    row.name,
                    round + 1,
                    args.rounds
                );
                match measure(row, kind, args, &mut histories) {
                    Ok(report) => {
                        if let Some(json) = &mut json {
                            let line = json!({ "row": row.name, "server": kind.version(), "report": &report });
                            writeln!(json, "{line}").expect("the file");
                        }
                        kind.of(&mut reports).push(report);
                    }
                    Err(error) => eprintln!("{}: {kind:?}: {error}", row.name),
                }
            }
        }
        for line in table::lines(row, &reports) {
            println!("{line}");
        }
    }
}

/// Data directories that are made once and used by many rows.
#[derive(Default)]
struct Histories(HashMap<(History, bool), TempDir>);

impl Histories {
    fn dir(&mut self, kind: Kind, history: History) -> Result<&Path, String> {
        let made = self.0.entry((history, kind == Kind::Vigil));
        let dir = match made {
            std::collections::hash_map::Entry::Occupied(made) => made.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let dir = fresh_dir();
                let server = Server::start(kind, dir.path(), &[]);
                let puts = history.puts.to_string();
                let (keys, value_bytes) =
                    (history.keys.to_string(), history.value_bytes.to_string());
                let words = [
                    "fill",
                    "--puts",
                    &puts,
                    "--keys",
                    &keys,
                    "--value-bytes",
                    &value_bytes,
                ];
                load::run(&server, &words)?;
                server.stop();
                place.insert(dir)
            }
        };
        Ok(dir.path())
    }
}

/// One load on one server.
fn measure(
    row: &Row,
    kind: Kind,
    args: &Versus,
    histories: &mut Histories,
) -> Result<Value, String> {
    let seconds = args.seconds.to_string();
    let words = |load: &'static str| {
        let mut words: Vec<&str> = load.split_whitespace().collect();
        if !words.contains(&"--seconds") {
            words.extend(["--seconds", &*seconds]);
        }
        words
    };
    match row.work {
        Work::Empty(load) => {
            let dir = fresh_dir();
            let server = Server::start(kind, dir.path(), &[]);
            load::run(&server, &words(load))
        }
        Work::Flood { watchers, load } => {
            let dir = fresh_dir();
            let server = Server::start(kind, dir.path(), &[]);
            let mut report = load::run(&server, &words(load))?;
            server.stop();
            // What a server sends to whoever is behind has several events in a message, and the bare stream's has as many.
            let events = report.pointer("/events_per_response");
            let events = events.and_then(Value::as_f64).unwrap_or(1.0).round();
            let raw = Server::raw(watchers, (events as u64).max(1));
            report["raw"] = load::run(&raw, &words(load))?;
            Ok(report)
        }
        Work::Overwrites(load) => {
            let dir = fresh_dir();
            let server = Server::start(kind, dir.path(), &[]);
            let load = load.replace("{}", &args.overwrites.to_string());
            let path = dir.path().display().to_string();
            let mut words: Vec<&str> = load.split_whitespace().collect();
            words.extend(["--data-dir", &path]);
            load::run(&server, &words)
        }
        Work::On(history, load) => {
            let server = Server::start(kind, histories.dir(kind, history)?, &[]);
            let (puts, keys) = (history.puts.to_string(), history.keys.to_string());
            let there = ["--no-fill", "--history", &puts, "--keys", &keys];
            let report = load::run(&server, &[&*words(load), &there].concat());
            server.stop();
            report
        }
        Work::Restart(history) => {
            let address = free_address();
            // What a start leaves behind makes the next one shorter, so each has its own.
            let dir = fresh_dir();
            copy(histories.dir(kind, history)?, dir.path());
            let command = kind.command(dir.path(), &address);
            let mut words = vec!["--endpoint", &address, "--seconds", "300", "restart", "--"];
            words.extend(command.iter().map(String::as_str));
            load::bench(&words)
        }
    }
}

/// Copies what is in a directory, and waits until the disk has it: nobody is to be measured while it is written.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .arg("-r")
        .arg(from.join("."))
        .arg(to)
        .status();
    assert!(copied.expect("cp").success());
    let synced = Command::new("sync").arg("-f").arg(to).status();
    assert!(synced.expect("sync").success());
}
