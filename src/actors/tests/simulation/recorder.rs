//! The record of a simulation: every line in the order in which it happened, and a digest of all of them.
//!
//! The digest takes in what no client sees too, so that two runs of a seed are the same or are told apart.

use super::reached::{Counts, Reached};
use super::validator::record::{Line, Outcome, Request};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

/// A record that everybody of a simulation writes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorder(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<Line>,
    /// Without seeds of its own.
    digest: DefaultHasher,
    last_number: u64,
    /// Which start of the engine this is; who belongs to an earlier one writes no more.
    start: u64,
    store_failed: bool,
    reached: Counts,
}

impl Recorder {
    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.0.lock().expect("nobody panics while writing"))
    }

    /// Something was reached, so many times.
    pub(super) fn reached(&self, what: Reached, times: usize) {
        self.with(|inner| inner.reached.add(what, times as u64));
    }

    /// What was reached; the count begins anew.
    pub(super) fn take_reached(&self) -> Counts {
        self.with(|inner| std::mem::take(&mut inner.reached))
    }

    /// Writes a line.
    pub(super) fn note(&self, line: Line) {
        self.with(|inner| {
            inner.reached.add_line(&line);
            line.hash(&mut inner.digest);
            inner.lines.push(line);
        });
    }

    /// Takes something into the digest alone.
    pub(super) fn digest(&self, what: impl Hash) {
        self.with(|inner| what.hash(&mut inner.digest));
    }

    /// A number that was not given before.
    pub(super) fn number(&self) -> u64 {
        self.with(|inner| {
            inner.last_number += 1;
            inner.last_number
        })
    }

    /// A request is about to be sent; gives its number.
    pub(super) fn call(&self, request: &Request) -> u64 {
        let (call, request) = (self.number(), request.clone());
        self.note(Line::Call { call, request });
        call
    }

    /// A request was answered.
    pub(super) fn answered(&self, call: u64, outcome: Outcome) {
        if let Outcome::Unknown { .. } = outcome {
            self.with(|inner| inner.store_failed = true);
        }
        self.note(Line::Return { call, outcome });
    }

    /// True when an outcome was unknown since the engine was started.
    pub(super) fn store_failed(&self) -> bool {
        self.with(|inner| inner.store_failed)
    }

    /// Which start of the engine this is.
    pub(super) fn start(&self) -> u64 {
        self.with(|inner| inner.start)
    }

    /// The engine is started again.
    pub(super) fn restart(&self) {
        self.note(Line::Restart);
        self.with(|inner| {
            inner.start += 1;
            inner.store_failed = false;
        });
    }

    /// The lines again, for whoever reads them after a failure.
    pub(super) fn give_back(&self, lines: Vec<Line>) {
        self.with(|inner| inner.lines = lines);
    }

    /// All lines, and the digest.
    pub(super) fn finish(&self) -> (Vec<Line>, u64) {
        self.with(|inner| (std::mem::take(&mut inner.lines), inner.digest.finish()))
    }
}
