//! How far a client's stream has come, when it asks: one answer for all of its watches, in whichever covers they are.
//!
//! Covers move on unevenly. So all parts of the stream are held, those that are behind are brought to where the furthest is, and
//! that is the answer: nothing up to there is still to come, and nothing behind it was told of. It never says less than the
//! cluster had when it was asked, and holds nobody while one of them reads history.

use super::cover::Cover;
use super::covers::{Covers, Unanswered};
use crate::actors::{Broadcast, Outbox, Part, StreamItem};
use crate::fault::{self, Fault};
use crate::model::{Revision, WatchId};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long the cluster may take to say how far it has come; then it is asked again.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(1);
/// How long parts are held for others at first, before their watches are told of what has come meanwhile; and at most. A client
/// that reads slowly needs longer until what is on its way to it has arrived, and holding it costs it nothing.
const HOLD_MIN: Duration = Duration::from_millis(250);
const HOLD_MAX: Duration = Duration::from_secs(8);
/// The pause before another try when nobody was held for long.
const PAUSE: Duration = Duration::from_millis(20);

/// A part of a stream, and the cover that it lives in.
pub(super) type Seated = (Arc<Cover>, Part);

/// The parts of one stream, and whether somebody asks how far it has come.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: Mutex<Vec<Seated>>,
    asked: Mutex<Asked>,
}

/// Requests for progress that are not answered yet: however many come meanwhile, one more answer is right for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    No,
    Once,
    Again,
}

impl Parts {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Seated>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody asks. The answer is put in the outbox when there is one, by a task of its own: what the stream is asked
    /// meanwhile does not wait for it.
    pub(super) fn ask(this: &Arc<Self>, covers: &Covers, outbox: &Arc<Outbox>) {
        let before = {
            let mut asked = this.asked();
            let before = *asked;
            *asked = match before {
                Asked::No => Asked::Once,
                Asked::Once | Asked::Again => Asked::Again,
            };
            before
        };
        if before != Asked::No {
            return;
        }
        let (this, covers, outbox) = (Arc::clone(this), covers.clone(), Arc::clone(outbox));
        actix_rt::spawn(async move {
            loop {
                this.answer(&covers, &outbox).await;
                let mut asked = this.asked();
                if *asked == Asked::Once || outbox.is_ended() {
                    *asked = Asked::No;
                    return;
                }
                *asked = Asked::Once;
            }
        });
    }

    /// Answers one request, however long that takes; without a watch there is nothing to tell.
    async fn answer(&self, covers: &Covers, outbox: &Outbox) {
        let mut goal = None;
        let mut hold_max = HOLD_MIN;
        loop {
            let parts = self.with_watches();
            if parts.is_empty() || outbox.is_ended() {
                return;
            }
            if goal.is_none() {
                goal = match covers.revision_in_the_end().await {
                    Ok(revision) => Some(revision),
                    // Nobody is told, however often it is asked: what is known is said.
                    Err(Unanswered::Refused(_)) => Some(Revision::default()),
                    Err(Unanswered::Away(_)) => None,
                };
            }
            let mut pause = PAUSE;
            if let Some(goal) = goal {
                let tried = together(&parts, goal, hold_max).await;
                let told = match tried {
                    Tried::Held(revision) => self.tell(&parts, revision, outbox),
                    Tried::NotNow => false,
                    Tried::TooLong => {
                        // Nobody is held for more than half of the time.
                        pause = hold_max;
                        hold_max = (hold_max * 2).min(HOLD_MAX);
                        false
                    }
                };
                for (_, part) in &parts {
                    part.let_go();
                }
                if told {
                    return;
                }
            }
            sleep(pause).await;
        }
    }

    fn with_watches(&self) -> Vec<Seated> {
        let parts = self.lock();
        let with_watches = parts.iter().filter(|(_, part)| part.has_watches());
        with_watches.cloned().collect()
    }

    /// Says it if it is true at this moment: all parts that have watches are among those that are held there, and were told of
    /// nothing else since.
    fn tell(&self, held: &[Seated], revision: Revision, outbox: &Outbox) -> bool {
        let is_held = |(_, part): &Seated| held.iter().any(|(_, other)| other.is(part));
        let is_whole = self.with_watches().iter().all(is_held);
        let is_quiet = |(_, part): &Seated| part.is_held_quiet(revision);
        let is_true = is_whole && held.iter().all(is_quiet);
        if !is_true && !fault::active(Fault::PartSpeaksForWhole) {
            return false;
        }
        for (_, part) in held {
            part.note_told(revision);
        }
        let watch_id = WatchId::STREAM;
        outbox.push(StreamItem::Progress { watch_id, revision });
        true
    }
}

/// What has come of holding all parts at one revision.
enum Tried {
    /// They are held there.
    Held(Revision),
    /// One of them cannot be held there now.
    NotNow,
    /// Some were held for others for as long as they may be.
    TooLong,
}

/// Holds all parts at one revision, not before `goal`.
async fn together(parts: &[Seated], goal: Revision, hold_max: Duration) -> Tried {
    let heads = parts.iter().filter_map(|(cover, _)| cover.broadcast());
    let furthest = heads.map(Broadcast::head).max().unwrap_or_default();
    let mut through = furthest.max(goal);
    if fault::active(Fault::ProgressNotAsked) {
        through = furthest;
    }
    let parts = match parts {
        [first, ..] if fault::active(Fault::PartSpeaksForWhole) => std::slice::from_ref(first),
        all => all,
    };
    let late = |(_, part): &&Seated| !part.may_be_held(through);
    let late: Vec<_> = parts.iter().filter(late).cloned().collect();
    if !late.is_empty() {
        // They are held once they are there, and until then nobody is held for them.
        match hold(&late, through, (CLUSTER_PATIENCE, hold_max)).await {
            Ok(at) => through = at.into_iter().fold(through, Revision::max),
            Err(tried) => return tried,
        }
    }
    // Nobody is held before all covers have come so far, unless somebody is already.
    let mut patience = CLUSTER_PATIENCE;
    if !late.is_empty() {
        patience = hold_max.min(patience);
    }
    loop {
        let at = match hold(parts, through, (patience, hold_max)).await {
            Ok(at) => at,
            Err(tried) => return tried,
        };
        let furthest = at.iter().copied().fold(through, Revision::max);
        if at.iter().all(|at| *at == furthest) {
            return Tried::Held(furthest);
        }
        through = furthest;
        patience = hold_max.min(patience);
    }
}

/// Holds these parts at `through` or further, once their covers have come so far; answers where each of them is. The first may
/// take as long as it likes, and then the others may not.
async fn hold(
    parts: &[Seated],
    through: Revision,
    (patience, hold_max): (Duration, Duration),
) -> Result<Vec<Revision>, Tried> {
    let reached = parts
        .iter()
        .map(|(cover, _)| cover.reach(0, through, patience));
    if !join_all(reached).await.iter().all(Result::is_ok) {
        return Err(Tried::NotNow);
    }
    let mut held: FuturesUnordered<_> = parts.iter().map(|(_, part)| part.hold(through)).collect();
    let first = held.next().await.ok_or(Tried::NotNow)?;
    let mut all = vec![first.map_err(|_| Tried::NotNow)?];
    let others = async {
        while let Some(at) = held.next().await {
            all.push(at.map_err(|_| Tried::NotNow)?);
        }
        Ok(())
    };
    timeout(hold_max, others)
        .await
        .unwrap_or(Err(Tried::TooLong))?;
    Ok(all)
}
