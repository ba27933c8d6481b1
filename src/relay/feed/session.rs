//! One watch on the cluster, from where its cover stands until it ends: what it says goes to the ring.
//!
//! How far it has come is asked only once it has begun, so that no answer to that can be about anything else.

use super::super::backoff::Backoff;
use super::super::call::{Call, open};
use super::super::cover::Plan;
use super::super::covers::{Unanswered, refusal};
use super::super::endpoints::Active;
use super::super::heard::{Heard, Listener};
use super::{End, Feed};
use crate::actors::Broadcast;
use crate::api::pb::etcdserverpb::WatchResponse;
use crate::fault::{self, Fault};
use crate::model::Revision;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::Status;

/// How often the cluster is asked again how far it has come while somebody waits for that: it does not answer while it is
/// itself behind with a watch.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How often it is asked while nobody waits, so that a watch which nothing happens in does not fall behind what is compacted.
const ASK_IDLE: Duration = Duration::from_secs(2);
/// How long a cluster may take to begin, and to tell of what it is known to have, before the watch is begun again. While it has
/// nothing to tell it says nothing, also to a question: the watch begins behind all that there is. That the way there is still
/// one is found out by pings.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long a watch that is to be replaced may take to come as far as the cluster is known to be.
const LEAVING_MAX: Duration = Duration::from_millis(200);

/// A watch that is held.
pub(super) struct Session<'a> {
    feed: &'a Feed,
    broadcast: &'a Broadcast,
    plan: Plan,
    call: Call,
    listener: Listener,
    is_created: bool,
    began: Instant,
    asked_last: Instant,
    /// Since when another watch is wanted.
    leaving: Option<Instant>,
    /// Where the cover stood when it last moved, or had nowhere to go.
    moved: (Revision, Instant),
}

impl<'a> Session<'a> {
    /// Begins to watch what is planned.
    pub(super) async fn begin(
        feed: &'a Feed,
        broadcast: &'a Broadcast,
        plan: Plan,
        active: Active,
    ) -> Result<Self, End> {
        if let Some(words) = feed.cover.refused() {
            return Err(End::Refused(words));
        }
        let head = broadcast.head();
        let endpoints = feed.covers.endpoints();
        // A member may lag; a cluster whose majority has less than was published was put back to an earlier state.
        match feed.covers.revision_now().await {
            Ok(revision) if revision < head && !fault::active(Fault::PutBackUnnoticed) => {
                endpoints.was_put_back();
                return Err(End::OtherCluster);
            }
            Ok(_) => {}
            Err(Unanswered::Refused(words)) => return Err(End::Refused(words)),
            Err(Unanswered::Away(why)) => return Err(End::Broken(why)),
        }
        let heard = match () {
            () if fault::active(Fault::FeedSkipsOne) => head.next(),
            () if fault::active(Fault::FeedRepeatsOne) => head.previous(),
            () => head,
        };
        let opened = open(active.channel, &plan.range, heard.next(), plan.with_prev).await;
        let call = opened.map_err(|status| ended_before(&status))?;
        feed.covers.note_begun();
        let with_prev = plan.with_prev || fault::active(Fault::PrevTakenForGranted);
        let (listener, now) = (Listener::new(heard, with_prev), Instant::now());
        Ok(Self {
            feed,
            broadcast,
            plan,
            call,
            listener,
            is_created: false,
            began: now,
            asked_last: now,
            leaving: None,
            moved: (head, now),
        })
    }

    /// Holds it until it ends.
    pub(super) async fn run(mut self, backoff: &mut Backoff, cluster_id: &mut Option<u64>) -> End {
        let mut again = interval(ASK_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.has_left() {
                return End::Replanned;
            }
            let went_on = tokio::select! {
                biased;
                said = self.call.next() => match said {
                    Ok(Some(response)) => self.hear(response, backoff, cluster_id),
                    Ok(None) => Err(End::Broken("it was closed".to_owned())),
                    Err(status) if !self.is_created => Err(ended_before(&status)),
                    Err(status) => Err(End::Broken(status.to_string())),
                },
                () = self.feed.cover.changed.notified() => self.replan(),
                _ = again.tick() => self.look(),
            };
            if let Err(end) = went_on {
                return end;
            }
        }
    }

