//! How far a client's stream has come, when it asks: one answer for all of its watches, in whichever covers they are.
//!
//! Covers move on unevenly. So all parts of the stream are held, those that are behind are brought to where the furthest is, and
//! that is the answer: nothing up to there is still to come, and nothing behind it was told of. It never says less than the
//! cluster had when it was asked, and holds nobody while one of them reads history.

use super::cover::Cover;
use super::covers::Covers;
use crate::actors::{Broadcast, Outbox, Part, StreamItem};
use crate::fault::{self, Fault};
use crate::model::{Revision, WatchId};
use futures_util::future::join_all;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long the cluster may take to say how far it has come; then it is asked again.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(1);
/// How long parts may be held for one another; then their watches are told of what has come meanwhile.
const HOLD_MAX: Duration = Duration::from_millis(250);
/// How long the first pause between two tries is, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(320);

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
        let mut pause = PAUSE_MIN;
        loop {
            let parts = self.with_watches();
            if parts.is_empty() || outbox.is_ended() {
                return;
            }
            if goal.is_none() {
                goal = covers.revision_in_the_end().await.ok();
            }
            if let Some(goal) = goal {
                let told = match together(&parts, goal).await {
                    Some(revision) => self.tell(&parts, revision, outbox),
                    None => false,
                };
                for (_, part) in &parts {
                    part.let_go();
                }
                if told {
                    return;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
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

/// Holds all parts at one revision, not before `goal`; nothing when one of them cannot be held there now.
async fn together(parts: &[Seated], goal: Revision) -> Option<Revision> {
    let heads = parts.iter().filter_map(|(cover, _)| cover.broadcast());
    let furthest = heads.map(Broadcast::head).max();
    let mut through = furthest.map_or(goal, |furthest| furthest.max(goal));
    if fault::active(Fault::ProgressNotAsked) {
        through = furthest?;
    }
    let parts = match parts {
        [first, ..] if fault::active(Fault::PartSpeaksForWhole) => std::slice::from_ref(first),
        all => all,
    };
    loop {
        let reached = parts
            .iter()
            .map(|(cover, _)| cover.reach(0, through, CLUSTER_PATIENCE));
        let is_reached = join_all(reached).await.iter().all(Result::is_ok);
        // Looked at last, because holding one for another that takes long would harm it.
        if !is_reached || !parts.iter().all(|(_, part)| part.may_be_held(through)) {
            return None;
        }
        let held = join_all(parts.iter().map(|(_, part)| part.hold(through)));
        let held = match parts.len() {
            // Nobody else waits for it.
            1 => held.await,
            _ => timeout(HOLD_MAX, held).await.ok()?,
        };
        let held: Vec<_> = held.into_iter().collect::<Result<_, _>>().ok()?;
        let furthest = held.iter().copied().max()?;
        if held.iter().all(|at| *at == furthest) {
            return Some(furthest);
        }
        through = furthest;
    }
}
