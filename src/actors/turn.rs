//! One turn of a group: what a stretch of the ring means for the entries of the roster, delivered in slices, and for one
//! that comes back.
//!
//! A turn delivers to each entry once. Whoever cannot take it, or may not be given it now, leaves the roster with the
//! reason; where it goes from there is the group's business.

use super::delivery::Sent;
use super::hooks::{self, Met};
use super::stream::Link;
use super::supervision::Worker;
use crate::fault::{self, Fault};
use crate::model::Revision;
use crate::watch::{Batch, Entry, Match, Owed, RingRead, Roster, Visit, cut, select};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The deliveries of one stretch of the ring.
#[derive(Debug)]
pub(crate) struct Turn {
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
pub(crate) enum Leaving {
    /// Its mailbox is full, and this is what it is owed.
    Stalled(Owed),
    /// What it wants is not all in the ring.
    Lagging,
    /// Its stream is held, so that pending progress can be answered (P2).
    Held,
    /// Its watcher is gone.
    Gone,
}

impl Turn {
    /// The turn that takes a group from `before` to `after`.
    pub(crate) fn new(before: Revision, after: Revision, matches: Vec<Match>) -> Self {
        Self {
            before,
            after,
            matches: matches.into(),
            cursor: 0,
        }
    }

    /// Where the group stands when everything has been delivered; nothing before that.
    pub(crate) fn end(&self) -> Option<Revision> {
        self.matches.is_empty().then_some(self.after)
    }

    /// Delivers to so many entries, and returns those that leave the roster.
    pub(crate) fn deliver_slice(
        &mut self,
        roster: &mut Roster<Link>,
        entries_max: usize,
    ) -> Vec<(Entry<Link>, Leaving)> {
        let mut budget = entries_max.max(1);
        let mut leaving = Vec::new();
        while budget > 0 {
            let Some(matched) = self.matches.front() else {
                break;
            };
            let share = roster.class_len(matched.class);
            let left = share.saturating_sub(self.cursor);
            if left == 0 {
                self.matches.pop_front();
                self.cursor = 0;
                continue;
            }
            let (before, after) = (self.before, self.after);
            let slice = budget.min(left);
            let mut reasons = Vec::new();
            let visitor =
                |entry: &mut Entry<Link>| match deliver(entry, matched, (before, after), share) {
                    None => Visit::Keep,
                    Some(reason) => {
                        reasons.push(reason);
                        Visit::Take
                    }
                };
            let taken = roster.visit(matched.class, &mut self.cursor, slice, visitor);
            budget -= slice;
            leaving.extend(taken.into_iter().zip(reasons));
        }
        leaving
    }
}

/// Delivers what a turn has for one entry; a reason when the entry has to leave the roster.
fn deliver(
    entry: &mut Entry<Link>,
    matched: &Match,
    (before, after): (Revision, Revision),
    share: usize,
) -> Option<Leaving> {
    let cursor = if fault::active(Fault::FutureStartIgnored) {
        before.next()
    } else {
        entry.cursor(before)
    };
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
        match entry.link.deliver(&batch, share) {
            Sent::Sent => {}
            Sent::Gone => return Some(Leaving::Gone),
            Sent::Full => {
                entry.next_revision = if index == last {
                    after.next()
                } else {
                    batch.last().next()
                };
                return Some(Leaving::Stalled(Owed::Events(batch.into_owned())));
            }
        }
    }
    None
}

/// Delivers what an entry lacks up to `through`, which its group has handled, from the ring; a reason when it has to go elsewhere
/// for that (L2).
pub(crate) fn deliver_through(
    worker: &Worker,
    entry: &mut Entry<Link>,
    through: Revision,
) -> Option<Leaving> {
    let Some(batches) = last_stretch(worker, entry, through) else {
        return Some(Leaving::Lagging);
    };
    entry.next_revision = through.next();
    let batch = batches.first()?;
    hooks::met(Met::LastStretch);
    match entry.link.deliver(batch, 1) {
        Sent::Sent => None,
        Sent::Full => Some(Leaving::Stalled(Owed::Events(Arc::clone(batch)))),
        Sent::Gone => Some(Leaving::Gone),
    }
}

/// What an entry lacks up to a revision, when the ring has all of it and it fits one delivery.
fn last_stretch(
    worker: &Worker,
    entry: &Entry<Link>,
    revision: Revision,
) -> Option<Vec<Arc<Batch>>> {
    let limits = worker.limits().batch;
    if entry.next_revision < worker.shared.history.compact_revision() {
        return None;
    }
    let read = worker.shared.ring.read(
        entry.next_revision.previous(),
        limits.delivery_bytes_max,
        limits.revisions_per_batch_max,
    );
    let mut commits = match read {
        RingRead::Commits(commits) => commits,
        RingRead::Quiet(_) | RingRead::Level => return Some(Vec::new()),
        RingRead::Overrun => return None,
    };
    let read_to = commits.last().map_or(revision, |last| last.revision);
    if read_to < revision {
        // Either that was too much for one delivery, or nothing has happened since.
        let next = worker.shared.ring.read_on(read_to, 0, 1);
        let next = match &next {
            RingRead::Commits(commits) => commits.first().map(|commit| commit.revision),
            RingRead::Quiet(_) | RingRead::Level => None,
            RingRead::Overrun => return None,
        };
        if next.is_some_and(|next| next <= revision) {
            return None;
        }
    }
    commits.retain(|commit| commit.revision <= revision);
    let events = select(&entry.class, &commits, entry.next_revision);
    if entry.class.prev_kv && events.iter().any(|event| event.prev().is_none()) {
        return None;
    }
    let batches = cut(events, entry.class.prev_kv, &limits);
    (batches.len() <= 1).then_some(batches)
}