    /// True when another watch is wanted and may begin: behind where this one stands, so that the less there is in between,
    /// the less can be compacted in between. This one is let begin first, however long that takes: those who wait for what it
    /// covers wait for nobody who comes after them, and wishes that change faster than a watch begins would be met by none.
    fn has_left(&mut self) -> bool {
        let head = self.broadcast.head();
        let is_behind = self.feed.covers.endpoints().revision() > head;
        if !is_behind || head != self.moved.0 {
            self.moved = (head, Instant::now());
        }
        let may_go = |since: Instant| !is_behind || since.elapsed() > LEAVING_MAX;
        self.is_created && self.leaving.is_some_and(may_go)
    }

    fn hear(
        &mut self,
        response: WatchResponse,
        backoff: &mut Backoff,
        cluster_id: &mut Option<u64>,
    ) -> Result<(), End> {
        // A relay that has not reached its cluster yet says 0.
        let header = response.header.as_ref();
        if let Some(header) = header.filter(|header| header.cluster_id != 0) {
            let is_ours = *cluster_id.get_or_insert(header.cluster_id) == header.cluster_id;
            if !is_ours && !fault::active(Fault::OtherClusterTaken) {
                return Err(End::OtherCluster);
            }
            self.feed.covers.endpoints().note(header);
        }
        let header = Revision(header.map_or(0, |header| header.revision));
        match self.listener.hear(response) {
            Ok(Heard::Created) => {
                self.is_created = true;
                backoff.reset();
                let version = self.plan.version;
                self.feed.cover.stand(|standing| standing.version = version);
                self.ask();
                return Ok(());
            }
            Ok(Heard::Commits(commits)) => {
                self.broadcast.publish(&commits);
                if fault::active(Fault::HeaderTakenForProgress) {
                    self.broadcast.advance(header);
                }
            }
            Ok(Heard::Progress(revision)) => self.broadcast.advance(revision),
            // One revision may be larger than what comes in a while.
            Ok(Heard::Part) => self.moved.1 = Instant::now(),
            Ok(Heard::Compacted(revision)) => return Err(End::Compacted(revision)),
            // What is refused at its creation is refused for what it is. A watch that was taken may end for reasons that
            // pass; when one does not pass, it is what the next creation is answered with.
            Ok(Heard::Canceled(why))
                if !self.is_created && !fault::active(Fault::RefusalRetried) =>
            {
                return Err(End::Refused(why.into()));
            }
            Ok(Heard::Canceled(why)) => return Err(End::Broken(why)),
            Err(why) => return Err(End::Untrue(why)),
        }
        backoff.reset();
        self.feed.note_head(self.broadcast);
        Ok(())
    }

    /// The plan is another, somebody waits, or the past of what is watched here was refused.
    fn replan(&mut self) -> Result<(), End> {
        if let Some(words) = self.feed.cover.refused() {
            return Err(End::Refused(words));
        }
        let plan = self.feed.cover.plan();
        if plan.closed {
            return Err(End::Replanned);
        }
        if plan.version != self.plan.version {
            self.leaving.get_or_insert_with(Instant::now);
        }
        if self.leaving.is_some() || plan.goal > self.broadcast.head() {
            self.ask();
        }
        Ok(())
    }

    /// A while has passed.
    fn look(&mut self) -> Result<(), End> {
        if !self.is_created && self.began.elapsed() > SILENCE_MAX {
            return Err(End::Broken("the cluster says nothing".to_owned()));
        }
        // An upstream may answer and have lost its own cluster.
        if self.moved.1.elapsed() > SILENCE_MAX {
            return Err(End::Broken("the cluster has more than it tells".to_owned()));
        }
        let is_waited_for = self.feed.cover.plan().goal > self.broadcast.head();
        if is_waited_for || self.asked_last.elapsed() >= ASK_IDLE {
            self.ask();
        }
        Ok(())
    }

    fn ask(&mut self) {
        if self.is_created {
            self.call.ask_progress();
            self.asked_last = Instant::now();
        }
    }
}

/// What an error is the end of that comes before the watch has begun.
fn ended_before(status: &Status) -> End {
    match refusal(status) {
        Some(words) => End::Refused(words),
        None => End::Broken(status.to_string()),
    }
}
