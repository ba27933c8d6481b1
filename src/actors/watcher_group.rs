//! The synced watchers of one worker: takes commits from the ring, in turns, and delivers them to whoever wants them.
//!
//! A turn is one message per watcher, however many revisions it holds, and while it lasts the mailbox is closed. The
//! group never waits for a watcher, never asks the store, and never touches the disk; who cannot keep up *moves*, to
//! `VictimRetry` when its mailbox is full and to Sync when the ring has no more of what it wants.

mod hold;

use super::hooks::{self, HookPoint, Met};
use super::progress::Progress;
use super::protocol::{
    CaughtUp, Committed, Drained, Forget, HistoryCompacted, Hold, Inspect, Inspection, Lagging,
    Later, NewWatcher, Register, RequestProgress, Retire, Role, Stalled,
};
use super::stream::{Link, StreamState};
use super::supervision::{Tripwire, Worker};
use super::turn::{Leaving, Turn, deliver_through};
use crate::fault::{self, Fault};
use crate::model::{Commit, Revision};
use crate::watch::{Entry, Owed, RingRead, Roster};
use actix::prelude::*;
use hold::Holds;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::task::yield_now;

/// The synced watchers of one worker.
#[derive(Debug)]
pub(crate) struct WatcherGroup {
    /// How far the ring has to be read before anything waiting is judged: its head when the last message came (W3).
    goal: Revision,
    /// Who watches what, and the last revision handled.
    roster: Roster<Link>,
    /// The turn under way.
    turn: Option<Turn>,
    /// Entries that come back, each taken in by [`Self::take_back`].
    returning: VecDeque<Entry<Link>>,
    /// Orders that wait until the group is level with its goal.
    orders: VecDeque<Order>,
    /// Progress requests, and the watchers that are held back for them.
    progress: Progress,
    /// Parts of streams that are held for an answer that others give.
    holds: Holds,
    /// The revision at which pending progress was last tried.
    progress_tried: Revision,
    /// The worker that this group belongs to.
    worker: Arc<Worker>,
    /// Reports a death that nobody asked for.
    tripwire: Tripwire,
}

/// An order that waits until the group is level.
#[derive(Debug)]
enum Order {
    Register(Register, Later<Revision>),
    Progress(Arc<StreamState>, Later<()>),
    Hold(Hold),
    ProgressOfAll,
}

/// Tell quiet watchers how far they have come. Sent to itself.
#[derive(Message)]
#[rtype(result = "()")]
struct ProgressTick;

impl WatcherGroup {
    /// A group without watchers at the ring's head.
    pub(crate) fn new(worker: Arc<Worker>, epoch: u64) -> Self {
        let revision = worker.group_revision();
        let tripwire = Tripwire::new(Role::WatcherGroup, worker.number, epoch, &worker.shared);
        Self {
            goal: revision,
            roster: Roster::new(revision),
            turn: None,
            returning: VecDeque::new(),
            orders: VecDeque::new(),
            progress: Progress::default(),
            holds: Holds::default(),
            progress_tried: revision,
            worker,
            tripwire,
        }
    }

    /// Works until there is nothing left to do, a slice at a time. Between slices others on this thread run, but the
    /// mailbox stays closed, so that a turn stays one (W2).
    fn advance(&mut self, ctx: &mut Context<Self>) {
        if self.step() {
            let pause = yield_now().into_actor(self);
            ctx.wait(pause.map(|(), group, ctx| group.advance(ctx)));
        } else if fault::active(Fault::WakeUpClearedLate) {
            self.worker.clear_wake_up();
        }
    }

