//! The only writer: queues writes, commits them in groups, and publishes what is durable.
//!
//! It never lets anyone see what is not durable, never retries the disk after an error, and never reads for others.
//! It blocks on the disk, so it lives on an arbiter of its own.

mod auto_compaction;
mod upkeep;

use super::protocol::{
    Apply, Close, Committed, Compact, HistoryCompacted, Inspect, Inspection, Later, LeaseChange,
    LeasesChanged, OrderError, Permit, Role,
};
use super::supervision::{Shared, Tripwire, Worker};
use crate::fault::{self, Fault};
use crate::model::{Commit, LeaseGrant, Refusal, Revision, Write, WriteAnswer};
use crate::storage::{ApplyError, CompactionStep, StorageError, Writer};
use actix::prelude::*;
use auto_compaction::AutoCompactor;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The pause between two chunks of a compaction, so that writes go between them: etcd pauses 10 ms per 1000 revisions.
const COMPACTION_PAUSE: Duration = Duration::from_millis(1);

/// How often a compaction that waits for a read of all of the store looks whether it has ended.
const COMPACTION_HELD_PAUSE: Duration = Duration::from_millis(100);

/// After how many such looks those are given up who have not read on in between: a minute.
const HELD_LOOKS_MAX: u32 = 600;

/// Why the store, or another actor, came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreFailure(pub(crate) String);

/// The only writer.
#[derive(Debug)]
pub(crate) struct Store {
    /// The store on disk; gone once it has been closed or has failed.
    writer: Option<Writer>,
    /// Why it has failed, once it has.
    failed: Option<StoreFailure>,
    /// Writes that wait for the next group, in order.
    queue: VecDeque<Queued>,
    /// Those who wait for the end of the physical compaction up to a revision.
    physical: Vec<(Revision, Later<Result<Revision, OrderError>>)>,
    /// A chunk of compaction is scheduled.
    compacting: bool,
    /// How often a compaction that waits has looked in vain.
    held_looks: u32,
    /// Which compactions come by themselves.
    auto_compactor: AutoCompactor,
    /// What all actors share: limits, ring, the failure that all are told of.
    shared: Arc<Shared>,
    /// Who is told of commits.
    workers: Vec<Arc<Worker>>,
    /// Reports a death that nobody asked for.
    tripwire: Tripwire,
}

#[derive(Debug)]
struct Queued {
    write: Write,
    worker: Option<usize>,
    _permit: Option<Permit>,
    reply: Later<WriteReply>,
}

type WriteReply = Result<WriteAnswer, OrderError>;

/// Commit one group. Sent to itself by the first write of a group; runs once the mailbox is drained.
#[derive(Message)]
#[rtype(result = "()")]
struct CommitTick;

/// Do one chunk of the compaction.
#[derive(Message)]
#[rtype(result = "()")]
struct CompactionTick;

impl Store {
    /// A store that has not started.
    pub(crate) fn new(writer: Writer, shared: Arc<Shared>, workers: Vec<Arc<Worker>>) -> Self {
        let tripwire = Tripwire::new(Role::Store, 0, 0, &shared);
        let (queue, physical) = (VecDeque::new(), Vec::new());
        Self {
            writer: Some(writer),
            failed: None,
            queue,
            physical,
            compacting: false,
            held_looks: 0,
            auto_compactor: AutoCompactor::new(shared.limits.auto_compaction),
            shared,
            workers,
            tripwire,
        }
    }

    /// Applies and commits one group: durable first, then seen, then answered (W1).
    fn commit_group(&mut self) {
        let Some(writer) = &mut self.writer else {
            return self.refuse_all(&self.gone());
        };
        let limits = self.shared.limits.store;
        let want_prev = self.shared.prev_wanted.load(Ordering::SeqCst) > 0;
        let mut bytes = 0;
        let mut replies = Vec::new();
        let mut failure = None;
        while replies.len() < limits.group_ops_max && bytes < limits.group_bytes_max {
            let Some(queued) = self.queue.pop_front() else {
                break;
            };
            bytes += queued.write.bytes();
            match writer.apply(&queued.write, want_prev) {
                Ok(answer) => replies.push((queued, Ok(answer))),
                Err(ApplyError::Refused(refusal)) => {
                    replies.push((queued, Err(OrderError::Refused(refusal))));
                }
                Err(ApplyError::Failed(error)) => {
                    failure = Some(error);
                    self.queue.push_front(queued);
                    break;
                }
            }
        }
        let committed = match failure {
            Some(error) => Err(error),
            None => writer.commit(),
        };
        match committed {
            Ok(commits) => {
                self.publish(&commits);
                self.tell_leases(&replies);
                self.answer(replies);
            }
            Err(error) => {
                let failure = self.fail(&error);
                for (queued, _) in replies {
                    queued
                        .reply
                        .reply(Err(OrderError::Failed(failure.0.clone())));
                }
            }
        }
    }

