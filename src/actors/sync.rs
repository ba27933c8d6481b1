//! The unsynced watchers of one worker: reads history once for many of them, in bounded slices, and hands each back to
//! the group when it has caught up.
//!
//! It never delivers beyond what its group has handled (L1), never has more than one delivery outstanding per watcher
//! (L3), and never waits for the disk: a read comes back as a message. It is woken by events; its tick is only a net.

use super::delivery::Sent;
use super::history::Narrow;
use super::hooks::{self, HookPoint};
use super::outbox::StreamEnd;
use super::protocol::{CaughtUp, Inspect, Inspection, Lagging, Retire, Role, Roomy, Stalled};
use super::stream::{Link, WantedBy};
use super::supervision::{Tripwire, Worker};
use crate::fault::{self, Fault};
use crate::model::{Commit, KeyRange, Refusal, Revision};
use crate::storage::{ReadError, Stretch, Wanted};
use crate::watch::{CatchUp, CatchUpLimits, Entry, Handout, Owed, Pick, Plan, RingRead, WatcherId};
use actix::prelude::*;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use tokio::task::yield_now;

/// The unsynced watchers of one worker.
#[derive(Debug)]
pub(crate) struct Sync {
    /// Who lags, and where.
    catch_up: CatchUp<Link>,
    /// A read is on its way; nothing else is begun meanwhile.
    reading: bool,
    /// What was read and is not yet delivered.
    handouts: VecDeque<Handout>,
    /// What was read but lacks previous values, because the readers were busy.
    unfilled: VecDeque<Handout>,
    /// The group's revision when the last read was planned: whoever has been served up to it goes back to the group,
    /// which delivers what was committed since (L2).
    served: Revision,
    /// Stretches of history read from the disk so far.
    stretches_read: u64,
    /// Narrow look-ups by revision so far.
    picks_read: u64,
    /// The worker that this Sync belongs to.
    worker: Arc<Worker>,
    /// Reports a death that nobody asked for.
    tripwire: Tripwire,
}

/// History has been read. Sent to itself by a reader, one in flight.
#[derive(Message)]
#[rtype(result = "()")]
enum Read {
    Stretch {
        from: Revision,
        /// What was asked for; all there is when nothing.
        outline: Option<KeyRange>,
        read: Result<Stretch, ReadError>,
    },
    Picked {
        pick: Pick,
        read: Result<Vec<Arc<Commit>>, ReadError>,
    },
    PrevFilled {
        handouts: VecDeque<Handout>,
        read: Result<(), ReadError>,
    },
    /// The reader died and took the answer with it.
    Lost,
}

/// The way of a read back to Sync, which is told even if the read dies.
struct Answer(Option<Addr<Sync>>);

impl Answer {
    fn give(mut self, read: Read) {
        if let Some(sync) = self.0.take() {
            sync.do_send(read);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(sync) = self.0.take() {
            sync.do_send(Read::Lost);
        }
    }
}

/// Look whether a wake-up was missed. Sent to itself.
#[derive(Message)]
#[rtype(result = "()")]
struct SyncTick;

impl Sync {
    /// A Sync to which nobody lags.
    pub(crate) fn new(worker: Arc<Worker>, epoch: u64) -> Self {
        let tripwire = Tripwire::new(Role::Sync, worker.number, epoch, &worker.shared);
        let limits = CatchUpLimits {
            batch: worker.limits().batch,
            ..CatchUpLimits::default()
        };
        let catch_up = CatchUp::new(limits);
        let served = worker.group_revision();
        Self {
            catch_up,
            reading: false,
            handouts: VecDeque::new(),
            unfilled: VecDeque::new(),
            served,
            stretches_read: 0,
            picks_read: 0,
            worker,
            tripwire,
        }
    }