    /// One slice of work; true when there is more.
    fn step(&mut self) -> bool {
        if self.turn.is_some() {
            self.deliver_slice();
            return true;
        }
        if !self.returning.is_empty() {
            let slice = self
                .worker
                .limits()
                .entries_per_slice_max
                .min(self.returning.len());
            let entries: Vec<_> = self.returning.drain(..slice).collect();
            for entry in entries {
                self.take_back(entry);
            }
            return true;
        }
        if self.revision() < self.goal && self.begin_turn() {
            return true;
        }
        if self.revision() != self.progress_tried {
            // A start may have been reached though nothing was delivered that would tell of it.
            self.progress_tried = self.revision();
            self.try_all_progress();
        }
        while let Some(order) = self.orders.pop_front() {
            match order {
                Order::Register(register, reply) => self.register(register, reply),
                Order::Progress(stream, reply) => {
                    self.progress.request(&stream);
                    self.try_progress(&stream);
                    reply.reply(());
                }
                Order::Hold(hold) => self.hold(hold),
                Order::ProgressOfAll => {
                    let (roster, revision) = (&self.roster, self.revision());
                    self.progress
                        .tell_all(revision, |watcher| roster.get(watcher));
                }
            }
        }
        !self.returning.is_empty()
    }

    /// Reads the next stretch of the ring; false when there is none.
    fn begin_turn(&mut self) -> bool {
        let limits = self.worker.limits().batch;
        // Between two turns everything delivered before has usually arrived, so now progress has its best chance.
        self.try_all_progress();
        let ring = &self.worker.shared.ring;
        // Whoever is in the roster was registered where the group stood, or has been brought there.
        match ring.read_on(
            self.revision(),
            limits.delivery_bytes_max,
            limits.revisions_per_batch_max,
        ) {
            RingRead::Commits(commits) => self.begin_turn_over(&commits),
            RingRead::Quiet(revision) => self.arrive(revision),
            RingRead::Level => return false,
            RingRead::Overrun => self.give_up_the_ring(),
        }
        true
    }

    fn begin_turn_over(&mut self, commits: &[Arc<Commit>]) {
        let after = commits
            .last()
            .map_or(self.revision(), |commit| commit.revision);
        let matches = self.roster.matching(commits, &self.worker.limits().batch);
        self.turn = Some(Turn::new(self.revision(), after, matches));
    }

    /// The ring has lost what comes next: everyone reads it from history (W5).
    fn give_up_the_ring(&mut self) {
        let head = self.worker.shared.ring.head();
        let mut entries = self.roster.take_all();
        if !entries.is_empty() {
            hooks::met(Met::Overrun);
        }
        for entry in &mut entries {
            entry.link.leave_roster();
        }
        self.arrive(head);
        self.send_lagging(entries);
    }

    /// The last revision handled.
    fn revision(&self) -> Revision {
        self.roster.revision()
    }

    fn arrive(&mut self, revision: Revision) {
        self.roster.advance(revision);
        self.worker.set_group_revision(revision);
    }

    /// Delivers to so many entries; the last slice ends the turn.
    fn deliver_slice(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        let entries_max = self.worker.limits().entries_per_slice_max;
        let leaving = turn.deliver_slice(&mut self.roster, entries_max);
        if let Some(after) = turn.end() {
            self.turn = None;
            self.arrive(after);
        }
        self.send_off(leaving);
    }

    /// Sends those that left the roster where they belong.
    fn send_off(&mut self, leaving: Vec<(Entry<Link>, Leaving)>) {
        let (mut stalled, mut lagging) = (Vec::new(), Vec::new());
        for (mut entry, reason) in leaving {
            match reason {
                Leaving::Stalled(pinned) => {
                    entry.link.leave_roster();
                    stalled.push((entry, pinned));
                }
                Leaving::Lagging => {
                    entry.link.leave_roster();
                    lagging.push(entry);
                }
                Leaving::Held => {
                    // Held entries count as in the roster: up to the held revision they have everything.
                    hooks::met(Met::Held);
                    if let Some(entry) = self.holds.keep(entry) {
                        self.progress.hold(entry);
                    }
                }
                Leaving::Gone => drop(entry),
            }
        }
        self.send_stalled(stalled);
        self.send_lagging(lagging);
    }

