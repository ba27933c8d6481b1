//! One sequential history: the requests are replayed by their revisions, and every answer has to be what the replay says.
//!
//! A revision that no answer accounts for was made by a request whose outcome nobody knows; which one is tried out, with
//! what watches saw of it as evidence. Nothing here looks at the order of watch responses.

use super::answers::{Run, read};
use super::calls::{Call, Calls};
use super::history::History;
use super::keys::Keys;
use super::real_time::Floor;
use super::record::{Kind, Kv, Outcome, Request};
use super::verdict::{Property, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// How often another choice is tried before the faults of the last one count.
const RETRIES_MAX: usize = 10_000;

/// A revision that one of several requests may have made.
#[derive(Debug)]
struct Choice {
    revision: i64,
    chosen: usize,
    /// Who else may have made it; the next to try is the last.
    others: Vec<usize>,
}

/// A replay of all requests.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    calls: &'a Calls<'a>,
    floors: &'a [Floor],
    keys: Keys,
    pub(crate) history: History,
    /// The next revision to replay.
    revision: i64,
    /// What did not fit, by revision.
    misfits: Vec<(i64, Misfit)>,
    /// Answers that changed nothing, by the revision of the state that they describe.
    reads: BTreeMap<i64, Vec<&'a Call<'a>>>,
    /// Requests that nobody knows the outcome of.
    unknown: BTreeSet<usize>,
    choices: Vec<Choice>,
    /// What was decided when a choice was taken back.
    next: Option<usize>,
    retries: usize,
}

/// What does not fit, and where that was answered.
type Misfit = (usize, String);

impl<'a> Replay<'a> {
    pub(crate) fn new(calls: &'a Calls<'a>, floors: &'a [Floor]) -> Self {
        let mut reads: BTreeMap<i64, Vec<&Call<'_>>> = BTreeMap::new();
        for call in &calls.all {
            if let Some((_, Outcome::Done { revision, .. })) = call.returned
                && call.made().is_none()
            {
                let state = match call.request {
                    Request::Range { revision: old, .. } if *old > 0 => *old,
                    _ => *revision,
                };
                reads.entry(state).or_default().push(call);
            }
        }
        let unknown = calls.all.iter().enumerate();
        let unknown = unknown.filter(|(_, call)| call.may_have_written());
        let history = History::new(calls.compactions());
        Self {
            calls,
            floors,
            keys: Keys::default(),
            history,
            revision: 1,
            misfits: Vec::new(),
            reads,
            unknown: unknown.map(|(index, _)| index).collect(),
            choices: Vec::new(),
            next: None,
            retries: 0,
        }
    }

    /// Replays all that is left, and notes what does not fit.
    pub(crate) fn run(&mut self, verdict: &mut Verdict) {
        while self.revision <= self.calls.last {
            let revision = self.revision;
            let misfits = self.step(revision, verdict);
            if !misfits.is_empty() && self.take_back() {
                continue;
            }
            let at_revision = misfits.into_iter().map(|misfit| (revision, misfit));
            self.misfits.extend(at_revision);
            self.revision += 1;
        }
        for (_, (line, what)) in &self.misfits {
            verdict.fault(Property::Sequential, *line, what.clone());
        }
    }

