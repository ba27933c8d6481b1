//! A cover: a range that is watched on the cluster once, for all that clients watch in it.
//!
//! What is wanted of it changes under one lock; what is true of it is said by its feed alone. It never decides how wide it is.

use super::covers::Unanswered;
use super::late::Late;
use super::rules::{narrowed, touches_an_end};
use crate::actors::{Broadcast, Inspection};
use crate::fault::{self, Fault};
use crate::model::{KeyRange, Revision};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// What is wanted of a cover.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What is to be watched.
    pub(super) range: KeyRange,
    /// Somebody wants previous values.
    pub(super) with_prev: bool,
    /// Grows with every change of the two.
    pub(super) version: u64,
    /// Somebody waits until the cover has come so far.
    pub(super) goal: Revision,
    /// Nobody wants it any more.
    pub(super) closed: bool,
}

/// What clients are told when the cluster does not answer in time.
pub(super) const NO_CLUSTER: &str = "the cluster does not answer";

/// What is true of a cover.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// The cluster has taken a watch of whatever was planned up to this version, and it is watched from the head on.
    pub(super) version: u64,
    /// Everything up to here was published.
    pub(super) head: Revision,
    /// The cluster does not let us watch what was planned, in these words, and nobody feeds the cover any more.
    pub(super) refused: Option<Arc<str>>,
    /// Nobody feeds it any more.
    pub(super) closed: bool,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    /// What clients watch, and how many do.
    seats: BTreeMap<KeyRange, usize>,
    /// What all of that lies in. It is as narrow as it can be unless `outgrown`.
    outline: Option<KeyRange>,
    /// What reached to an end of the outline has left.
    outgrown: bool,
    /// How many of them want previous values.
    seats_with_prev: usize,
}

/// A cover.
pub(super) struct Cover {
    state: Mutex<State>,
    /// The plan is another.
    pub(super) changed: Notify,
    standing: watch::Sender<Standing>,
    broadcast: OnceLock<Broadcast>,
    /// Somebody has begun to feed it.
    is_fed: AtomicBool,
    /// What came before.
    pub(super) late: Arc<Late>,
}

impl fmt::Debug for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cover")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A place in a cover, for one watch. Whoever drops it leaves.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) cover: Arc<Cover>,
    range: KeyRange,
    with_prev: bool,
    /// The watch has been registered, and has its id for as long as it lives.
    registered: bool,
}

impl Seat {
    /// The watch has been registered.
    pub(super) fn register(&mut self) {
        self.registered = true;
    }

    /// True when the watch has been registered.
    pub(super) fn registered(&self) -> bool {
        self.registered
    }
}

impl Cover {
    /// A cover of `range` that nobody watches yet.
    pub(super) fn new(range: KeyRange, late: Arc<Late>) -> Self {
        let plan = Plan {
            range,
            with_prev: false,
            version: 1,
            goal: Revision::default(),
            closed: false,
        };
        Self {
            state: Mutex::new(State {
                plan,
                seats: BTreeMap::new(),
                outline: None,
                outgrown: false,
                seats_with_prev: 0,
            }),
            changed: Notify::new(),
            standing: watch::Sender::new(Standing::default()),
            broadcast: OnceLock::new(),
            is_fed: AtomicBool::new(false),
            late,
        }
    }

    /// What is wanted of it.
    pub(super) fn plan(&self) -> Plan {
        self.state().plan.clone()
    }

    /// Takes a seat, in a cover that may have to be as wide as `widened` for it.
    pub(super) fn sit(
        self: &Arc<Self>,
        range: &KeyRange,
        widened: Option<KeyRange>,
        with_prev: bool,
    ) -> Seat {
        let mut state = self.state();
        let plan = &mut state.plan;
        let is_new = widened.is_some() || (with_prev && !plan.with_prev);
        if let Some(range) = widened {
            plan.range = range;
        }
        plan.with_prev |= with_prev;
        plan.version += u64::from(is_new);
        state.outline = Some(match &state.outline {
            Some(outline) if outline.encloses(range) => outline.clone(),
            Some(outline) => outline.hull(range),
            None => range.clone(),
        });
        let seats = state.seats.entry(range.clone()).or_default();
        if *seats == 0 || !fault::active(Fault::SeatShared) {
            *seats += 1;
        }
        state.seats_with_prev += usize::from(with_prev);
        drop(state);
        if is_new {
            self.changed.notify_one();
        }
        Seat {
            cover: Arc::clone(self),
            range: range.clone(),
            with_prev,
            registered: false,
        }
    }

    fn leave(&self, range: &KeyRange, with_prev: bool) {
        let mut state = self.state();
        state.seats_with_prev -= usize::from(with_prev);
        if let Some(seats) = state.seats.get_mut(range) {
            *seats -= 1;
            if *seats == 0 {
                state.seats.remove(range);
                let outline = state.outline.as_ref();
                let was_at_an_end = outline.is_none_or(|outline| touches_an_end(outline, range));
                state.outgrown |= was_at_an_end;
            }
        }
    }