    fn send_stalled(&self, victims: Vec<(Entry<Link>, Owed)>) {
        if !victims.is_empty() && !fault::once(Fault::OneStalledDropped) {
            self.worker.tell_victim_retry(Stalled { victims });
        }
    }

    fn send_lagging(&self, entries: Vec<Entry<Link>>) {
        if !entries.is_empty() {
            self.worker.tell_sync(Lagging { entries });
        }
    }

    /// Takes an entry back: level with the group it joins the roster, and what little it lacks is delivered from the
    /// ring here and now, so that a hand-off ends under any write rate (L2). Too far behind, it goes (back) to Sync.
    fn take_back(&mut self, mut entry: Entry<Link>) {
        if entry.link.is_gone() {
            return;
        }
        let level = entry.next_revision > self.revision();
        if level || fault::active(Fault::HandOverWithoutLastStretch) {
            return self.join(entry);
        }
        match deliver_through(&self.worker, &mut entry, self.revision()) {
            None => self.join(entry),
            Some(reason) => self.send_off(vec![(entry, reason)]),
        }
    }

    fn join(&mut self, mut entry: Entry<Link>) {
        entry.link.join_roster();
        let stream = Arc::clone(&entry.link.shared.stream);
        self.roster.insert(entry);
        if stream.progress_pending.load(Ordering::Acquire) {
            self.try_progress(&stream);
            self.try_hold(&stream);
        }
    }

    /// New watchers, judged against the group's revision in the group's own turn (W3).
    fn register(&mut self, register: Register, reply: Later<Revision>) {
        for watcher in register.watchers {
            self.take_in(watcher);
        }
        reply.reply(self.revision());
    }

    fn take_in(&mut self, watcher: NewWatcher) {
        let NewWatcher { mut entry, start } = watcher;
        let revision = self.revision();
        if entry.link.is_gone() {
            return;
        }
        entry.link.tell_created(revision);
        if entry.link.shared.terms.progress_notify {
            self.progress.notify(entry.id, &entry.link.shared);
        }
        entry.next_revision = start.unwrap_or(revision.next());
        if entry.next_revision > revision {
            return self.join(entry);
        }
        let stream = Arc::clone(&entry.link.shared.stream);
        self.send_lagging(vec![entry]);
        if stream.progress_pending.load(Ordering::Acquire) {
            // It may take long to read the past, and nobody is held for that.
            self.try_progress(&stream);
            self.try_hold(&stream);
        }
    }

    /// Answers a stream's progress request if it can be answered now, and lets go of what was held for it (P2).
    fn try_progress(&mut self, stream: &Arc<StreamState>) {
        let entries = self.progress.answer(stream, self.revision());
        self.give_back(entries);
    }

    fn try_all_progress(&mut self) {
        for stream in self.progress.waiting() {
            self.try_progress(&stream);
        }
        self.try_all_holds();
    }

    fn order(&mut self, order: Order, ctx: &mut Context<Self>) {
        self.orders.push_back(order);
        if !fault::active(Fault::JudgedBeforeLevel) {
            self.look_at_the_ring();
        }
        self.advance(ctx);
    }

    /// Clears the flag before the ring is read: a commit after this tells again (W2).
    fn hear_of_commits(&mut self) {
        if !fault::active(Fault::WakeUpClearedLate) {
            self.worker.clear_wake_up();
        }
        self.look_at_the_ring();
    }

    fn look_at_the_ring(&mut self) {
        self.goal = self.worker.shared.ring.head();
    }
}

impl Actor for WatcherGroup {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Whoever was told of commits while there was no group has told nobody, and it would never be told again: the
        // wake-up counts as in flight.
        if !fault::active(Fault::GroupStartsDeaf) {
            self.hear_of_commits();
        }
        self.advance(ctx);
        let interval = self.worker.limits().progress_notify_interval;
        ctx.run_interval(interval, |_, ctx| ctx.notify(ProgressTick));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        if !std::thread::panicking() {
            self.tripwire.disarm();
        }
    }
}

impl Handler<Committed> for WatcherGroup {
    type Result = ();