    /// Carries out what made a revision, and checks what was answered of it.
    fn step(&mut self, revision: i64, verdict: &mut Verdict) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        if revision > 1 {
            match self.maker(revision) {
                None => {
                    let line = self.seen_at(revision);
                    misfits.push((line, format!("revision {revision} was made by nobody")));
                    self.history.push(line, Vec::new());
                }
                Some(call) => {
                    verdict.check(Property::Sequential);
                    misfits.extend(self.make(revision, call));
                }
            }
        }
        for call in self.reads.get(&revision).cloned().unwrap_or_default() {
            verdict.check(Property::Sequential);
            misfits.extend(self.read(revision, call));
        }
        misfits
    }

    /// Who made a revision.
    fn maker(&mut self, revision: i64) -> Option<&'a Call<'a>> {
        let calls = self.calls;
        if let Some(index) = calls.made.get(&revision) {
            return calls.all.get(*index);
        }
        let chosen = if let Some(chosen) = self.next.take() {
            chosen
        } else {
            let mut others = self.candidates(revision);
            let chosen = others.pop()?;
            self.choices.push(Choice {
                revision,
                chosen,
                others,
            });
            chosen
        };
        self.unknown.remove(&chosen);
        calls.all.get(chosen)
    }

    /// Who may have made a revision that no answer accounts for; the likeliest, which was sent first, comes last.
    fn candidates(&mut self, revision: i64) -> Vec<usize> {
        let unknown: Vec<usize> = self.unknown.iter().rev().copied().collect();
        let fits = |index: &usize| {
            let floor = self.floors.get(*index).copied().unwrap_or_default();
            let Some(call) = self.calls.all.get(*index) else {
                return false;
            };
            if floor.seen >= revision || revision > floor.newest.min(call.over_by()) {
                return false;
            }
            let mut run = Run::at(&mut self.keys, revision);
            run.request(call.request);
            let events = run.events;
            self.keys.take_back(revision - 1);
            let seen = self.calls.evidence.get(&revision);
            let shows = |(kind, kv): &(Kind, &Kv)| {
                let mut events = events.iter();
                events.any(|it| it.kind == *kind && it.kv == **kv)
            };
            !events.is_empty() && seen.is_none_or(|seen| seen.iter().all(shows))
        };
        unknown.into_iter().filter(fits).collect()
    }

    /// Where a revision was seen first.
    fn seen_at(&self, revision: i64) -> usize {
        let returned = self
            .calls
            .all
            .iter()
            .filter_map(|call| match call.returned {
                Some((at, Outcome::Done { revision: seen, .. })) if *seen >= revision => Some(at),
                _ => None,
            });
        returned.min().unwrap_or_default()
    }

    fn make(&mut self, revision: i64, call: &Call<'_>) -> Option<Misfit> {
        let mut run = Run::at(&mut self.keys, revision);
        let wanted = run.request(call.request);
        self.history.push(call.called, run.events);
        match call.returned {
            Some((at, Outcome::Done { answer, .. })) if *answer != wanted => {
                let what =
                    format!("revision {revision}: answered {answer:?}, and it is {wanted:?}");
                Some((at, what))
            }
            _ => None,
        }
    }

    /// Checks an answer that changed nothing.
    fn read(&mut self, revision: i64, call: &Call<'_>) -> Option<Misfit> {
        let (at, Outcome::Done { answer, .. }) = call.returned? else {
            return None;
        };
        let wanted = match call.request {
            Request::Compact { .. } => return None,
            Request::LeaseEnd { lease } => {
                let left = self.keys.of_lease(*lease, revision);
                let what = || format!("lease {lease} is over at {revision}, and it has {left:?}");
                return (!left.is_empty()).then(|| (at, what()));
            }
            Request::Range { .. } => read(&self.keys, call.request, revision),
            Request::Stale { read: asked } => read(&self.keys, asked, revision),
            Request::Put { .. } | Request::Delete { .. } | Request::Txn { .. } => {
                let mut run = Run::at(&mut self.keys, revision + 1);
                let wanted = run.request(call.request);
                if !run.events.is_empty() {
                    self.keys.take_back(revision);
                }
                wanted
            }
        };
        let what = || format!("at {revision}: answered {answer:?}, and it is {wanted:?}");
        (*answer != wanted).then(|| (at, what()))
    }

    /// Goes back to the last choice that can be made otherwise, and makes it; false when there is none.
    pub(crate) fn take_back(&mut self) -> bool {
        let open = |choice: &Choice| !choice.others.is_empty();
        if self.retries == RETRIES_MAX || !self.choices.iter().any(open) {
            return false;
        }
        self.retries += 1;
        while let Some(mut choice) = self.choices.pop() {
            self.unknown.insert(choice.chosen);
            let Some(next) = choice.others.pop() else {
                continue;
            };
            let last = choice.revision - 1;
            self.keys.take_back(last);
            self.history.truncate(last);
            choice.chosen = next;
            self.next = Some(next);
            self.revision = choice.revision;
            self.misfits.retain(|(at, _)| *at <= last);
            self.choices.push(choice);
            return true;
        }
        false
    }
}
