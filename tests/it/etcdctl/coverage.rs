//! Holds what `etcdctl help` lists against the lines that are compared: every subcommand and every flag is in one of them,
//! or here with the reason why not.

use super::lines::ALL;
use super::running::STARTED;
use crate::support::peer::etcd_binary;
use std::collections::BTreeSet;
use std::process::Command;

/// Subcommands that no line has, and why.
const LEFT_OUT: [(&str, &str); 7] = [
    ("check perf", "it measures for a minute, whatever it finds"),
    ("completion bash", "asks no server"),
    ("completion fish", "asks no server"),
    ("completion powershell", "asks no server"),
    ("completion zsh", "asks no server"),
    ("help", "asks no server"),
    (
        "snapshot restore",
        "asks no server, and reads etcd's files only; `vigil snapshot restore` reads ours",
    ),
];

/// Flags that no line has, and why.
const FLAGS_LEFT_OUT: [(&str, &str); 21] = [
    ("--auto-defrag", "is of `check perf` alone"),
    ("--cacert", "TLS has tests of its own"),
    ("--cert", "TLS has tests of its own"),
    ("--data-dir", "reads etcd's files only, and asks no server"),
    ("--debug", "changes what the client logs"),
    ("--dest-cacert", "TLS has tests of its own"),
    ("--dest-cert", "TLS has tests of its own"),
    ("--dest-insecure-transport", "TLS has tests of its own"),
    ("--dest-key", "TLS has tests of its own"),
    ("--dest-password", "there are no users"),
    ("--dest-user", "there are no users"),
    ("--discovery-srv", "asks a name server"),
    ("--discovery-srv-name", "asks a name server"),
    ("--endpoints", "is in every line"),
    ("--help", "asks no server"),
    ("--insecure-discovery", "asks a name server"),
    ("--insecure-skip-tls-verify", "TLS has tests of its own"),
    ("--insecure-transport", "TLS has tests of its own"),
    ("--keepalive-time", "is nothing that an answer shows"),
    ("--keepalive-timeout", "is nothing that an answer shows"),
    ("--key", "TLS has tests of its own"),
];

fn help(words: &[&str]) -> String {
    let said = Command::new(etcd_binary("etcdctl"))
        .args(words)
        .arg("--help")
        .output()
        .expect("help");
    String::from_utf8(said.stdout).expect("text")
}

/// The lines of a section of a help text.
fn section<'a>(text: &'a str, head: &str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().skip_while(move |line| *line != head).skip(1);
    lines.take_while(|line| !line.is_empty())
}

/// Every flag of an `OPTIONS` section, by its long name.
fn flags(text: &str) -> Vec<String> {
    let lines = section(text, "OPTIONS:").chain(section(text, "GLOBAL OPTIONS:"));
    let words = lines.filter_map(|line| line.split(['=', '[', '\t']).next());
    let names = words.filter_map(|words| words.split_whitespace().last());
    names
        .filter(|name| name.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

/// The words of all lines.
fn lines() -> Vec<Vec<&'static str>> {
    let ending = ALL.iter().flat_map(|lines| lines.lines());
    let all = ending.chain(STARTED);
    all.map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn every_subcommand_of_etcdctl_is_compared_or_left_out_with_a_reason() {
    let lines = lines();
    let help = help(&[]);
    let commands = section(&help, "COMMANDS:").filter_map(|line| line.trim().split('\t').next());
    let mut missing = Vec::new();
    let mut seen = 0;
    for command in commands {
        seen += 1;
        let words: Vec<&str> = command.split(' ').collect();
        let is_compared = lines.iter().any(|line| line.starts_with(&words));
        let is_left_out = LEFT_OUT.iter().any(|(left, _)| *left == command);
        if is_compared == is_left_out {
            missing.push(command);
        }
    }
    assert!(seen > 40, "help was not understood: {help}");
    assert!(
        missing.is_empty(),
        "in no line and not left out, or both: {missing:?}"
    );
}

#[test]
fn every_flag_of_etcdctl_is_compared_or_left_out_with_a_reason() {
    let lines = lines();
    let top = help(&[]);
    let commands = section(&top, "COMMANDS:").filter_map(|line| line.trim().split('\t').next());
    let mut missing = BTreeSet::new();
    let mut seen = 0;
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        if LEFT_OUT.iter().any(|(left, _)| *left == command) {
            continue;
        }
        let text = help(&words);
        let own = text.split("GLOBAL OPTIONS:").next().unwrap_or_default();
        for flag in flags(own) {
            seen += 1;
            let of_command = lines.iter().filter(|line| line.starts_with(&words));
            let mut used = of_command.flatten().map(|word| word.split('=').next());
            let is_left_out = FLAGS_LEFT_OUT.iter().any(|(left, _)| *left == flag);
            if !used.any(|word| word == Some(&flag)) && !is_left_out {
                missing.insert(format!("{command} {flag}"));
            }
        }
    }
    assert!(seen > 50, "help was not understood");
    for flag in flags(&top) {
        let mut used = lines.iter().flatten().map(|word| word.split('=').next());
        let is_left_out = FLAGS_LEFT_OUT.iter().any(|(left, _)| *left == flag);
        if !used.any(|word| word == Some(&flag)) && !is_left_out {
            missing.insert(flag);
        }
    }
    assert!(
        missing.is_empty(),
        "in no line and not left out: {missing:?}"
    );
}
