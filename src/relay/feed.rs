//! What feeds a cover: one watch on the cluster, held through the ends of connections, members and leaders.
//!
//! It begins each time behind what was published last, so that nothing is lost and nothing comes twice; where the cluster has
//! forgotten what comes next, those who would want it are told. It is the one writer of its cover's ring.

mod session;

use super::backoff::Backoff;
use super::cover::Cover;
use super::covers::{Covers, Unanswered};
use crate::actors::Broadcast;
use crate::fault::{self, Fault};
use crate::model::Revision;
use actix::prelude::*;
use session::Session;
use std::sync::Arc;
use tokio::time::sleep;

/// What clients are told whose watches nobody feeds any more.
const UNFED: &str = "the cluster cannot be watched on";

/// The feed of one cover.
pub(super) struct Feed {
    cover: Arc<Cover>,
    covers: Covers,
    workers: Vec<ArbiterHandle>,
}

/// How a watch on the cluster ended.
enum End {
    /// Another one is wanted.
    Replanned,
    /// What comes next is compacted.
    Compacted(Revision),
    /// The cluster is another one than before.
    OtherCluster,
    /// The cluster does not let us watch, and trying again changes nothing.
    Refused(Arc<str>),
    /// It said what cannot be, so nobody knows what it has left out.
    Untrue(String),
    /// Something else was the matter.
    Broken(String),
}

impl Drop for Feed {
    /// However it ends: whoever is still watched for here shall come back, and nobody shall come here any more. A cover that
    /// was closed because it is empty may be a part of streams that go on elsewhere.
    fn drop(&mut self) {
        let is_empty = self.cover.plan().closed;
        self.covers.let_go(&self.cover);
        self.cover.close();
        if let Some(broadcast) = self.cover.broadcast()
            && !is_empty
            && !fault::active(Fault::DeadFeedSilent)
        {
            broadcast.end_streams(UNFED);
        }
    }
}

impl Feed {
    pub(super) fn new(cover: Arc<Cover>, covers: Covers, workers: Vec<ArbiterHandle>) -> Self {
        Self {
            cover,
            covers,
            workers,
        }
    }

    /// Feeds the cover until nobody wants it.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        if !self.begin(&mut backoff).await {
            return;
        }
        let Some(broadcast) = self.cover.broadcast() else {
            return;
        };
        let mut watched = self.cover.plan().range;
        let mut cluster_id = None;
        loop {
            let plan = self.cover.plan();
            if plan.closed {
                return;
            }
            if !watched.encloses(&plan.range) && !fault::active(Fault::WidenedRingKept) {
                // The ring lacks what happened in the rest of the range so far.
                broadcast.widen();
            }
            watched = plan.range.clone();
            let active = self.covers.endpoints().current();
            let generation = active.generation;
            let ended = match Session::begin(&self, broadcast, plan, active).await {
                Ok(session) => session.run(&mut backoff, &mut cluster_id).await,
                Err(end) => end,
            };
            match ended {
                End::Replanned => {}
                End::Compacted(compact_revision) => {
                    log::warn!(
                        "the cluster has compacted up to {compact_revision} what was to be watched next"
                    );
                    self.cover.late.compacted(compact_revision);
                    if fault::active(Fault::CompactedGapSkipped) {
                        broadcast.advance(compact_revision.previous());
                    } else {
                        broadcast.restart(compact_revision.previous());
                    }
                    self.note_head(broadcast);
                }
                End::OtherCluster => {
                    log::error!("the cluster is another one than before: all watches end");
                    return;
                }
                End::Refused(words) => {
                    log::error!("the cluster refuses to be watched, and watches end: {words}");
                    self.cover.refuse(words);
                    return broadcast.end_streams("the cluster refuses to be watched");
                }
                End::Untrue(why) => {
                    log::error!("the cluster contradicts itself, and all watches end: {why}");
                    return;
                }
                End::Broken(why) => {
                    log::warn!("a watch on the cluster has ended: {why}");
                    if self.covers.endpoints().is_another_cluster() {
                        log::error!("there is another cluster than before: all watches end");
                        return;
                    }
                    self.covers.endpoints().doubt(generation);
                    self.pause(&mut backoff).await;
                }
            }
        }
    }

    /// Waits before the next try, and no longer when the plan changes.
    async fn pause(&self, backoff: &mut Backoff) {
        tokio::select! {
            () = sleep(backoff.next()) => {}
            () = self.cover.changed.notified() => {}
        }
    }

    /// Finds out where the cluster stands, and starts the watch sides there. False when nobody wants them any more, or the
    /// cluster refuses.
    async fn begin(&self, backoff: &mut Backoff) -> bool {
        let limits = self.covers.limits();
        let head = loop {
            match self.covers.revision_now().await {
                Ok(revision) => break revision,
                Err(Unanswered::Refused(words)) => {
                    log::error!("the cluster refuses to tell its revision: {words}");
                    self.cover.refuse(words);
                    return false;
                }
                Err(Unanswered::Away(why)) => {
                    log::warn!("the cluster's revision is not known: {why}");
                }
            }
            if self.cover.plan().closed {
                return false;
            }
            sleep(backoff.next()).await;
        };
        let history = Arc::new(Arc::clone(&self.cover.late));
        let watches = Arc::clone(self.covers.watches());
        let started = Broadcast::start(history, head, limits.engine, watches, &self.workers);
        self.cover.open(started.await);
        true
    }

    fn note_head(&self, broadcast: &Broadcast) {
        let head = broadcast.head();
        self.cover.stand(|standing| standing.head = head);
    }
}