    /// Answers a group. What a worker's connections wait for is handed to it as one: answered one by one from here, each
    /// would wake the worker, and be a write to its socket, of its own.
    fn answer(&self, replies: Vec<(Queued, WriteReply)>) {
        let mut of_workers: Vec<Vec<_>> = self.workers.iter().map(|_| Vec::new()).collect();
        for (queued, answer) in replies {
            match queued.worker.and_then(|worker| of_workers.get_mut(worker)) {
                Some(of_worker) => of_worker.extend(queued.reply.reply_elsewhere(answer)),
                None => queued.reply.reply(answer),
            }
        }
        for (worker, replies) in self.workers.iter().zip(of_workers) {
            if !replies.is_empty() {
                worker.run(move |_| {
                    for (tx, answer) in replies {
                        // Whoever waited may have gone.
                        drop(tx.send(answer));
                    }
                });
            }
        }
    }

    /// Before anybody is answered, so that whoever hears of a lease can keep it alive.
    fn tell_leases(&self, replies: &[(Queued, WriteReply)]) {
        let change = |(queued, answer): &(Queued, WriteReply)| match queued.write {
            Write::LeaseRevoke(id) if is_kept(answer) => Some(LeaseChange::Kept(id)),
            _ if answer.is_err() => None,
            Write::LeaseGrant(LeaseGrant { id, ttl_seconds }) => {
                Some(LeaseChange::Granted { id, ttl_seconds })
            }
            Write::LeaseRevoke(id) => Some(LeaseChange::Revoked(id)),
            _ => None,
        };
        let changes: Vec<_> = replies.iter().filter_map(change).collect();
        if !changes.is_empty() {
            self.shared.tell_lease(LeasesChanged { changes });
        }
    }

    /// Ring first, then a wake-up for every worker that has none in flight.
    fn publish(&self, commits: &[Arc<Commit>]) {
        if commits.is_empty() {
            return;
        }
        self.shared.ring.append(commits);
        for worker in &self.workers {
            if !worker.committed_in_flight.swap(true, Ordering::SeqCst)
                && !fault::once(Fault::OneWakeUpDropped)
            {
                worker.tell_group(Committed);
            }
        }
    }

    /// An error of the disk is the end of the store: nothing is retried (D4), and everyone is told.
    fn fail(&mut self, error: &StorageError) -> StoreFailure {
        let failure = StoreFailure(error.to_string());
        log::error!("the store has failed and takes no more writes: {error}");
        self.writer = None;
        self.failed = Some(failure.clone());
        self.refuse_all(&OrderError::Failed(failure.0.clone()));
        self.tripwire.trip(failure.clone());
        failure
    }

    fn refuse_all(&mut self, why: &OrderError) {
        for queued in self.queue.drain(..) {
            queued.reply.reply(Err(why.clone()));
        }
        for (_, reply) in self.physical.drain(..) {
            reply.reply(Err(why.clone()));
        }
    }

    /// Why there is no writer.
    fn gone(&self) -> OrderError {
        match &self.failed {
            Some(failure) => OrderError::Failed(failure.0.clone()),
            None => OrderError::Closed,
        }
    }

    /// Commits what is queued and closes the files. Closing twice is no fault.
    fn close(&mut self) -> Result<(), StorageError> {
        while self.writer.is_some() && !self.queue.is_empty() {
            self.commit_group();
        }
        self.tripwire.disarm();
        self.refuse_all(&self.gone());
        self.writer.take().map_or(Ok(()), Writer::close)
    }

    fn schedule_compaction(&mut self, ctx: &mut Context<Self>) {
        if !self.compacting {
            self.compacting = true;
            ctx.notify(CompactionTick);
        }
    }

