//! What feeds a cover: one watch on the cluster, held through the ends of connections, members and leaders.
//!
//! It begins each time behind what was published last, so that nothing is lost and nothing comes twice; where the cluster has
//! forgotten what comes next, those who would want it are told. It is the one writer of its cover's ring.

use super::backoff::Backoff;
use super::call::open;
use super::cover::{Cover, Plan};
use super::covers::{Covers, Unanswered, revision_now};
use super::endpoints::Active;
use super::heard::{Heard, Listener};
use crate::actors::Broadcast;
use crate::model::Revision;
use actix::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// How often the cluster is asked again how far it has come while somebody waits for that: it does not answer while it is
/// itself behind with a watch.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How often it is asked while nobody waits, so that a watch which nothing happens in does not fall behind what is compacted.
const ASK_IDLE: Duration = Duration::from_secs(2);
/// How long a cluster may say nothing to that before another endpoint is tried.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long a watch that is to be replaced may take to come as far as the cluster is known to be.
const LEAVING_MAX: Duration = Duration::from_millis(200);
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
    /// The cluster wants to know who asks.
    Refused(Arc<str>),
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
            if !super::rules::contains(&watched, &plan.range) {
                // The ring lacks what happened in the rest of the range so far.
                broadcast.restart(broadcast.head());
            }
            watched = plan.range.clone();
            self.cover.stand(|standing| standing.version = plan.version);
            let active = self.covers.endpoints().current();
            let generation = active.generation;
            match self
                .session(broadcast, &plan, active, (&mut backoff, &mut cluster_id))
                .await
            {
                End::Replanned => {}
                End::Compacted(compact_revision) => {
                    log::warn!(
                        "the cluster has compacted up to {compact_revision} what was to be watched next"
                    );
                    self.cover.late.compacted(compact_revision);
                    broadcast.restart(compact_revision.previous());
                    self.note_head(broadcast);
                }
                End::OtherCluster => {
                    log::error!("the cluster is another one than before: all watches end");
                    return;
                }
                End::Refused(words) => {
                    log::error!("the cluster refuses to be watched, and all watches end: {words}");
                    // Who comes back is told the same by the cluster itself.
                    broadcast.end_streams("the cluster refuses to be watched");
                    return self.covers.let_go(&self.cover);
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

    /// Finds out where the cluster stands, and starts the watch sides there. False when nobody wants them any more.
    async fn begin(&self, backoff: &mut Backoff) -> bool {
        let limits = self.covers.limits();
        let head = loop {
            match revision_now(self.covers.endpoints(), limits.patience).await {
                Ok(revision) => break revision,
                Err(why) => log::warn!("the cluster's revision is not known: {why}"),
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

    /// One watch, from where the cover stands until it ends.
    async fn session(
        &self,
        broadcast: &Broadcast,
        plan: &Plan,
        active: Active,
        (backoff, cluster_id): (&mut Backoff, &mut Option<u64>),
    ) -> End {
        let head = broadcast.head();
        // A member may lag; a cluster whose majority has less than was published was put back to an earlier state.
        match revision_now(self.covers.endpoints(), self.covers.limits().patience).await {
            Ok(revision) if revision < head => {
                self.covers.endpoints().was_put_back();
                return End::OtherCluster;
            }
            Ok(_) => {}
            Err(Unanswered::Refused(words)) => return End::Refused(words),
            Err(Unanswered::Away(why)) => return End::Broken(why),
        }
        let mut call = match open(active.channel, &plan.range, head.next(), plan.with_prev).await {
            Ok(call) => call,
            Err(status) => return End::Broken(status.to_string()),
        };
        let mut listener = Listener::new(head, plan.with_prev);
        let (mut is_created, mut heard_last) = (false, Instant::now());
        let mut again = interval(ASK_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked_last = Instant::now();
        let (mut leaving, mut moved) = (None::<Instant>, (head, Instant::now()));
        loop {
            let goal = self.cover.plan().goal;
            let known = self.covers.endpoints().revision();
            let is_behind = known > broadcast.head();
            // The next watch begins where this one stands: the less there is in between, the less can be compacted in between.
            if leaving
                .is_some_and(|since| !is_created || !is_behind || since.elapsed() > LEAVING_MAX)
            {
                return End::Replanned;
            }
            if !is_behind || broadcast.head() != moved.0 {
                moved = (broadcast.head(), Instant::now());
            }
            tokio::select! {
                biased;
                heard = call.next() => {
                    let response = match heard {
                        Ok(Some(response)) => response,
                        Ok(None) => return End::Broken("it was closed".to_owned()),
                        Err(status) => return End::Broken(status.to_string()),
                    };
                    heard_last = Instant::now();
                    // A relay that has not reached its cluster yet says 0.
                    if let Some(header) = response.header.as_ref().filter(|it| it.cluster_id != 0) {
                        if *cluster_id.get_or_insert(header.cluster_id) != header.cluster_id {
                            return End::OtherCluster;
                        }
                        self.covers.endpoints().note(header);
                    }
                    match self.heard(broadcast, listener.hear(response)) {
                        Ok(is_beginning) => if is_beginning {
                            is_created = true;
                            call.ask_progress();
                        } else if is_created {
                            backoff.reset();
                        },
                        Err(end) => return end,
                    }
                }
                () = self.cover.changed.notified() => {
                    let now = self.cover.plan();
                    if now.closed {
                        return End::Replanned;
                    }
                    if now.version != plan.version {
                        leaving.get_or_insert_with(Instant::now);
                    }
                    if is_created && (leaving.is_some() || now.goal > broadcast.head()) {
                        call.ask_progress();
                        asked_last = Instant::now();
                    }
                }
                _ = again.tick() => {
                    let is_waited_for = goal > broadcast.head();
                    if heard_last.elapsed() > SILENCE_MAX {
                        return End::Broken("the cluster says nothing".to_owned());
                    }
                    // An upstream may answer and have lost its own cluster.
                    if moved.1.elapsed() > SILENCE_MAX {
                        return End::Broken("the cluster has more than it tells".to_owned());
                    }
                    if is_created && (is_waited_for || asked_last.elapsed() >= ASK_IDLE) {
                        call.ask_progress();
                        asked_last = Instant::now();
                    }
                }
            }
        }
    }

    /// Passes on what was heard; true when it is that the watch begins.
    fn heard(&self, broadcast: &Broadcast, heard: Result<Heard, String>) -> Result<bool, End> {
        match heard {
            Ok(Heard::Created) => return Ok(true),
            Ok(Heard::Commits(commits)) => broadcast.publish(&commits),
            Ok(Heard::Progress(revision)) => broadcast.advance(revision),
            Ok(Heard::Part) => {}
            Ok(Heard::Compacted(revision)) => return Err(End::Compacted(revision)),
            Ok(Heard::Canceled(why)) | Err(why) => return Err(End::Broken(why)),
        }
        self.note_head(broadcast);
        Ok(false)
    }

    fn note_head(&self, broadcast: &Broadcast) {
        let head = broadcast.head();
        self.cover.stand(|standing| standing.head = head);
    }
}
