//! What a stretch of zeros over the commit log of a killed store can have cost: no store can tell it from an end that was never
//! written.
//!
//! It finds the values that clients put in the bytes of the log, and asks neither the store nor its format what they are.

use super::check::Known;
use super::load::value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const FILES: [&str; 2] = ["commit.0.log", "commit.1.log"];
/// A value that is shorter may stand there by chance.
const SOUGHT_BYTES: usize = 16;

/// Up to where everything that was acknowledged is there for certain, when the file `name` of the log in `dir`, which is as
/// it was, is zeros from `from` on.
///
/// The generation that a file holds begins where the file does, and its values ascend; behind its end stand those of an
/// older one. Zeros in the generation that is not the last are seen, and cost nothing.
pub(super) fn certain(known: &Known, dir: &Path, name: &str, from: u64) -> i64 {
    let sought = sought(known);
    let other = FILES.iter().find(|other| **other != name);
    let here = generation(&sought, &dir.join(name));
    let there = generation(&sought, &dir.join(other.expect("the other file")));
    let newest_there = there.last().map_or(0, |(_, revision)| *revision);
    let newest_here = here.last().map_or(0, |(_, revision)| *revision);
    let safe = here.iter().take_while(|(at, _)| *at < from).last();
    let safe = safe.map_or(0, |(_, revision)| *revision);
    let through = if newest_here < newest_there {
        // What is newer than the other's newest may still be here, without a value that can be found.
        newest_there
    } else {
        safe.max(newest_there)
    };
    // The group of that revision may go on into the zeros.
    known.acknowledged_below(through)
}

/// How each value that was acknowledged begins, with its revision.
fn sought(known: &Known) -> BTreeMap<[u8; SOUGHT_BYTES], i64> {
    let puts = known.acknowledged_puts();
    let sought = puts.filter(|(_, _, bytes)| *bytes >= SOUGHT_BYTES);
    sought
        .map(|(revision, sub, _)| {
            let value = value(revision, sub, SOUGHT_BYTES);
            let begin = value[..SOUGHT_BYTES].try_into().expect("its beginning");
            (begin, revision)
        })
        .collect()
}

/// The places and revisions of the values of the generation that a file begins with.
fn generation(sought: &BTreeMap<[u8; SOUGHT_BYTES], i64>, path: &Path) -> Vec<(u64, i64)> {
    let content = fs::read(path).expect("a file of the log");
    // Most places are passed over by their first two bytes.
    let first = |bytes: &[u8]| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
    let mut may_begin = vec![false; 1 << 16];
    for begin in sought.keys() {
        may_begin[first(begin)] = true;
    }
    let mut found: Vec<(u64, i64)> = Vec::new();
    let windows = content.windows(SOUGHT_BYTES).zip(0..);
    for (window, at) in windows.filter(|(window, _)| may_begin[first(window)]) {
        let Some(revision) = sought.get(window) else {
            continue;
        };
        if found.last().is_some_and(|(_, before)| before > revision) {
            break;
        }
        found.push((at, *revision));
    }
    found
}
