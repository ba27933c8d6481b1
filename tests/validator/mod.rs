//! Decides from a record of what clients saw, and from nothing else, whether a server kept its promises.
//!
//! It knows the protocol and no code of any server: its own types, its own replay, its own idea of a range. It is one
//! library for the simulation, for the integration tests and for records in files, and never waits or asks for anything.
#![allow(dead_code, reason = "each of its users needs a part of it")]

pub(crate) mod answers;
mod calls;
pub(crate) mod history;
mod keys;
mod real_time;
pub(crate) mod record;
mod sequence;
mod text;
pub(crate) mod verdict;
pub(crate) mod watch;

use calls::Calls;
use record::{Line, Outcome, Server};
use sequence::Replay;
use std::collections::BTreeMap;
use verdict::{Property, Verdict};
use watch::StreamCheck;

/// How many histories that fit all answers are held against the watches, when the first does not fit them.
const ATTEMPTS_MAX: usize = 1000;
/// The attempts in lines, so that the verdict over a long record with a true fault comes soon.
const LINES_MAX: usize = 10_000_000;

/// Judges a whole record, which begins with an empty store.
pub(crate) fn judge(lines: &[Line]) -> Verdict {
    let mut verdict = Verdict::default();
    let server = if let Some(Line::Begin { server }) = lines.first() {
        *server
    } else {
        let what = "a record begins with `begin`".to_owned();
        verdict.fault(Property::Protocol, 0, what);
        Server::Vigil
    };
    let calls = Calls::of(lines, &mut verdict);
    let floors = real_time::check(lines, &calls, &mut verdict);
    let mut replay = Replay::new(&calls, &floors);
    let mut best: Option<Verdict> = None;
    for _ in 0..ATTEMPTS_MAX.min(1 + LINES_MAX / lines.len().max(1)) {
        let mut attempt = verdict.clone();
        replay.run(&mut attempt);
        watches(server, lines, &replay.history, &mut attempt);
        let faults = attempt.faults.len();
        if best.as_ref().is_none_or(|best| faults < best.faults.len()) {
            best = Some(attempt);
        }
        // Watches may know better which request it was whose outcome nobody knows.
        if faults == 0 || !replay.take_back() {
            break;
        }
    }
    best.unwrap_or(verdict)
}

/// The history that the requests of a record have made.
pub(crate) fn history_of(lines: &[Line]) -> history::History {
    let mut verdict = Verdict::default();
    let calls = Calls::of(lines, &mut verdict);
    let floors = real_time::check(lines, &calls, &mut verdict);
    let mut replay = Replay::new(&calls, &floors);
    replay.run(&mut verdict);
    replay.history
}

/// Holds every stream against the history.
fn watches(server: Server, lines: &[Line], history: &history::History, verdict: &mut Verdict) {
    let mut streams: BTreeMap<u64, StreamCheck<'_>> = BTreeMap::new();
    let new = || StreamCheck::new(server, history);
    // The newest revision that a request was answered with.
    let mut answered = 1;
    let mut trouble = false;
    for (at, line) in lines.iter().enumerate() {
        match line {
            Line::Ask { stream, ask } => {
                let stream = streams.entry(*stream).or_insert_with(new);
                stream.asked(ask, answered);
            }
            Line::Told { stream, response } => {
                let stream = streams.entry(*stream).or_insert_with(new);
                stream.told(at, response, verdict);
            }
            Line::Ended { stream } => {
                if let Some(stream) = streams.remove(stream) {
                    stream.finish(verdict);
                }
            }
            Line::Broken { stream, why } => {
                verdict.hold(Property::Protocol, trouble, at, || {
                    format!("stream {stream} was ended, and nothing explains it: {why}")
                });
                if let Some(stream) = streams.remove(stream) {
                    stream.finish(verdict);
                }
            }
            Line::Trouble => trouble = true,
            Line::Restart => {
                trouble = false;
                for stream in std::mem::take(&mut streams).into_values() {
                    stream.finish(verdict);
                }
            }
            Line::Quiet => {
                trouble = false;
                for stream in streams.values_mut() {
                    stream.complete(at, history.last_called_before(at), verdict);
                }
            }
            Line::Return {
                outcome: Outcome::Done { revision, .. },
                ..
            } => answered = answered.max(*revision),
            Line::Begin { .. } | Line::Call { .. } | Line::Return { .. } => {}
        }
    }
    for stream in streams.into_values() {
        stream.finish(verdict);
    }
}