    fn handle(&mut self, _committed: Committed, ctx: &mut Self::Context) {
        self.hear_of_commits();
        self.advance(ctx);
    }
}

impl Handler<Register> for WatcherGroup {
    type Result = Later<Revision>;

    fn handle(&mut self, register: Register, ctx: &mut Self::Context) -> Self::Result {
        let (returned, kept) = Later::new();
        self.order(Order::Register(register, kept), ctx);
        returned
    }
}

impl Handler<RequestProgress> for WatcherGroup {
    type Result = Later<()>;

    fn handle(&mut self, request: RequestProgress, ctx: &mut Self::Context) -> Self::Result {
        let (returned, kept) = Later::new();
        hooks::pass(HookPoint::ProgressCheck, self, ctx, |group, ctx| {
            group.order(Order::Progress(request.stream, kept), ctx);
        });
        returned
    }
}

impl Handler<HistoryCompacted> for WatcherGroup {
    type Result = ();

    fn handle(&mut self, _compacted: HistoryCompacted, ctx: &mut Self::Context) {
        self.order(Order::ProgressOfAll, ctx);
    }
}

impl Handler<CaughtUp> for WatcherGroup {
    type Result = ();

    fn handle(&mut self, caught_up: CaughtUp, ctx: &mut Self::Context) {
        hooks::met(Met::HandOver);
        self.returning.extend(caught_up.entries);
        self.advance(ctx);
    }
}

impl Handler<Drained> for WatcherGroup {
    type Result = ();

    fn handle(&mut self, drained: Drained, ctx: &mut Self::Context) {
        self.returning.extend(drained.entries);
        self.advance(ctx);
    }
}

impl Handler<Forget> for WatcherGroup {
    type Result = ();

    fn handle(&mut self, forget: Forget, ctx: &mut Self::Context) {
        match forget {
            Forget::Watcher(_) if fault::active(Fault::ForgetIgnored) => {}
            Forget::Watcher(watcher) => {
                self.progress.forget_notified(watcher);
                // Nearly all are in the roster, and the others are looked for one by one.
                let entry = self.roster.remove(watcher);
                let entry = entry.or_else(|| self.progress.forget_watcher(watcher));
                if let Some(entry) = entry.or_else(|| self.holds.forget_watcher(watcher)) {
                    // Its start may have been in the way of the stream's progress.
                    self.try_progress(&entry.link.shared.stream);
                    self.try_hold(&entry.link.shared.stream);
                    self.advance(ctx);
                }
            }
            Forget::Stream(stream) => {
                self.worker.forget(stream.id);
                drop(self.progress.forget_stream(&stream));
                drop(self.holds.forget_stream(&stream));
                let watchers = std::mem::take(&mut *stream.watches());
                for live in watchers.into_values() {
                    // Where nothing is shared any more there is no entry either.
                    let Some(shared) = live.shared.upgrade() else {
                        continue;
                    };
                    drop(self.roster.remove(shared.watcher));
                    self.progress.forget_notified(shared.watcher);
                }
            }
        }
    }
}

impl Handler<Inspect> for WatcherGroup {
    type Result = Inspection;

    fn handle(&mut self, _inspect: Inspect, _ctx: &mut Self::Context) -> Inspection {
        let (synced, held) = (self.roster.len(), self.progress.held() + self.holds.len());
        Inspection::WatcherGroup {
            revision: self.revision(),
            synced,
            held,
        }
    }
}

impl Handler<ProgressTick> for WatcherGroup {
    type Result = ();

    fn handle(&mut self, _tick: ProgressTick, ctx: &mut Self::Context) {
        hooks::pass(HookPoint::ProgressCheck, self, ctx, |group, _| {
            let (roster, revision) = (&group.roster, group.revision());
            group.progress.tick(revision, |watcher| roster.get(watcher));
        });
    }
}

impl Handler<Retire> for WatcherGroup {
    type Result = ();

    fn handle(&mut self, _retire: Retire, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