    fn compact(&mut self, revision: Revision) -> Result<Revision, OrderError> {
        // The writes that came before are part of what is compacted.
        while !self.queue.is_empty() {
            self.commit_group();
        }
        let Some(writer) = &mut self.writer else {
            return Err(self.gone());
        };
        match writer.compact(revision) {
            Ok(()) => {
                let current = writer.revision();
                for worker in &self.workers {
                    worker.tell_group(HistoryCompacted);
                }
                Ok(current)
            }
            Err(ApplyError::Refused(refusal)) => Err(OrderError::Refused(refusal)),
            Err(ApplyError::Failed(error)) => Err(OrderError::Failed(self.fail(&error).0)),
        }
    }
}

/// True when a lease was not revoked, and is still there.
fn is_kept(answer: &WriteReply) -> bool {
    match answer {
        Err(OrderError::Refused(refusal)) => *refusal != Refusal::LeaseNotFound,
        _ => false,
    }
}

impl Actor for Store {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.shared.limits.store.requests_in_flight_max);
        // A crash may have left a compaction half done.
        self.schedule_compaction(ctx);
        self.schedule_auto_compaction(ctx);
        Self::schedule_defragmentation(ctx);
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        if !std::thread::panicking()
            && let Err(error) = self.close()
        {
            log::error!("closing the store: {error}");
        }
    }
}

impl Handler<Apply> for Store {
    type Result = Later<Result<WriteAnswer, OrderError>>;

    fn handle(&mut self, message: Apply, ctx: &mut Self::Context) -> Self::Result {
        let (returned, kept) = Later::new();
        if self.queue.is_empty() {
            ctx.notify(CommitTick);
        }
        self.queue.push_back(Queued {
            write: message.write,
            worker: message.worker,
            _permit: Some(message.permit).filter(|_| !fault::active(Fault::PermitFreedEarly)),
            reply: kept,
        });
        returned
    }
}

impl Handler<Compact> for Store {
    type Result = Later<Result<Revision, OrderError>>;

    fn handle(&mut self, message: Compact, ctx: &mut Self::Context) -> Self::Result {
        let (returned, kept) = Later::new();
        let compacted = self.compact(message.revision);
        if compacted.is_ok() && message.physical {
            self.physical.push((message.revision, kept));
        } else {
            kept.reply(compacted);
        }
        self.schedule_compaction(ctx);
        drop(message.permit);
        returned
    }
}

impl Handler<Close> for Store {
    type Result = Result<(), OrderError>;

    fn handle(&mut self, _close: Close, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        self.close()
            .map_err(|error| OrderError::Failed(error.to_string()))
    }
}

impl Handler<CommitTick> for Store {
    type Result = ();

    fn handle(&mut self, _tick: CommitTick, ctx: &mut Self::Context) {
        self.commit_group();
        if !self.queue.is_empty() {
            ctx.notify(CommitTick);
        }
    }
}

impl Handler<CompactionTick> for Store {
    type Result = ();

    fn handle(&mut self, _tick: CompactionTick, ctx: &mut Self::Context) {
        self.compacting = false;
        let Some(writer) = &mut self.writer else {
            return;
        };
        match writer.compaction_step() {
            Ok(CompactionStep::Idle) => {}
            Ok(CompactionStep::More) => {
                self.compacting = true;
                ctx.notify_later(CompactionTick, COMPACTION_PAUSE);
            }
            Ok(CompactionStep::Held) => {
                self.held_looks += 1;
                if self.held_looks.is_multiple_of(HELD_LOOKS_MAX) {
                    writer.give_up_idle_reads();
                }
                self.compacting = true;
                ctx.notify_later(CompactionTick, COMPACTION_HELD_PAUSE);
            }
            Ok(CompactionStep::Finished(finished)) => {
                let current = writer.revision();
                log::info!("compaction finished, revision {finished}");
                for (_, reply) in self
                    .physical
                    .extract_if(.., |(wanted, _)| *wanted <= finished)
                {
                    reply.reply(Ok(current));
                }
                self.schedule_compaction(ctx);
            }
            Err(error) => {
                self.fail(&error);
            }
        }
    }
}

impl Handler<Inspect> for Store {
    type Result = Inspection;

    fn handle(&mut self, _inspect: Inspect, _ctx: &mut Self::Context) -> Inspection {
        let revision = self.shared.ring.head();
        Inspection::Store {
            revision,
            queued: self.queue.len(),
            compacting: self.compacting,
        }
    }
}
