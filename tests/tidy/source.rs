//! Rust sources as text: where they are, what of them is code, and which paths they name.
//!
//! It knows just enough of the language for the checks of `tidy.rs`, and judges nothing.

use std::fs;
use std::path::Path;

pub(crate) struct Source {
    /// Relative to the project, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with comments and the insides of literals blanked out, line for line.
    pub(crate) code: String,
}

impl Source {
    /// Its place in the module tree; empty for the two roots.
    pub(crate) fn module(&self) -> Vec<String> {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let inner = inner.strip_suffix(".rs").unwrap_or(inner);
        let mut parts: Vec<String> = inner.split('/').map(str::to_owned).collect();
        if matches!(
            parts.last().map(String::as_str),
            Some("mod" | "lib" | "main")
        ) {
            parts.pop();
        }
        parts
    }

    pub(crate) fn room(&self) -> Option<String> {
        self.module().into_iter().next()
    }

    /// Its code without its unit tests, which stand at the foot of the file or in one of their own.
    pub(crate) fn production(&self) -> &str {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return "";
        }
        let inline_tests = self.code.match_indices("#[cfg(test)]").find(|(at, _)| {
            let after = self.code[*at..].lines().nth(1).unwrap_or_default();
            after.contains("mod ") && after.ends_with('{')
        });
        inline_tests.map_or(&self.code, |(at, _)| &self.code[..at])
    }

    /// One fault for each line of `code` in which `found` finds something.
    pub(crate) fn lines_with(
        &self,
        code: &str,
        found: impl Fn(&str) -> bool,
        fault: &str,
    ) -> Vec<String> {
        let numbered = code.lines().enumerate().filter(|(_, line)| found(line));
        numbered
            .map(|(at, line)| format!("{}:{}: {fault}: {}", self.path, at + 1, line.trim()))
            .collect()
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// Every `.rs` file below these directories.
pub(crate) fn sources(dirs: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<_> = dirs.iter().map(|dir| root().join(dir)).collect();
    while let Some(dir) = open.pop() {
        // A directory that is not there yet has no files.
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.expect("directory entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                let relative = path.strip_prefix(root()).expect("below the project");
                let code = blank(&text);
                found.push(Source {
                    path: relative.to_string_lossy().replace('\\', "/"),
                    text,
                    code,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no sources below {dirs:?}");
    found
}

pub(crate) fn everything() -> Vec<Source> {
    sources(&["src", "tests", "benches", "examples"])
}

/// Replaces comments and the insides of string and character literals by spaces; line breaks stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => until(bytes, at, b"\n"),
            [b'/', b'*', ..] => end_of_block_comment(bytes, at),
            [b'"', ..] => end_of_string(bytes, at),
            [b'r', b'"' | b'#', ..] if !is_word(bytes, at) => end_of_raw_string(bytes, at),
            [b'\'', b'\\', ..] => until(bytes, at + 3, b"'") + 1,
            [b'\'', _, b'\'', ..] => at + 3,
            _ => at,
        };
        let end = end.min(bytes.len());
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// True when the byte at `at` continues a word.
fn is_word(bytes: &[u8], at: usize) -> bool {
    at > 0
        && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
        && bytes[at - 1] != b'b'
}

fn until(bytes: &[u8], from: usize, end: &[u8]) -> usize {
    let tail = bytes.get(from..).unwrap_or_default();
    let found = tail.windows(end.len()).position(|window| window == end);
    found.map_or(bytes.len(), |offset| from + offset)
}

fn end_of_block_comment(bytes: &[u8], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn end_of_string(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// `from` is at the `r`; without a quote behind its hashes it is a raw identifier.
fn end_of_raw_string(bytes: &[u8], from: usize) -> usize {
    let hashes = bytes[from + 1..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    if bytes.get(from + 1 + hashes) != Some(&b'"') {
        return from;
    }
    let mut end = vec![b'"'];
    end.resize(hashes + 1, b'#');
    until(bytes, from + hashes + 2, &end) + end.len()
}

// ---- Paths in code ----

/// A path that begins at the crate, `super` or `self`, written out from the crate's root.
pub(crate) struct Import {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
}

pub(crate) struct Token<'c> {
    pub(crate) line: usize,
    pub(crate) text: &'c str,
}

/// Words, `::` and single punctuation marks.
pub(crate) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for (at, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let length = if is_part(first) {
                rest.find(|c| !is_part(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            found.push(Token {
                line: at + 1,
                text: &rest[..length],
            });
            rest = rest[length..].trim_start();
        }
    }
    found
}

/// Every path of the crate's own that the file names, in `use` lines (grouped ones taken apart) and in code.
pub(crate) fn imports(source: &Source) -> Vec<Import> {
    let tokens = tokens(&source.code);
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut module = source.module();
    // Inline modules: the brace depth outside of each.
    let (mut depth, mut inline) = (0_usize, Vec::new());
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match word(at) {
            "mod" if word(at + 2) == "{" => {
                inline.push(depth);
                module.push(word(at + 1).to_owned());
            }
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if inline.last() == Some(&depth) {
                    inline.pop();
                    module.pop();
                }
            }
            "crate" | "vigil" | "super" | "self"
                if word(at + 1) == "::" && (at == 0 || word(at - 1) != "::") =>
            {
                at = tree(&tokens, at, &module, &mut found);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads the path that begins at `at`, with the groups in it, and gives the place behind it.
fn tree(tokens: &[Token<'_>], mut at: usize, prefix: &[String], found: &mut Vec<Import>) -> usize {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let line = tokens.get(at).map_or(0, |token| token.line);
    let mut path = prefix.to_vec();
    loop {
        match word(at) {
            "crate" | "vigil" => path.clear(),
            "super" => drop(path.pop()),
            "self" => {}
            "{" => {
                at += 1;
                while !matches!(word(at), "}" | "") {
                    at = tree(tokens, at, &path, found);
                    while !matches!(word(at), "," | "}" | "") {
                        at += 1;
                    }
                    at += usize::from(word(at) == ",");
                }
                return at + 1;
            }
            name => path.push(name.to_owned()),
        }
        at += 1;
        if word(at) != "::" {
            found.push(Import { line, path });
            return at;
        }
        at += 1;
    }
}

#[test]
fn grouped_and_relative_imports_are_seen() {
    let text = "use crate::{model::{Event, Commit}, storage};\nuse super::sync::Sync;\n\
                mod tests {\n use super::*;\n use super::super::protocol::Apply;\n}\n\
                // crate::api\nfn f() { let _ = \"crate::api\"; crate::watch::cut('\"'); }\n\
                fn g<'a>(x: &'a str) { r#\"crate::relay\"#; crate::config::level(x) }";
    let source = Source {
        path: "src/actors/store.rs".to_owned(),
        text: text.to_owned(),
        code: blank(text),
    };
    let seen: Vec<String> = imports(&source)
        .iter()
        .map(|import| import.path.join("::"))
        .collect();
    let expected = [
        "model::Event",
        "model::Commit",
        "storage",
        "actors::sync::Sync",
        "actors::store::*",
        "actors::protocol::Apply",
        "watch::cut",
        "config::level",
    ];
    assert_eq!(seen, expected);
}
