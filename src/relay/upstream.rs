//! The actor that holds the watches on the cluster: it opens covers, and fits them to what clients watch.
//!
//! Each cover has a feed of its own, which runs here. No event passes through the mailbox.

use super::cover::Cover;
use super::covers::Covers;
use super::feed::Feed;
use actix::prelude::*;
use std::sync::Arc;

/// Covers -> Upstream: begin to feed this one. One per cover.
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

impl Upstream {
    /// Without watches.
    pub(super) fn new(covers: Covers, workers: Vec<ArbiterHandle>) -> Self {
        Self { covers, workers }
    }
}

impl Actor for Upstream {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let interval = self.covers.limits().tidy_interval;
        ctx.run_interval(interval, |_, ctx| ctx.notify(TidyTick));
    }
}

impl Handler<Open> for Upstream {
    type Result = ();

    fn handle(&mut self, Open(cover): Open, _ctx: &mut Self::Context) {
        let feed = Feed::new(cover, self.covers.clone(), self.workers.clone());
        actix_rt::spawn(feed.run());
    }
}

impl Handler<TidyTick> for Upstream {
    type Result = ();

    fn handle(&mut self, _tick: TidyTick, _ctx: &mut Self::Context) {
        self.covers.tidy();
    }
}
