//! The group's share in telling how far a stream has come: requests that wait, and the watchers held back for them.
//!
//! Progress R is written only when every event up to R is in the stream's outbox (P2), and it goes through that outbox
//! itself. Nothing here delivers an event.

use super::delivery::Sent;
use super::outbox::StreamItem;
use super::stream::{Link, LinkState, StreamId, StreamState};
use crate::fault::{self, Fault};
use crate::model::{Revision, WatchId};
use crate::watch::{Entry, WatcherId};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Progress requests of all streams of a group, and the watchers that want to be told without asking.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Requests that could not be answered yet, one per stream.
    pending: BTreeMap<StreamId, Pending>,
    /// Watchers that want periodic progress.
    notified: BTreeMap<WatcherId, Weak<LinkState>>,
}

#[derive(Debug)]
struct Pending {
    stream: Arc<StreamState>,
    /// The revision at which the stream is held, and its entries that would have been delivered to since.
    held: Option<(Revision, Vec<Entry<Link>>)>,
}

impl Pending {
    /// Holds nobody any more. Returns who was held.
    fn let_go(&mut self) -> Vec<Entry<Link>> {
        self.stream.held.store(false, Ordering::Release);
        self.held
            .take()
            .map_or_else(Vec::new, |(_, entries)| entries)
    }
}

impl Progress {
    /// A stream asks. A second request while one waits is the same request, and without a watch there is nothing to
    /// tell.
    pub(crate) fn request(&mut self, stream: &Arc<StreamState>) {
        if stream.is_closed() || stream.watches().is_empty() {
            return;
        }
        stream.progress_pending.store(true, Ordering::Release);
        let pending = || Pending {
            stream: Arc::clone(stream),
            held: None,
        };
        self.pending.entry(stream.id).or_insert_with(pending);
    }

    /// The streams that wait.
    pub(crate) fn waiting(&self) -> Vec<Arc<StreamState>> {
        self.pending
            .values()
            .map(|pending| Arc::clone(&pending.stream))
            .collect()
    }

    /// How many watchers are held back.
    pub(crate) fn held(&self) -> usize {
        self.pending
            .values()
            .filter_map(|pending| pending.held.as_ref())
            .map(|(_, entries)| entries.len())
            .sum()
    }

    /// Answers a stream that waits, if it can be answered at the group's revision (or at the one it is held at).
    /// Returns the entries that need not be held any more.
    ///
    /// 1. The client may have heard of something beyond the hold, from a watch that came or came back meanwhile: progress
    ///    never goes back, so the hold is void.
    /// 2. Quiet, and every start reached: write, and let go.
    /// 3. Some entry is outside the roster: that may take long, so nobody is held for it; it is tried again when the
    ///    entry is back.
    /// 4. Only messages are on their way: from now on the group starts no new turn for this stream.
    pub(crate) fn answer(
        &mut self,
        stream: &Arc<StreamState>,
        revision: Revision,
    ) -> Vec<Entry<Link>> {
        let Some(pending) = self.pending.get_mut(&stream.id) else {
            return Vec::new();
        };
        let held_at = pending.held.as_ref().map(|(held_at, _)| *held_at);
        let void = held_at.is_some_and(|held_at| held_at < stream.told());
        if void && !fault::active(Fault::ProgressGoesBack) {
            let entries = pending.let_go();
            if !entries.is_empty() {
                return entries;
            }
        }
        let held_at = pending.held.as_ref().map(|(held_at, _)| *held_at);
        let reached = held_at.unwrap_or(revision);
        let started = stream.has_started(reached);
        if stream.is_quiet() && started {
            let reached = if fault::active(Fault::ProgressOfTheStore) {
                stream.worker.revision()
            } else {
                reached
            };
            write(stream, WatchId::STREAM, reached);
            return self.forget_stream(stream);
        }
        if stream.not_in_roster() > 0 || !started {
            return pending.let_go();
        }
        if pending.held.is_none() {
            pending.held = Some((revision, Vec::new()));
            stream.held.store(true, Ordering::Release);
        }
        Vec::new()
    }

    /// Keeps an entry that would have been delivered to, until its stream is let go.
    pub(crate) fn hold(&mut self, entry: Entry<Link>) {
        let stream = entry.link.shared.stream.id;
        if let Some((_, entries)) = self
            .pending
            .get_mut(&stream)
            .and_then(|pending| pending.held.as_mut())
        {
            entries.push(entry);
        }
    }