    /// Works until there is nothing to do or a read is on its way. Between slices others on this thread run.
    fn advance(&mut self, ctx: &mut Context<Self>) {
        hooks::pass(HookPoint::SyncSlice, self, ctx, |sync, ctx| {
            if sync.step(ctx) {
                let pause = yield_now().into_actor(sync);
                ctx.wait(pause.map(|(), sync, ctx| sync.advance(ctx)));
            }
        });
    }

    /// One slice of work; true when there is more.
    ///
    /// 1. What was read is delivered first: until then nobody's position may be judged.
    /// 2. Whoever wants what is compacted is told so (L6).
    /// 3. Whoever has been served up to the group's revision goes back to it.
    /// 4. The next read is planned and begun.
    fn step(&mut self, ctx: &mut Context<Self>) -> bool {
        if self.reading {
            return false;
        }
        if !self.unfilled.is_empty() {
            let unfilled = std::mem::take(&mut self.unfilled);
            self.hand_out(unfilled, ctx);
            return !self.reading;
        }
        if !self.handouts.is_empty() {
            self.deliver_slice();
            return true;
        }
        let slice = self.worker.limits().entries_per_slice_max.max(1);
        let compact_revision = self.worker.shared.history.compact_revision();
        let compacted = self.catch_up.compacted(compact_revision, slice);
        if !compacted.is_empty() {
            self.tell_compacted(compacted, compact_revision);
            return true;
        }
        let entries = self.catch_up.level(self.served, slice);
        if !entries.is_empty() {
            self.worker.tell_group(CaughtUp { entries });
            return true;
        }
        self.served = if fault::active(Fault::SyncBeyondGroup) {
            self.worker.shared.ring.head()
        } else {
            self.worker.group_revision()
        };
        let (history, limits) = (&self.worker.shared.history, self.worker.limits());
        let max = Narrow {
            keys: limits.narrow_keys_max,
            revisions: limits.narrow_revisions_max,
        };
        let plan = self.catch_up.plan(self.served, |range, from, through| {
            match history.revisions_of(range, from..=through, max) {
                Wanted::Revisions(revisions) => Some(revisions),
                Wanted::Dense => None,
            }
        });
        match plan {
            Plan::Idle => false,
            Plan::Again => true,
            Plan::Scan { from, through } => self.scan(from, through, ctx),
            Plan::Pick(pick) => self.pick(pick, ctx),
        }
    }

    /// Reads a stretch: from the ring when it has it, else from the disk. True when it is read already.
    fn scan(&mut self, from: Revision, through: Revision, ctx: &mut Context<Self>) -> bool {
        let limits = self.worker.limits().batch;
        let ring = &self.worker.shared.ring;
        match ring.read(
            from.previous(),
            limits.delivery_bytes_max,
            limits.revisions_per_batch_max,
        ) {
            RingRead::Commits(mut commits) => {
                let last = commits.last().map_or(through, |commit| commit.revision);
                commits.retain(|commit| commit.revision <= through);
                self.absorb(&commits, from..last.min(through).next(), None, ctx);
                true
            }
            RingRead::Quiet(_) | RingRead::Level => {
                self.absorb(&[], from..through.next(), None, ctx);
                true
            }
            RingRead::Overrun => {
                self.reading = true;
                self.stretches_read += 1;
                let answer = Answer(Some(ctx.address()));
                let outline = self.catch_up.outline();
                let of = outline.clone();
                let done = move |read| {
                    answer.give(Read::Stretch {
                        from,
                        outline,
                        read,
                    });
                };
                let history = &self.worker.shared.history;
                history.history(from, through, of, Box::new(done));
                false
            }
        }
    }

    /// Reads the few revisions that a narrow class wants (L4).
    fn pick(&mut self, pick: Pick, ctx: &mut Context<Self>) -> bool {
        self.reading = true;
        self.picks_read += 1;
        let answer = Answer(Some(ctx.address()));
        let (range, revisions) = (pick.class.range.clone(), pick.revisions.clone());
        let done = move |read| answer.give(Read::Picked { pick, read });
        self.worker
            .shared
            .history
            .commits_at(range, revisions, Box::new(done));
        false
    }

