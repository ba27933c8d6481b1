//! Parts of streams that are held, so that one answer can be given for watches of several rings.
//!
//! A part that is held has everything up to a revision, in its outbox or on the way there, and nothing behind it: what comes next
//! is kept back here. It can be brought further, to the revision at which another part is held, and no further than that. Nobody
//! is held while one of the part's watchers is elsewhere.

use super::super::hooks::{self, HookPoint};
use super::super::protocol::{Hold, LetGo, Quiet};
use super::super::stream::{Link, StreamId, StreamState};
use super::super::turn::{Leaving, deliver_through};
use super::WatcherGroup;
use crate::fault::{self, Fault};
use crate::model::Revision;
use crate::watch::{Entry, WatcherId};
use actix::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// All parts that are held, or are to be.
#[derive(Debug, Default)]
pub(super) struct Holds(BTreeMap<StreamId, Held>);

#[derive(Debug)]
struct Held {
    stream: Arc<StreamState>,
    /// Where it is held; nothing while it is not, because one of its watchers is elsewhere.
    at: Option<Revision>,
    /// Entries that would have been delivered to since.
    entries: Vec<Entry<Link>>,
    /// Who waits until it is held here or further, and quiet.
    wanted: Option<(Revision, oneshot::Sender<Revision>)>,
}

impl Held {
    fn let_go(&mut self) -> Vec<Entry<Link>> {
        self.at = None;
        self.stream.held.store(false, Ordering::Release);
        std::mem::take(&mut self.entries)
    }
}

impl Holds {
    /// How many watchers are held back.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(|held| held.entries.len()).sum()
    }

    /// Keeps an entry back if its stream is held here; else it is returned.
    pub(super) fn keep(&mut self, entry: Entry<Link>) -> Option<Entry<Link>> {
        match self.0.get_mut(&entry.link.shared.stream.id) {
            Some(held) if held.at.is_some() => {
                held.entries.push(entry);
                None
            }
            _ => Some(entry),
        }
    }

    /// A watcher is gone. Returns its entry if it was held.
    pub(super) fn forget_watcher(&mut self, watcher: WatcherId) -> Option<Entry<Link>> {
        self.0.values_mut().find_map(|held| {
            let number = held.entries.iter().position(|entry| entry.id == watcher)?;
            Some(held.entries.swap_remove(number))
        })
    }

    /// A stream is gone, or needs not be held any more. Returns what was held.
    pub(super) fn forget_stream(&mut self, stream: &StreamState) -> Vec<Entry<Link>> {
        let held = self.0.remove(&stream.id);
        held.map_or_else(Vec::new, |mut held| {
            held.stream.progress_pending.store(false, Ordering::Release);
            held.let_go()
        })
    }
}

impl WatcherGroup {
    /// A part is to be held at `through` or further.
    pub(super) fn hold(&mut self, hold: Hold) {
        let Hold {
            stream,
            through,
            reply,
        } = hold;
        if stream.is_closed() {
            return;
        }
        let new = || Held {
            stream: Arc::clone(&stream),
            at: None,
            entries: Vec::new(),
            wanted: None,
        };
        let held = self.holds.0.entry(stream.id).or_insert_with(new);
        held.wanted = Some((through, reply));
        stream.progress_pending.store(true, Ordering::Release);
        self.try_hold(&stream);
    }

    /// Holds a part if that is wanted and possible now, brings it to where it is wanted, and answers once it is quiet there.
    ///
    /// 1. The client may have heard of something behind the hold, from a watch that came or came back meanwhile: the hold is void.
    /// 2. Some entry is outside the roster, or a start is further: that may take long, so nobody is held for it.
    /// 3. It is held where the group stands, and brought further once the group has come there.
    pub(super) fn try_hold(&mut self, stream: &Arc<StreamState>) {
        let revision = self.revision();
        let Some(held) = self.holds.0.get_mut(&stream.id) else {
            return;
        };
        let Some((through, _)) = held.wanted else {
            return;
        };
        let is_void = held.at.is_some_and(|at| at < stream.told());
        let reached = held.at.unwrap_or(revision).max(through);
        let is_possible = stream.not_in_roster() == 0 && stream.has_started(reached);
        if is_void || !is_possible {
            let entries = held.let_go();
            let is_all_here = entries.is_empty();
            self.give_back(entries);
            if !is_possible || !is_all_here {
                return;
            }
        }
        self.hold_here(stream, revision);
    }