    /// The stream's request is answered, or void. Returns what was held for it.
    pub(crate) fn forget_stream(&mut self, stream: &Arc<StreamState>) -> Vec<Entry<Link>> {
        stream.progress_pending.store(false, Ordering::Release);
        let pending = self.pending.remove(&stream.id);
        pending.map_or_else(Vec::new, |mut pending| pending.let_go())
    }

    /// A watcher wants to be told of progress without asking.
    pub(crate) fn notify(&mut self, watcher: WatcherId, shared: &Arc<LinkState>) {
        self.notified.insert(watcher, Arc::downgrade(shared));
    }

    /// A watcher is gone. Returns its entry if it was held.
    pub(crate) fn forget_watcher(&mut self, watcher: WatcherId) -> Option<Entry<Link>> {
        self.forget_notified(watcher);
        let mut held = self.pending.values_mut().filter_map(|it| it.held.as_mut());
        held.find_map(|(_, entries)| {
            let at = entries.iter().position(|entry| entry.id == watcher)?;
            Some(entries.swap_remove(at))
        })
    }

    /// A watcher, which is not held, is not to be told any more.
    pub(crate) fn forget_notified(&mut self, watcher: WatcherId) {
        self.notified.remove(&watcher);
    }

    /// Tells each watcher that wants it, is in the roster, and was sent nothing since the last tick. A stream that still
    /// has what the last ticks said is passed over: nobody reads it.
    pub(crate) fn tick<'a>(
        &mut self,
        revision: Revision,
        entry_of: impl Fn(WatcherId) -> Option<&'a Entry<Link>>,
    ) {
        let is_quiet = |shared: &LinkState| !shared.sent_since_tick.swap(false, Ordering::AcqRel);
        self.tell(revision, entry_of, is_quiet);
    }

    /// Tells each watcher that wants it and is in the roster, also one that was sent something of late: what it was sent
    /// may be older than what has just been compacted.
    pub(crate) fn tell_all<'a>(
        &mut self,
        revision: Revision,
        entry_of: impl Fn(WatcherId) -> Option<&'a Entry<Link>>,
    ) {
        self.tell(revision, entry_of, |_| true);
    }

    fn tell<'a>(
        &mut self,
        revision: Revision,
        entry_of: impl Fn(WatcherId) -> Option<&'a Entry<Link>>,
        wants: impl Fn(&LinkState) -> bool,
    ) {
        let mut crowded = BTreeMap::new();
        self.notified.retain(|watcher, shared| {
            let Some(shared) = shared.upgrade() else {
                return false;
            };
            let busy = shared.in_flight() > 0 && !fault::active(Fault::PeriodicProgressOvertakes);
            if !wants(&shared) || busy {
                return true;
            }
            if let Some(entry) = entry_of(*watcher)
                && has_started(&shared, revision)
                // It may have said that it is cancelled, with its `Forget` still on the way.
                && (!entry.link.is_gone() || fault::active(Fault::PeriodicProgressAfterCancel))
                && !*crowded
                    .entry(shared.stream.id)
                    .or_insert_with(|| shared.stream.outbox.as_ref().is_some_and(|it| it.is_crowded()))
            {
                tell_progress(&entry.link, revision);
            }
            true
        });
    }
}

/// Writes one watcher's progress straight to its outbox (nothing of it is on its way), or to the mailbox of an
/// application's own actor.
fn tell_progress(link: &Link, revision: Revision) {
    let stream = &link.shared.stream;
    if stream.outbox.is_some() {
        write(stream, link.shared.watch_id, revision);
    } else {
        // A full mailbox is no place for progress: the next tick is as good.
        let _: Sent = link.tell_progress(revision);
    }
}

/// A start in the future may not be told of less (P2), and a watch that has ended of nothing.
fn has_started(shared: &LinkState, revision: Revision) -> bool {
    shared.terms.start <= revision && shared.stream.watches().contains(shared.watch_id)
}

fn write(stream: &StreamState, watch_id: WatchId, revision: Revision) {
    stream.note_told(revision);
    let Some(outbox) = &stream.outbox else {
        return;
    };
    outbox.push(StreamItem::Progress { watch_id, revision });
}
