//! What to read next for the late watchers: one stretch for many, or a few revisions for one class.
//!
//! A plan reads nothing and hands out nothing. What it settles by the key index alone, that a class has nothing to read,
//! it settles at once.

use super::CatchUp;
use crate::model::{KeyRange, Revision, WatchClass};
use crate::watch::class_table::ClassId;
use crate::watch::slot_table::Slot;
use crate::watch::waiting::{Target, Wait};
use std::ops::Range;
use std::sync::Arc;

/// Every so many plans serve the oldest stretch instead of the most wanted, so that a crowd near the head, always
/// renewed, cannot keep one old watcher waiting for ever.
const PLANS_PER_OLDEST: u64 = 4;
/// While a stretch has at most so many classes for each stretch up to the head, the key index is asked for each of them;
/// with more of them, reading all the stretches is the cheaper answer to all the questions.
const CLASSES_PER_STRETCH_MAX: usize = 8;
/// Where the whole gap is dense for a class, so many stretches are asked for alone: a key that changed ten thousand times
/// in ten million revisions is still narrow.
const STRETCHES_PER_QUESTION: usize = 64;
/// A class that is dense even so is not asked for again for so many stretches.
const STRETCHES_PER_DENSITY: usize = 8;

/// One revision that is looked up costs as much as so many that are read in a row: its block is read for it alone.
const LOOK_UP_IN_REVISIONS: usize = 16;
/// A class that is narrow among many of its like is not asked for again for this part of the gap.
const GAP_PER_CROWDED: i64 = 4;

/// What to do next.
#[derive(Debug)]
pub enum Plan {
    /// Nothing: everyone is level, or has a delivery outstanding.
    Idle,
    /// Something was settled without reading. Hand back who is level, and plan again.
    Again,
    /// Read one stretch of history from `from`, never beyond `through`, and [`CatchUp::absorb`] it.
    Scan {
        /// The first revision to read.
        from: Revision,
        /// The last revision that may be read.
        through: Revision,
    },
    /// Read these revisions for one class (L4), and [`CatchUp::absorb_pick`] them.
    Pick(Pick),
}

/// The few revisions that one class wants of a long stretch.
#[derive(Debug)]
pub struct Pick {
    /// The class.
    pub class: Arc<WatchClass>,
    /// What to read of its range, ascending, not empty.
    pub revisions: Vec<Revision>,
    /// The first revision that the pick covers.
    pub from: Revision,
    /// The first revision that the pick does not cover any more when all of it was read.
    pub next: Revision,
    pub(super) id: ClassId,
}

/// What the key index makes of one class.
enum Answer {
    Narrow(Pick),
    /// Nothing before this revision.
    Nothing(Revision),
    Dense,
}

impl<R> CatchUp<R> {
    /// The stretch that most ready entries wait for, of those at or before `through`; the oldest of equals (L5).
    pub fn next_target(&self, through: Revision) -> Option<Target> {
        self.ready.crowded(through)
    }

    /// What to read next, given that the group has handled everything up to `through` (L1).
    ///
    /// `wanted` answers from the key index, without I/O, which revisions of a range lie between two revisions, both
    /// included: all of them, ascending, or `None` where they are too many to be counted. It is asked at most twice for
    /// each class that the plan looks at.
    pub fn plan(
        &mut self,
        through: Revision,
        mut wanted: impl FnMut(&KeyRange, Revision, Revision) -> Option<Vec<Revision>>,
    ) -> Plan {
        self.plans = self.plans.wrapping_add(1);
        let target = if self.plans.is_multiple_of(PLANS_PER_OLDEST) {
            self.ready.oldest(through)
        } else {
            self.next_target(through)
        };
        let Some(target) = target else {
            return Plan::Idle;
        };
        let scan = Plan::Scan {
            from: target.from,
            through,
        };
        let questions_max = self
            .stretches_between(target.from, through)
            .saturating_mul(CLASSES_PER_STRETCH_MAX);
        if target.classes > questions_max {
            return scan;
        }
        let mut place = (target.from, Slot::FIRST);
        let mut is_dense = false;
        for _ in 0..self.limits.classes_per_plan_max.max(1) {
            let Some(wait) = self.ready.class_from(place, through) else {
                break;
            };
            match self.ask(wait, target.classes, through, &mut wanted) {
                Answer::Narrow(pick) => return Plan::Pick(pick),
                Answer::Nothing(next) => self.skip(wait.class, wait.at..next),
                Answer::Dense => is_dense = true,
            }
            place = (wait.at, wait.class.next());
        }
        if is_dense { scan } else { Plan::Again }
    }

    /// Asks for a class that waits among so many.
    fn ask(
        &mut self,
        wait: Wait,
        classes: usize,
        through: Revision,
        wanted: &mut impl FnMut(&KeyRange, Revision, Revision) -> Option<Vec<Revision>>,
    ) -> Answer {
        let near = self.after_stretches(wait.at, STRETCHES_PER_QUESTION);
        let known = self.after_stretches(wait.at, STRETCHES_PER_DENSITY);
        let Some(id) = self.classes.id(wait.class) else {
            return Answer::Dense;
        };
        let Some(class) = self.classes.class(id).map(Arc::clone) else {
            return Answer::Dense;
        };
        let Some(tally) = self.classes.get_mut(id) else {
            return Answer::Dense;
        };
        if wait.at < tally.dense_until {
            return Answer::Dense;
        }
        let mut last = through;
        let mut found = wanted(&class.range, wait.at, last);
        if found.is_none() && near < through {
            last = near;
            found = wanted(&class.range, wait.at, last);
        }
        let Some(mut revisions) = found else {
            tally.dense_until = known;
            return Answer::Dense;
        };
        revisions.retain(|at| (wait.at..=last).contains(at));
        if revisions.is_empty() {
            return Answer::Nothing(last.next());
        }
        // If the others want as much, one reading of the gap is cheaper than all their look-ups.
        let look_ups = revisions.len().saturating_mul(classes);
        let gap = last.0.saturating_sub(wait.at.0).saturating_add(1);
        if look_ups.saturating_mul(LOOK_UP_IN_REVISIONS) > usize::try_from(gap).unwrap_or(0)
            && classes > 1
        {
            tally.dense_until =
                known.max(Revision(wait.at.0.saturating_add(gap / GAP_PER_CROWDED)));
            return Answer::Dense;
        }
        let read_max = self.limits.revisions_per_pick_max.max(1);
        let next = revisions.get(read_max).copied().unwrap_or(last.next());
        revisions.truncate(read_max);
        Answer::Narrow(Pick {
            class,
            revisions,
            from: wait.at,
            next,
            id,
        })
    }

    /// Nothing within these positions concerns the class: whoever of it waits there moves on.
    fn skip(&mut self, class: Slot, positions: Range<Revision>) {
        let next = positions.end;
        let waits_max = self.limits.watchers_per_pass_max.max(1);
        for wait in self.ready.within_class(class, positions, waits_max) {
            self.move_to(wait.id, next, false);
        }
    }

    fn stretches_between(&self, from: Revision, through: Revision) -> usize {
        let revisions = through.0.saturating_sub(from.0).saturating_add(1);
        let revisions = usize::try_from(revisions).unwrap_or(0);
        revisions.div_ceil(self.limits.stretch_revisions_max.max(1))
    }

    fn after_stretches(&self, from: Revision, stretches: usize) -> Revision {
        let revisions = self.limits.stretch_revisions_max.saturating_mul(stretches);
        let revisions = i64::try_from(revisions).unwrap_or(i64::MAX);
        Revision(from.0.saturating_add(revisions))
    }
}
