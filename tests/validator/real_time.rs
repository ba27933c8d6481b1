//! Real time: whatever was seen before a request was sent has happened before it, also across a restart.
//!
//! It looks at revisions alone, never at keys or values.

use super::calls::{Call, Calls};
use super::history::Compaction;
use super::record::{Line, Outcome, Request};
use super::verdict::{Property, Verdict};
use std::collections::BTreeMap;

/// What had been seen when a request was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Floor {
    /// The newest revision.
    pub(crate) seen: i64,
    /// The newest revision that was seen before the last restart; 0 when there was none.
    before_restart: i64,
    /// The newest revision that the request can have made: a restart, or a moment in which nothing was under way, came
    /// before all that are newer.
    pub(crate) newest: i64,
}

/// Checks every outcome, and gives the floor of every call.
pub(crate) fn check(lines: &[Line], calls: &Calls<'_>, verdict: &mut Verdict) -> Vec<Floor> {
    let compactions = calls.compactions();
    let mut floor = Floor {
        seen: 1,
        before_restart: 0,
        newest: i64::MAX,
    };
    let mut floors = vec![floor; calls.all.len()];
    let newest = newest_of_calls(lines, calls);
    for (at, line) in lines.iter().enumerate() {
        let index = calls.by_line.get(&at).copied();
        match line {
            Line::Call { .. } => {
                if let Some(of_call) = index.and_then(|index| floors.get_mut(index)) {
                    *of_call = floor;
                    of_call.newest = newest.get(&at).copied().unwrap_or(i64::MAX);
                }
            }
            Line::Return { outcome, .. } => {
                let Some(index) = index else { continue };
                let (Some(call), Some(before)) = (calls.all.get(index), floors.get(index)) else {
                    continue;
                };
                outcome_fits(call, *before, &compactions, verdict);
                if let Outcome::Done { revision, .. } = outcome
                    && *revision <= calls.limit
                {
                    floor.seen = floor.seen.max(*revision);
                }
            }
            Line::Told { response, .. } => floor.seen = floor.seen.max(calls.newest(response)),
            Line::Restart => floor.before_restart = floor.seen,
            _ => {}
        }
    }
    floors
}

/// What each call can have made at most, by its line: no more than whoever asked behind the next barrier was told of.
fn newest_of_calls(lines: &[Line], calls: &Calls<'_>) -> BTreeMap<usize, i64> {
    let (mut behind, mut of_part) = (i64::MAX, i64::MAX);
    let mut newest = BTreeMap::new();
    for (at, line) in lines.iter().enumerate().rev() {
        match line {
            Line::Return {
                outcome: Outcome::Done { revision, .. },
                ..
            } => {
                let call = calls
                    .by_line
                    .get(&at)
                    .and_then(|index| calls.all.get(*index));
                if call.is_some_and(may_be_old) {
                    continue;
                }
                let made = call.is_some_and(|call| call.made().is_some());
                of_part = of_part.min(revision - i64::from(made));
            }
            Line::Restart | Line::Quiet => behind = behind.min(of_part),
            // It happens when its time has come, whoever asked for something else before.
            Line::Call {
                request: Request::LeaseEnd { .. },
                ..
            } => {}
            Line::Call { .. } => {
                newest.insert(at, behind);
            }
            _ => {}
        }
    }
    newest
}

/// True for an answer of which nobody is promised that it is of now.
fn may_be_old(call: &Call<'_>) -> bool {
    matches!(call.request, Request::Stale { .. })
}

fn outcome_fits(call: &Call<'_>, floor: Floor, compactions: &[Compaction], verdict: &mut Verdict) {
    let Some((at, outcome)) = call.returned else {
        return;
    };
    match outcome {
        // What it has to be is said by its own revision alone.
        Outcome::Done { .. } if may_be_old(call) => {}
        Outcome::Done { revision, .. } => {
            let least = |seen: i64| seen + i64::from(call.made().is_some());
            let is_durable = *revision >= least(floor.before_restart);
            if floor.before_restart > 0 {
                verdict.hold(Property::Durable, is_durable, at, || {
                    let seen = floor.before_restart;
                    format!("revision {revision}, and {seen} was seen before the restart")
                });
            }
            let is_later = !is_durable || *revision >= least(floor.seen);
            verdict.hold(Property::Sequential, is_later, at, || {
                let seen = floor.seen;
                format!("revision {revision}, and {seen} was seen before the request")
            });
            done_is_legal(call, *revision, compactions, verdict);
        }
        Outcome::Compacted => {
            let wanted = match call.request {
                Request::Range { revision, .. } => *revision,
                // Compacting where it was compacted already is refused too.
                Request::Compact { revision } => *revision - 1,
                _ => return,
            };
            let is_due = |it: &Compaction| it.revision > wanted && it.called < at;
            let is_due = compactions.iter().any(is_due);
            verdict.hold(Property::Sequential, is_due, at, || {
                format!("nobody has compacted {wanted}")
            });
        }
        Outcome::Future => {
            let (Request::Range { revision, .. } | Request::Compact { revision }) = call.request
            else {
                return;
            };
            verdict.hold(Property::Sequential, *revision > floor.seen, at, || {
                format!("{revision} is said to be in the future, and was seen")
            });
        }
        Outcome::Refused { .. } | Outcome::Unknown { .. } => {}
    }
}

/// What was read or compacted is there to be read or compacted.
fn done_is_legal(call: &Call<'_>, header: i64, compactions: &[Compaction], verdict: &mut Verdict) {
    let (at, wanted) = match (call.returned, call.request) {
        (Some((at, _)), Request::Range { revision, .. }) => (at, *revision),
        (Some((at, _)), Request::Compact { revision }) => (at, *revision - 1),
        _ => return,
    };
    if wanted <= 0 {
        return;
    }
    verdict.hold(Property::Sequential, wanted <= header, at, || {
        format!("{wanted} was read at revision {header}")
    });
    let before = |it: &Compaction| it.done.is_some_and(|done| done < call.called);
    let gone = compactions
        .iter()
        .find(|it| it.revision > wanted && before(it));
    verdict.hold(Property::Sequential, gone.is_none(), at, || {
        format!("{wanted} was read, and it is compacted: {gone:?}")
    });
}
