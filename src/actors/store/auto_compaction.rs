//! Compaction that nobody asks for: when, and up to which revision, by etcd's rules.
//!
//! The rule knows no clock: it is told when an interval has passed. It never asks for a compaction of what a client may still
//! want by the retention that was chosen.

use super::Store;
use crate::actors::limits::AutoCompaction;
use crate::actors::protocol::OrderError;
use crate::model::{Refusal, Revision};
use actix::prelude::*;
use std::collections::VecDeque;
use std::time::Duration;

/// How often compaction by revision looks.
const REVISIONS_INTERVAL: Duration = Duration::from_mins(5);
/// The longest time between two periodic compactions.
const PERIOD_MAX: Duration = Duration::from_hours(1);
/// How many samples are taken in that time, or in a shorter period.
const SAMPLES_PER_PERIOD: u32 = 10;
/// The shortest time between two samples.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// An interval has passed.
#[derive(Message)]
#[rtype(result = "()")]
struct AutoCompactionTick;

/// What was seen of revisions, and what has been compacted.
#[derive(Debug)]
pub(crate) struct AutoCompactor {
    mode: AutoCompaction,
    /// The revision at the beginning of each interval, of as many as the period has and one more.
    samples: VecDeque<Revision>,
    /// Up to where it was compacted last.
    last: Option<Revision>,
    /// Intervals since then, or since the start.
    passed: u32,
}

impl AutoCompactor {
    /// A rule that has seen nothing.
    pub(crate) fn new(mode: AutoCompaction) -> Self {
        Self {
            mode,
            samples: VecDeque::new(),
            last: None,
            passed: 0,
        }
    }

    /// How long an interval is; nothing when there is nothing to do, ever.
    fn interval(&self) -> Option<Duration> {
        match self.mode {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(period) => {
                let interval = period.min(PERIOD_MAX) / SAMPLES_PER_PERIOD;
                Some(interval.max(INTERVAL_MIN))
            }
            AutoCompaction::Revisions(_) => Some(REVISIONS_INTERVAL),
        }
    }

    /// An interval begins, and the store is at this revision.
    fn begin(&mut self, current: Revision) {
        self.samples.push_back(current);
        if self.samples.len() > self.intervals_per_period() as usize + 1 {
            self.samples.pop_front();
        }
    }

    /// An interval has passed; answers up to where to compact now.
    fn end(&mut self, current: Revision) -> Option<Revision> {
        self.passed = self.passed.saturating_add(1);
        let revision = match self.mode {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(_) => {
                // The first time the whole period has to pass; later an hour of it is enough.
                let waited = match self.last {
                    None => self.intervals_per_period(),
                    Some(_) => self.intervals_per_period().min(SAMPLES_PER_PERIOD),
                };
                let oldest = self.samples.front().copied();
                oldest.filter(|_| self.passed >= waited)
            }
            AutoCompaction::Revisions(kept) => {
                let revision = Revision(current.0.saturating_sub(kept));
                Some(revision).filter(|revision| revision.0 > 0)
            }
        };
        revision.filter(|revision| self.last != Some(*revision))
    }

    /// It was compacted up to here, or had been already.
    fn compacted(&mut self, revision: Revision) {
        self.last = Some(revision);
        self.passed = 0;
    }

    fn intervals_per_period(&self) -> u32 {
        let (AutoCompaction::Periodic(period), Some(interval)) = (self.mode, self.interval())
        else {
            return 0;
        };
        let intervals = period.as_nanos().div_ceil(interval.as_nanos().max(1));
        u32::try_from(intervals).unwrap_or(u32::MAX)
    }
}

impl Store {
    /// Begins the next interval, if there is anything to do by itself.
    pub(super) fn schedule_auto_compaction(&mut self, ctx: &Context<Self>) {
        let Some(interval) = self.auto_compactor.interval() else {
            return;
        };
        self.auto_compactor.begin(self.shared.ring.head());
        Self::remind(AutoCompactionTick, interval, ctx);
    }
}

impl Handler<AutoCompactionTick> for Store {
    type Result = ();

    fn handle(&mut self, _tick: AutoCompactionTick, ctx: &mut Self::Context) {
        if self.writer.is_none() {
            return;
        }
        if let Some(revision) = self.auto_compactor.end(self.shared.ring.head()) {
            match self.compact(revision) {
                Ok(_) => {
                    log::info!("compacting by itself up to revision {revision}");
                    self.auto_compactor.compacted(revision);
                    self.schedule_compaction(ctx);
                }
                Err(OrderError::Refused(Refusal::Compacted { .. })) => {
                    self.auto_compactor.compacted(revision);
                }
                Err(error) => log::warn!("no compaction up to revision {revision}: {error}"),
            }
        }
        self.schedule_auto_compaction(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Up to where it compacts at the end of each interval, while every interval writes one revision.
    fn asked(mode: AutoCompaction, intervals: i64) -> Vec<(i64, i64)> {
        let mut rule = AutoCompactor::new(mode);
        let mut asked = Vec::new();
        for interval in 1..=intervals {
            rule.begin(Revision(interval));
            if let Some(revision) = rule.end(Revision(interval + 1)) {
                rule.compacted(revision);
                asked.push((interval, revision.0));
            }
        }
        asked
    }

    #[test]
    fn a_period_of_less_than_an_hour_is_compacted_once_a_period() {
        let mode = AutoCompaction::Periodic(Duration::from_mins(5));
        let rule = AutoCompactor::new(mode);
        assert_eq!(rule.interval(), Some(Duration::from_secs(30)));
        // What was there when the period began, then what was there eleven samples ago.
        assert_eq!(asked(mode, 30), [(10, 1), (20, 10), (30, 20)]);
    }

    #[test]
    fn a_period_of_more_than_an_hour_is_compacted_each_hour_once_it_has_passed() {
        let mode = AutoCompaction::Periodic(Duration::from_hours(3));
        let rule = AutoCompactor::new(mode);
        assert_eq!(rule.interval(), Some(Duration::from_mins(6)));
        assert_eq!(asked(mode, 50), [(30, 1), (40, 10), (50, 20)]);
    }

    #[test]
    fn so_many_revisions_are_kept() {
        let mode = AutoCompaction::Revisions(3);
        assert_eq!(
            AutoCompactor::new(mode).interval(),
            Some(REVISIONS_INTERVAL)
        );
        assert_eq!(asked(mode, 5), [(3, 1), (4, 2), (5, 3)]);
    }

    #[test]
    fn nothing_is_asked_for_twice_and_what_failed_is_asked_for_again() {
        let mut rule = AutoCompactor::new(AutoCompaction::Revisions(1));
        assert_eq!(rule.end(Revision(5)), Some(Revision(4)));
        assert_eq!(rule.end(Revision(5)), Some(Revision(4)), "it was not done");
        rule.compacted(Revision(4));
        assert_eq!(rule.end(Revision(5)), None);
        assert_eq!(rule.end(Revision(6)), Some(Revision(5)));
        assert_eq!(AutoCompactor::new(AutoCompaction::Off).interval(), None);
    }
}