    fn absorb(
        &mut self,
        commits: &[Arc<Commit>],
        covered: Range<Revision>,
        outline: Option<&KeyRange>,
        ctx: &mut Context<Self>,
    ) {
        let handouts = self.catch_up.absorb(commits, covered, outline);
        self.hand_out(handouts.into(), ctx);
    }

    /// Delivers what was read, after the previous values that it lacks have been looked up (W7).
    fn hand_out(&mut self, handouts: VecDeque<Handout>, ctx: &mut Context<Self>) {
        let missing: Vec<_> = handouts
            .iter()
            .flat_map(|handout| handout.prev_missing.iter().map(Arc::clone))
            .collect();
        if missing.is_empty() {
            self.handouts.extend(handouts);
            return;
        }
        self.reading = true;
        let answer = Answer(Some(ctx.address()));
        let done = move |read| answer.give(Read::PrevFilled { handouts, read });
        self.worker
            .shared
            .history
            .fill_prev(missing, Box::new(done));
    }

    fn deliver_slice(&mut self) {
        let mut left = self.worker.limits().entries_per_slice_max.max(1);
        let mut victims = Vec::new();
        while left > 0 {
            let Some(handout) = self.handouts.front_mut() else {
                break;
            };
            let share = handout.watchers.len();
            let batch = Arc::clone(&handout.batch);
            let slice = handout.watchers.split_off(share.saturating_sub(left));
            left -= slice.len();
            if handout.watchers.is_empty() {
                self.handouts.pop_front();
            }
            for watcher in slice {
                let Some(link) = self.catch_up.link_mut(watcher) else {
                    continue;
                };
                match link.deliver(&batch, share) {
                    Sent::Sent => self.await_delivery(watcher),
                    Sent::Full if fault::active(Fault::FullInSyncForgotten) => {
                        drop(self.catch_up.remove(watcher));
                    }
                    Sent::Full => {
                        let entry = self.catch_up.remove(watcher);
                        victims
                            .extend(entry.map(|entry| (entry, Owed::Events(Arc::clone(&batch)))));
                    }
                    Sent::Gone => drop(self.catch_up.remove(watcher)),
                }
            }
        }
        self.send_stalled(victims);
    }

    /// Messages are outstanding: their guards tell when one is handled, and when all are, the watcher is ready (L3).
    fn await_delivery(&mut self, watcher: WatcherId) {
        let Some(entry) = self.catch_up.get(watcher) else {
            return;
        };
        let shared = &entry.link.shared;
        shared.want(WantedBy::Sync);
        // Handled before the wish was placed: nobody would tell.
        if shared.in_flight() == 0 || fault::active(Fault::SecondDeliveryOutstanding) {
            shared.unwant();
            self.catch_up.delivered(watcher);
        }
    }

    fn tell_compacted(&mut self, compacted: Vec<Entry<Link>>, compact_revision: Revision) {
        let mut victims = Vec::new();
        for entry in compacted {
            if fault::active(Fault::CompactedNotTold) {
                continue;
            }
            if entry.link.deliver_compacted(compact_revision) == Sent::Full {
                victims.push((entry, Owed::Compacted(compact_revision)));
            }
        }
        self.send_stalled(victims);
    }

    fn send_stalled(&self, victims: Vec<(Entry<Link>, Owed)>) {
        if !victims.is_empty() {
            self.worker.tell_victim_retry(Stalled { victims });
        }
    }

    /// A read that did not succeed. Compacted: the next step tells whom it concerns. Busy: the net tries again. Failed:
    /// what cannot be read is never skipped, so whoever needs it is told to come back.
    fn read_failed(&mut self, error: &ReadError) {
        match error {
            ReadError::Refused(Refusal::Compacted { .. }) | ReadError::Busy => {}
            ReadError::Refused(_) | ReadError::Failed(_) => {
                log::error!("history cannot be read, and the streams that need it end: {error}");
                self.end_all();
            }
        }
    }