    fn hold_here(&mut self, stream: &Arc<StreamState>, revision: Revision) {
        let Some(held) = self.holds.0.get_mut(&stream.id) else {
            return;
        };
        let at = *held.at.get_or_insert(revision);
        stream.held.store(true, Ordering::Release);
        let Some((through, _)) = held.wanted else {
            return;
        };
        if at < through {
            if revision < through {
                return;
            }
            if !self.bring(stream, through) {
                return;
            }
        }
        let Some(held) = self.holds.0.get_mut(&stream.id) else {
            return;
        };
        if stream.is_quiet()
            && let Some(at) = held.at
            && let Some((_, tx)) = held.wanted.take()
        {
            stream.progress_pending.store(false, Ordering::Release);
            // Whoever asked may have gone, and then lets go of it.
            let _ = tx.send(at);
        }
    }

    /// Delivers what a part that is held lacks up to `through`, and nothing behind that. False when that is not all at hand: then
    /// it is not held any more.
    fn bring(&mut self, stream: &Arc<StreamState>, through: Revision) -> bool {
        let Some(held) = self.holds.0.get_mut(&stream.id) else {
            return false;
        };
        held.at = Some(through);
        let entries = std::mem::take(&mut held.entries);
        let mut kept = Vec::with_capacity(entries.len());
        let mut leaving = Vec::new();
        for mut entry in entries {
            if entry.next_revision > through || fault::active(Fault::HeldPartNotBrought) {
                kept.push(entry);
                continue;
            }
            match deliver_through(&self.worker, &mut entry, through) {
                None => kept.push(entry),
                Some(reason) => leaving.push((entry, reason)),
            }
        }
        held.entries = kept;
        // Whoever is gone lacks nothing.
        let is_all = leaving.iter().all(|(_, it)| matches!(it, Leaving::Gone));
        if !is_all {
            let entries = held.let_go();
            self.give_back(entries);
        }
        self.send_off(leaving);
        is_all
    }

    /// What was held is to be given what it missed; until then nobody may claim that its stream has everything.
    pub(super) fn give_back(&mut self, entries: Vec<Entry<Link>>) {
        for mut entry in entries {
            entry.link.leave_roster();
            self.returning.push_back(entry);
        }
    }

    pub(super) fn try_all_holds(&mut self) {
        let wanted = self.holds.0.values().filter(|held| held.wanted.is_some());
        let streams: Vec<_> = wanted.map(|held| Arc::clone(&held.stream)).collect();
        for stream in streams {
            self.try_hold(&stream);
        }
    }
}

impl Handler<Hold> for WatcherGroup {
    type Result = ();

    fn handle(&mut self, hold: Hold, ctx: &mut Self::Context) {
        self.order(super::Order::Hold(hold), ctx);
    }
}

impl Handler<Quiet> for WatcherGroup {
    type Result = ();

    fn handle(&mut self, quiet: Quiet, ctx: &mut Self::Context) {
        hooks::pass(HookPoint::ProgressCheck, self, ctx, move |group, ctx| {
            group.try_progress(&quiet.stream);
            group.try_hold(&quiet.stream);
            group.advance(ctx);
        });
    }
}

impl Handler<LetGo> for WatcherGroup {
    type Result = ();

    fn handle(&mut self, LetGo { stream }: LetGo, ctx: &mut Self::Context) {
        let entries = self.holds.forget_stream(&stream);
        self.give_back(entries);
        self.advance(ctx);
    }
}
