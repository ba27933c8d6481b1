//! The requests of a record, each with its outcome, and which of them made which revision.
//!
//! It sorts and counts; what follows from it is decided elsewhere.

use super::answers::{changed, writes};
use super::history::Compaction;
use super::record::{Kind, Kv, Line, Outcome, Request, Response};
use super::verdict::{Property, Verdict};
use std::collections::{BTreeMap, HashMap};

/// A request.
#[derive(Debug)]
pub(crate) struct Call<'l> {
    /// The line of the request.
    pub(crate) called: usize,
    pub(crate) request: &'l Request,
    /// The line of the outcome and what it was; nothing when nobody learnt it.
    pub(crate) returned: Option<(usize, &'l Outcome)>,
}

impl Call<'_> {
    /// The revision that it made, when its answer says that it made one.
    pub(crate) fn made(&self) -> Option<i64> {
        match self.returned {
            Some((_, Outcome::Done { revision, answer })) if changed(answer) => Some(*revision),
            _ => None,
        }
    }

    /// True when nobody knows whether it changed anything, or when.
    pub(crate) fn may_have_written(&self) -> bool {
        match self.returned {
            None | Some((_, Outcome::Unknown { .. })) => writes(self.request),
            // That a lease is over does not say whether it had keys, nor since when.
            Some((_, Outcome::Done { .. })) => matches!(self.request, Request::LeaseEnd { .. }),
            Some(_) => false,
        }
    }

    /// The revision at which it was over, as far as anybody was told.
    pub(crate) fn over_by(&self) -> i64 {
        match self.returned {
            Some((_, Outcome::Done { revision, .. })) => *revision,
            _ => i64::MAX,
        }
    }
}

/// All requests of a record.
#[derive(Debug)]
pub(crate) struct Calls<'l> {
    /// In the order in which they were sent.
    pub(crate) all: Vec<Call<'l>>,
    /// By the number of the line that sent them.
    pub(crate) by_line: HashMap<usize, usize>,
    /// Who made a revision.
    pub(crate) made: BTreeMap<i64, usize>,
    /// The last revision that anybody has seen.
    pub(crate) last: i64,
    /// No revision can be beyond this one.
    pub(crate) limit: i64,
    /// What watches saw of the revisions that no answer accounts for.
    pub(crate) evidence: BTreeMap<i64, Vec<(Kind, &'l Kv)>>,
}

impl<'l> Calls<'l> {
    /// The requests of a record.
    pub(crate) fn of(lines: &'l [Line], verdict: &mut Verdict) -> Self {
        let mut calls = Self {
            all: Vec::new(),
            by_line: HashMap::new(),
            made: BTreeMap::new(),
            last: 1,
            limit: 1,
            evidence: BTreeMap::new(),
        };
        let mut numbers = HashMap::new();
        for (at, line) in lines.iter().enumerate() {
            match line {
                Line::Call { call, request } => {
                    numbers.insert(*call, calls.all.len());
                    calls.by_line.insert(at, calls.all.len());
                    calls.limit += i64::from(writes(request));
                    calls.all.push(Call {
                        called: at,
                        request,
                        returned: None,
                    });
                }
                Line::Return { call, outcome } => {
                    let index = numbers.remove(call);
                    let asked = index.and_then(|index| calls.all.get_mut(index));
                    let Some((index, asked)) = index.zip(asked) else {
                        let what = format!("an answer to call {call}, which was not asked");
                        verdict.fault(Property::Sequential, at, what);
                        continue;
                    };
                    asked.returned = Some((at, outcome));
                    calls.by_line.insert(at, index);
                }
                _ => {}
            }
        }
        calls.who_made_what(verdict);
        calls.look_at_watches(lines);
        calls
    }

    fn who_made_what(&mut self, verdict: &mut Verdict) {
        for (index, call) in self.all.iter().enumerate() {
            let Some((at, Outcome::Done { revision, .. })) = call.returned else {
                continue;
            };
            verdict.calls += 1;
            if *revision > self.limit || *revision < 1 {
                let what = format!("there cannot be a revision {revision} yet");
                verdict.fault(Property::Sequential, at, what);
                continue;
            }
            self.last = self.last.max(*revision);
            if call.made().is_some() && self.made.insert(*revision, index).is_some() {
                let what = format!("revision {revision} was given to two requests");
                verdict.fault(Property::Sequential, at, what);
            }
        }
    }

    fn look_at_watches(&mut self, lines: &'l [Line]) {
        let responses = lines.iter().filter_map(|line| match line {
            Line::Told { response, .. } => Some(response),
            _ => None,
        });
        for response in responses {
            self.last = self.last.max(self.newest(response));
            for event in &response.events {
                self.has_seen(event.kind, &event.kv);
                if let Some(prev_kv) = &event.prev_kv {
                    self.has_seen(Kind::Put, prev_kv);
                }
            }
        }
    }

    /// A watch has seen this version of a key.
    fn has_seen(&mut self, kind: Kind, kv: &'l Kv) {
        let revision = kv.mod_revision;
        if revision > 1 && revision <= self.limit && !self.made.contains_key(&revision) {
            let seen = self.evidence.entry(revision).or_default();
            if !seen.contains(&(kind, kv)) {
                seen.push((kind, kv));
            }
        }
    }

    /// The newest revision that a response tells of, as far as there can be one.
    pub(crate) fn newest(&self, response: &Response) -> i64 {
        let events = response.events.iter().map(|event| event.kv.mod_revision);
        let all = events.chain(response.revision);
        all.filter(|it| *it <= self.limit).max().unwrap_or_default()
    }

    /// Every compaction that may have been carried out.
    pub(crate) fn compactions(&self) -> Vec<Compaction> {
        let compaction = |call: &Call<'_>| {
            let Request::Compact { revision } = call.request else {
                return None;
            };
            let done = match call.returned {
                None | Some((_, Outcome::Unknown { .. })) => None,
                Some((at, Outcome::Done { .. })) => Some(at),
                Some(_) => return None,
            };
            let (revision, called) = (*revision, call.called);
            Some(Compaction {
                revision,
                called,
                done,
            })
        };
        self.all.iter().filter_map(compaction).collect()
    }
}