    fn end_all(&mut self) {
        for entry in self.catch_up.take_all() {
            let stream = &entry.link.shared.stream;
            stream.end(StreamEnd::Unavailable("history cannot be read"));
        }
    }

    /// True when what was read may be handed out: looked at *after* the read, because a compaction may have overtaken it
    /// (L6). Whoever wants older is taken out first.
    fn take_out_compacted(&mut self) {
        let compact_revision = self.worker.shared.history.compact_revision();
        let compacted = self.catch_up.compacted(compact_revision, usize::MAX);
        self.tell_compacted(compacted, compact_revision);
    }
}

impl Actor for Sync {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let interval = self.worker.limits().sync_net_interval;
        ctx.run_interval(interval, |_, ctx| ctx.notify(SyncTick));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        if !std::thread::panicking() {
            self.tripwire.disarm();
        }
    }
}

impl Handler<Lagging> for Sync {
    type Result = ();

    fn handle(&mut self, lagging: Lagging, ctx: &mut Self::Context) {
        // Whoever comes now has not been served up to here.
        self.served = self.worker.group_revision();
        for entry in lagging.entries {
            if entry.link.is_gone() {
                continue;
            }
            self.catch_up.insert(entry);
        }
        self.advance(ctx);
    }
}

impl Handler<Roomy> for Sync {
    type Result = ();

    fn handle(&mut self, roomy: Roomy, ctx: &mut Self::Context) {
        let Roomy::Watcher(watcher) = roomy else {
            return;
        };
        self.await_delivery(watcher);
        self.advance(ctx);
    }
}

impl Handler<Inspect> for Sync {
    type Result = Inspection;

    fn handle(&mut self, _inspect: Inspect, _ctx: &mut Self::Context) -> Inspection {
        let (stretches_read, picks_read) = (self.stretches_read, self.picks_read);
        Inspection::Sync {
            unsynced: self.catch_up.len(),
            stretches_read,
            picks_read,
        }
    }
}

impl Handler<Read> for Sync {
    type Result = ();

    fn handle(&mut self, read: Read, ctx: &mut Self::Context) {
        self.reading = false;
        match read {
            Read::Stretch {
                from,
                outline,
                read: Ok(stretch),
            } => {
                self.take_out_compacted();
                let covered = from..stretch.next;
                self.absorb(&stretch.commits, covered, outline.as_ref(), ctx);
            }
            Read::Picked {
                pick,
                read: Ok(commits),
            } => {
                self.take_out_compacted();
                let handouts = self.catch_up.absorb_pick(&pick, &commits, pick.next);
                self.hand_out(handouts.into(), ctx);
            }
            Read::PrevFilled {
                handouts,
                read: Ok(()),
            } => self.handouts.extend(handouts),
            Read::Stretch {
                read: Err(error), ..
            }
            | Read::Picked {
                read: Err(error), ..
            } => {
                self.read_failed(&error);
                if matches!(error, ReadError::Busy) {
                    return;
                }
            }
            Read::PrevFilled {
                handouts,
                read: Err(error),
            } => {
                self.read_failed(&error);
                if matches!(error, ReadError::Busy) {
                    // Their positions already stand behind the events, so these have to be delivered, and in full. Not
                    // at once, which would be asking again and again without end, but with the next message.
                    self.unfilled = handouts;
                    return;
                }
            }
            Read::Lost => {
                log::error!("a read of history died, and the streams that need it end");
                self.end_all();
            }
        }
        self.advance(ctx);
    }
}

impl Handler<SyncTick> for Sync {
    type Result = ();

    fn handle(&mut self, _tick: SyncTick, ctx: &mut Self::Context) {
        self.advance(ctx);
    }
}

impl Handler<Retire> for Sync {
    type Result = ();

    fn handle(&mut self, _retire: Retire, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// As if a reader had died with an answer in its hands.
#[cfg(test)]
pub(crate) fn lose_an_answer_for_test(sync: Addr<Sync>) {
    drop(Answer(Some(sync)));
}
