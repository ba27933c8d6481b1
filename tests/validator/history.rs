//! The one sequence of changes that everything is held against: every event in order, with its previous value.
//!
//! It is made from requests alone. Nothing here judges.

use super::record::Event;

/// A compaction that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compaction {
    pub(crate) revision: i64,
    /// The line of the request.
    pub(crate) called: usize,
    /// The line of the answer, when it was carried out.
    pub(crate) done: Option<usize>,
}

/// Every change, by revision.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    events: Vec<Event>,
    /// For each revision from 2 on: the place of its first event, and the line of its request.
    revisions: Vec<(usize, usize)>,
    pub(crate) compactions: Vec<Compaction>,
}

impl History {
    /// No change yet, and these compactions.
    pub(crate) fn new(compactions: Vec<Compaction>) -> Self {
        Self {
            compactions,
            ..Self::default()
        }
    }

    /// The same history for responses of which nobody knows what was asked before them: as if all was.
    pub(crate) fn without_lines(mut self) -> Self {
        for (_, called) in &mut self.revisions {
            *called = 0;
        }
        for compaction in &mut self.compactions {
            compaction.called = 0;
        }
        self
    }

    /// Adds the next revision.
    pub(crate) fn push(&mut self, called: usize, events: Vec<Event>) {
        self.revisions.push((self.events.len(), called));
        self.events.extend(events);
    }

    /// Takes revisions back until `last` is the last.
    pub(crate) fn truncate(&mut self, last: i64) {
        let kept = usize::try_from(last - 1).unwrap_or_default();
        if let Some((place, _)) = self.revisions.get(kept) {
            self.events.truncate(*place);
            self.revisions.truncate(kept);
        }
    }

    /// The last revision.
    pub(crate) fn last(&self) -> i64 {
        i64::try_from(self.revisions.len()).unwrap_or(i64::MAX) + 1
    }

    /// The last revision that was asked for before a line. While nobody waits for an answer there, nothing else was made.
    pub(crate) fn last_called_before(&self, line: usize) -> i64 {
        let before = |(_, called): &(usize, usize)| *called < line;
        let made = self.revisions.iter().rposition(before);
        made.map_or(1, |at| i64::try_from(at).unwrap_or(i64::MAX) + 2)
    }

    /// The place of the first event at or after a revision.
    pub(crate) fn place_of(&self, revision: i64) -> usize {
        let at = usize::try_from(revision - 2).unwrap_or_default();
        self.revisions
            .get(at)
            .map_or(self.events.len(), |(place, _)| *place)
    }

    /// The event at a place.
    pub(crate) fn at(&self, place: usize) -> Option<&Event> {
        self.events.get(place)
    }

    /// The events of a revision, each with its place.
    pub(crate) fn of_revision(&self, revision: i64) -> impl Iterator<Item = (usize, &Event)> {
        let places = match revision {
            ..2 => 0..0,
            _ => self.place_of(revision)..self.place_of(revision.saturating_add(1)),
        };
        let events = self.events.get(places.clone()).unwrap_or_default();
        places.zip(events)
    }

    /// The line at which the change of a revision was asked for.
    pub(crate) fn called(&self, revision: i64) -> Option<usize> {
        let at = usize::try_from(revision - 2).ok()?;
        self.revisions.get(at).map(|(_, called)| *called)
    }

    /// True when what was at a revision may be compacted by the time of this line.
    pub(crate) fn may_be_compacted(&self, revision: i64, line: usize) -> bool {
        let compactions = &mut self.compactions.iter();
        compactions.any(|it| it.revision >= revision && it.called <= line)
    }
}
