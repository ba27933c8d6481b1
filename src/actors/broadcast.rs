//! Commits from elsewhere, and the watch sides that deliver them: a ring, and on each worker thread the three actors that an
//! engine has there too.
//!
//! Whoever publishes is the ring's one writer. Nothing here knows where commits come from, and nothing here delivers one.

use super::history::History;
use super::inspecting;
use super::limits::EngineLimits;
use super::outbox::Outbox;
use super::protocol::{Committed, Inspection, Retire};
use super::supervision::{Shared, Supervision, Worker};
use super::watch_stream::WatchStream;
use crate::model::{Commit, Revision};
use crate::watch::RingRead;
use actix::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The watch sides of one order of commits.
#[derive(Debug)]
pub(crate) struct Broadcast {
    shared: Arc<Shared>,
    workers: Vec<Arc<Worker>>,
    supervision: Addr<Supervision>,
}

impl Broadcast {
    /// Starts a watch side on each of these arbiters, for what comes after `head`. Has to be called inside a running actix
    /// System, on a thread that stays: the deaths of actors are heard of there.
    pub(crate) async fn start(
        history: Arc<dyn History>,
        head: Revision,
        limits: EngineLimits,
        watches: Arc<AtomicUsize>,
        arbiters: &[ArbiterHandle],
    ) -> Self {
        let shared = Arc::new(Shared::new(history, head, limits, watches));
        let (workers, supervision) = Supervision::start_workers(&shared, arbiters).await;
        Self {
            shared,
            workers,
            supervision,
        }
    }

    /// Everything up to here was published.
    pub(crate) fn head(&self) -> Revision {
        self.shared.ring.head()
    }

    /// What comes after a revision, as far as the ring has it, for whoever has read up to there.
    pub(crate) fn read_on(&self, after: Revision) -> RingRead {
        let limits = self.shared.limits.batch;
        let (bytes, revisions) = (limits.delivery_bytes_max, limits.revisions_per_batch_max);
        self.shared.ring.read_on(after, bytes, revisions)
    }

    /// Publishes commits, ascending and all behind the head.
    pub(crate) fn publish(&self, commits: &[Arc<Commit>]) {
        self.shared.ring.append(commits);
        self.wake();
    }

    /// Nothing else has happened up to here.
    pub(crate) fn advance(&self, to: Revision) {
        if to > self.head() {
            self.shared.ring.advance(to);
            self.wake();
        }
    }

    /// There is more to be told of from now on than before: whoever wants that too has to be registered afterwards.
    pub(crate) fn widen(&self) {
        self.shared.ring.widen();
    }

    /// What the ring holds is not all there is: everything up to here comes from history, if at all.
    pub(crate) fn restart(&self, to: Revision) {
        self.shared.ring.restart(to);
        self.wake();
    }

    /// A part of a client's stream, on a worker. To be called on that worker's own thread.
    pub(crate) fn open_part(&self, worker: usize, outbox: &Arc<Outbox>) -> Option<WatchStream> {
        let worker = self.workers.get(worker)?;
        Some(WatchStream::part(worker, outbox))
    }

    /// Ends all streams that have a part here; their clients resume by revision.
    pub(crate) fn end_streams(&self, reason: &'static str) {
        for worker in &self.workers {
            worker.end_streams(reason);
        }
    }

    /// What the actors hold.
    pub(crate) async fn inspect(&self) -> Vec<Inspection> {
        inspecting::watch_sides(&self.workers).await
    }

    /// A ring has grown or moved on: every worker is told that has no such word in flight.
    fn wake(&self) {
        for worker in &self.workers {
            if !worker.committed_in_flight.swap(true, Ordering::SeqCst) {
                worker.tell_group(Committed);
            }
        }
    }
}

impl Drop for Broadcast {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.stop_watch_side();
        }
        self.supervision.do_send(Retire);
    }
}
