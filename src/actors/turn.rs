//! One turn of the group: what a stretch of the ring means for each entry of the roster, delivered a slice at a time.
//!
//! A turn sends a watcher one message, however many revisions it holds (W6), and finds out who cannot stay in the
//! roster. It sends them nowhere: that is the group's.

use super::delivery::Sent;
use super::stream::Link;
use crate::model::Revision;
use crate::watch::{Entry, Match, Owed, Roster, Visit};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

/// The deliveries of one stretch of the ring.
#[derive(Debug)]
pub(super) struct Turn {
    /// The revision before the turn.
    before: Revision,
    /// The revision after it.
    after: Revision,
    /// What is left to deliver.
    matches: VecDeque<Match>,
    /// How far the first of them has been visited.
    cursor: usize,
}

/// Why an entry leaves the roster in a turn.
#[derive(Debug)]
pub(super) enum Leaving {
    /// Its mailbox is full, and this is what it was to be given.
    Stalled(Owed),
    /// It needs what only history can tell.
    Lagging,
    /// Its stream is held until pending progress is answered (P2).
    Held,
    /// It is gone.
    Gone,
}

impl Turn {
    /// The turn from one revision to another, with what it delivers.
    pub(super) fn new(before: Revision, after: Revision, matches: Vec<Match>) -> Self {
        let matches = matches.into();
        Self {
            before,
            after,
            matches,
            cursor: 0,
        }
    }

    /// The revision that the group stands at when everything is delivered; `None` while there is more to deliver.
    pub(super) fn finished(&self) -> Option<Revision> {
        self.matches.is_empty().then_some(self.after)
    }

    /// Delivers to so many entries; returns those that have to leave the roster.
    pub(super) fn deliver(
        &mut self,
        roster: &mut Roster<Link>,
        entries_max: usize,
    ) -> Vec<(Entry<Link>, Leaving)> {
        let mut budget = entries_max.max(1);
        let mut leaving = Vec::new();
        while let Some(matched) = self.matches.front() {
            let members = roster.class_len(matched.class);
            let left = members.saturating_sub(self.cursor);
            if left == 0 {
                self.matches.pop_front();
                self.cursor = 0;
                continue;
            }
            if budget == 0 {
                break;
            }
            let slice = budget.min(left);
            let span = (self.before, self.after);
            let mut reasons = Vec::new();
            let taken =
                roster.visit(
                    matched.class,
                    &mut self.cursor,
                    slice,
                    |entry| match deliver_to(entry, matched, span, members) {
                        None => Visit::Keep,
                        Some(reason) => {
                            reasons.push(reason);
                            Visit::Take
                        }
                    },
                );
            budget -= slice;
            leaving.extend(taken.into_iter().zip(reasons));
        }
        leaving
    }
}

/// Delivers what a turn has for one entry; a reason when the entry has to leave the roster.
fn deliver_to(
    entry: &mut Entry<Link>,
    matched: &Match,
    (before, after): (Revision, Revision),
    sharers: usize,
) -> Option<Leaving> {
    let cursor = entry.cursor(before);
    if cursor > after {
        return None;
    }
    if entry.link.shared.stream.held.load(Ordering::Acquire) {
        return Some(Leaving::Held);
    }
    if !matched.prev_missing.is_empty() {
        return Some(Leaving::Lagging);
    }
    let last = matched.batches.len().saturating_sub(1);
    for (index, batch) in matched.batches.iter().enumerate() {
        let Some(batch) = batch.since(cursor) else {
            continue;
        };
        match entry.link.deliver(&batch, sharers) {
            Sent::Sent => {}
            Sent::Gone => return Some(Leaving::Gone),
            Sent::Full => {
                entry.next_revision = if index == last {
                    after.next()
                } else {
                    batch.last().next()
                };
                return Some(Leaving::Stalled(Owed::Events(batch)));
            }
        }
    }
    None
}
