//! The actor that holds the watches on the cluster: it opens covers, and fits them to what clients watch.
//!
//! Each cover has a feed of its own, which runs here. No event passes through the mailbox. When a panic ends the actor it is
//! started again, and takes up what was asked for meanwhile: which covers there are, and which of them have a feed, is known
//! without it. Feeds are tasks of their own, and go on.

use super::cover::Cover;
use super::covers::Covers;
use super::feed::Feed;
use crate::fault::{self, Fault};
use actix::prelude::*;
use std::sync::Arc;

/// Covers -> Upstream: begin to feed this one, if nobody has.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Open(pub(super) Arc<Cover>);

/// Fit covers to what is watched. Sent to itself.
#[derive(Message)]
#[rtype(result = "()")]
struct TidyTick;

/// Holds the watches on the cluster.
#[derive(Debug)]
pub(super) struct Upstream {
    covers: Covers,
    /// The threads on which watchers live.
    workers: Vec<ArbiterHandle>,
}

impl Drop for Upstream {
    /// Nobody asks it to stop: it ends with its arbiter, or of a panic, and then the next one takes its place.
    fn drop(&mut self) {
        if std::thread::panicking() && !fault::active(Fault::DeadUpstreamStays) {
            log::error!("what opens watches on the cluster has panicked; it starts again");
            Self::start_for(self.covers.clone(), self.workers.clone());
        }
    }
}

impl Upstream {
    /// Starts it on the arbiter of the covers, in place of the one before.
    pub(super) fn start_for(covers: Covers, workers: Vec<ArbiterHandle>) {
        let arbiter = covers.arbiter().clone();
        // An arbiter that has stopped feeds nobody any more.
        let _ = arbiter.spawn_fn(move || {
            let upstream = Self {
                covers: covers.clone(),
                workers,
            };
            // It looks for covers only when this has returned: one that it does not find there is told to it.
            covers.opened_by(upstream.start());
        });
    }

    /// Begins to feed a cover that nobody has begun to feed.
    fn feed(&self, cover: Arc<Cover>) {
        if cover.take_up() {
            let feed = Feed::new(cover, self.covers.clone(), self.workers.clone());
            actix_rt::spawn(feed.run());
        }
    }
}

impl Actor for Upstream {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for cover in self.covers.all() {
            self.feed(cover);
        }
        let interval = self.covers.limits().tidy_interval;
        ctx.run_interval(interval, |_, ctx| ctx.notify(TidyTick));
    }
}

impl Handler<Open> for Upstream {
    type Result = ();

    fn handle(&mut self, Open(cover): Open, _ctx: &mut Self::Context) {
        self.feed(cover);
    }
}

impl Handler<TidyTick> for Upstream {
    type Result = ();

    fn handle(&mut self, _tick: TidyTick, _ctx: &mut Self::Context) {
        self.covers.tidy();
    }
}

/// Kills the actor that handles it, for tests.
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Poison;

#[cfg(test)]
impl Handler<Poison> for Upstream {
    type Result = ();

    fn handle(&mut self, _poison: Poison, _ctx: &mut Self::Context) {
        std::panic::resume_unwind(Box::new("killed on purpose"));
    }
}