    /// Narrows the plan to what is still watched, and closes it when that is nothing. True when it is closed.
    pub(super) fn tidy(&self) -> bool {
        let mut state = self.state();
        if state.outgrown {
            state.outline = KeyRange::hull_of(state.seats.keys());
            state.outgrown = false;
        }
        let is_one_range = state.seats.len() == 1;
        let Some(outline) = state.outline.clone().filter(|_| !state.seats.is_empty()) else {
            state.plan.closed = true;
            drop(state);
            self.late.close();
            self.changed.notify_one();
            return true;
        };
        let outline = if fault::active(Fault::NarrowedUnderWatch) {
            state.seats.keys().next().cloned().unwrap_or(outline)
        } else {
            outline
        };
        let with_prev = state.seats_with_prev > 0;
        let narrow = narrowed(&state.plan.range, &outline, is_one_range);
        if narrow.is_some() || with_prev != state.plan.with_prev {
            state.plan.range = narrow.unwrap_or_else(|| state.plan.range.clone());
            state.plan.with_prev = with_prev;
            state.plan.version += 1;
            drop(state);
            self.changed.notify_one();
        }
        false
    }

    /// Nobody shall be seated here any more.
    pub(super) fn close(&self) {
        self.state().plan.closed = true;
        self.late.close();
        self.changed.notify_one();
        // Whoever waits for it to move waits for nobody.
        self.standing.send_modify(|standing| standing.closed = true);
    }

    /// Somebody waits until everything up to here was published.
    pub(super) fn hurry(&self, goal: Revision) {
        {
            let plan = &mut self.state().plan;
            plan.goal = plan.goal.max(goal);
        }
        self.changed.notify_one();
    }

    /// What is true of it, for whoever follows that.
    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// True for the one who is to begin to feed it.
    pub(super) fn take_up(&self) -> bool {
        !self.is_fed.swap(true, Ordering::AcqRel) || fault::active(Fault::CoverFedTwice)
    }

    /// The feed has begun.
    pub(super) fn open(&self, broadcast: Broadcast) {
        let head = broadcast.head();
        // Opened once, by its one feed.
        let _ = self.broadcast.set(broadcast);
        self.standing.send_modify(|standing| standing.head = head);
    }

    /// The watch sides; none before the feed has begun.
    pub(super) fn broadcast(&self) -> Option<&Broadcast> {
        self.broadcast.get()
    }

    /// The feed says what is true.
    pub(super) fn stand(&self, change: impl FnOnce(&mut Standing)) {
        self.standing.send_modify(change);
    }

    /// The cluster does not let us watch here, in these words: whoever waits for that is told why, and so is whoever comes.
    pub(super) fn refuse(&self, words: Arc<str>) {
        self.stand(|standing| standing.refused = Some(words));
        self.changed.notify_one();
    }

    /// The words in which the cluster refuses what is planned, if it does.
    pub(super) fn refused(&self) -> Option<Arc<str>> {
        self.standing.borrow().refused.clone()
    }

    /// Waits until everything that was planned up to `version` is watched, and everything up to `goal` was published. The
    /// error says that the cluster refuses it, or that it takes longer than `patience`.
    pub(super) async fn reach(
        &self,
        version: u64,
        goal: Revision,
        patience: Duration,
    ) -> Result<(), Unanswered> {
        let is_early = fault::active(Fault::RegisteredBeforeWidened);
        let is_wide = |standing: &Standing| standing.version >= version || is_early;
        let reached = |standing: &Standing| is_wide(standing) && standing.head >= goal;
        let is_over = |standing: &Standing| standing.refused.is_some() || standing.closed;
        let is_decided = |standing: &Standing| is_over(standing) || reached(standing);
        let mut standing = self.standing.subscribe();
        if !is_decided(&standing.borrow_and_update()) {
            self.hurry(goal);
        }
        match timeout(patience, standing.wait_for(is_decided)).await {
            Ok(Ok(decided)) => match &decided.refused {
                Some(words) => Err(Unanswered::Refused(Arc::clone(words))),
                None if decided.closed => Err(Unanswered::Away(NO_CLUSTER.to_owned())),
                None => Ok(()),
            },
            Ok(Err(_)) | Err(_) => Err(Unanswered::Away(NO_CLUSTER.to_owned())),
        }
    }

    /// What its watch sides hold.
    pub(super) async fn inspect(&self) -> Vec<Inspection> {
        match self.broadcast() {
            Some(broadcast) => broadcast.inspect().await,
            None => Vec::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No step leaves it between two states that matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.cover.leave(&self.range, self.with_prev);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::Endpoints;
    use crate::tls::{ClientFiles, Target};
    use crate::watch::BatchLimits;
    use actix_rt::{Arbiter, System};

    // Whoever is let in before would be taken for somebody who has no use for what the cover is widened by.
    #[test]
    fn a_wider_cover_is_reached_only_when_its_feed_says_so() {
        System::new().block_on(async {
            let nowhere = Target::read("127.0.0.1:1", &ClientFiles::default()).unwrap();
            let endpoints = Endpoints::start(&[nowhere], None).unwrap();
            let late = Late::new(endpoints, Arbiter::current(), BatchLimits::default());
            let (narrow, wide) = (KeyRange::single("/a/1"), KeyRange::prefix("/a/"));
            let cover = Arc::new(Cover::new(narrow.clone(), late));
            let _narrow = cover.sit(&narrow, None, false);
            cover.stand(|standing| {
                standing.version = 1;
                standing.head = Revision(5);
            });
            let _wide = cover.sit(&wide, Some(wide.clone()), false);
            let version = cover.plan().version;
            let reached = async |goal| {
                let reached = cover.reach(version, Revision(goal), Duration::ZERO).await;
                reached.is_ok()
            };
            assert!(!reached(5).await);
            cover.stand(|standing| standing.version = version);
            assert!(reached(5).await && !reached(6).await);
        });
    }
}
