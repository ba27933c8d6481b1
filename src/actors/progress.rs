//! The group's share in telling how far a stream has come: requests that wait, and the watchers held back for them.
//!
//! Progress R is written only when every event up to R is in the stream's outbox (P2), and it goes through that outbox
//! itself. Nothing here delivers an event.

use super::delivery::Sent;
use super::outbox::StreamItem;
use super::protocol::ToWatcher;
use super::stream::{Link, LinkState, StreamId, StreamState};
use crate::model::{Revision, WatchId};
use crate::watch::{Entry, WatcherId};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Progress requests of all streams of a group, and the watchers that want to be told without asking.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Requests that could not be answered yet, one per stream.
    pending: HashMap<StreamId, Pending>,
    /// Watchers that want periodic progress.
    notified: HashMap<WatcherId, Weak<LinkState>>,
}

#[derive(Debug)]
struct Pending {
    stream: Arc<StreamState>,
    /// The revision at which the stream is held, and its entries that would have been delivered to since.
    held: Option<(Revision, Vec<Entry<Link>>)>,
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
    /// 1. Quiet, and every start reached: write, and let go.
    /// 2. Some entry is outside the roster: that may take long, so nobody is held for it; it is tried again when the
    ///    entry is back.
    /// 3. Only messages are on their way: from now on the group starts no new turn for this stream.
    pub(crate) fn answer(
        &mut self,
        stream: &Arc<StreamState>,
        revision: Revision,
    ) -> Vec<Entry<Link>> {
        let Some(pending) = self.pending.get_mut(&stream.id) else {
            return Vec::new();
        };
        let reached = pending
            .held
            .as_ref()
            .map_or(revision, |(held_at, _)| *held_at);
        let started = stream.watches().values().all(|live| live.start <= reached);
        if stream.is_quiet() && started {
            if let Some(outbox) = &stream.outbox {
                outbox.push(StreamItem::Progress {
                    watch_id: WatchId::STREAM,
                    revision: reached,
                });
            }
            return self.forget_stream(stream);
        }
        if stream.not_in_roster() > 0 || !started {
            stream.held.store(false, Ordering::Release);
            return pending
                .held
                .take()
                .map(|(_, entries)| entries)
                .unwrap_or_default();
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
        stream.held.store(false, Ordering::Release);
        stream.progress_pending.store(false, Ordering::Release);
        let pending = self.pending.remove(&stream.id);
        pending
            .and_then(|pending| pending.held)
            .map(|(_, entries)| entries)
            .unwrap_or_default()
    }

    /// A watcher wants to be told of progress without asking.
    pub(crate) fn notify(&mut self, watcher: WatcherId, shared: &Arc<LinkState>) {
        self.notified.insert(watcher, Arc::downgrade(shared));
    }

    /// A watcher is gone.
    pub(crate) fn forget_watcher(&mut self, watcher: WatcherId) {
        self.notified.remove(&watcher);
        for (_, entries) in self
            .pending
            .values_mut()
            .filter_map(|pending| pending.held.as_mut())
        {
            entries.retain(|entry| entry.id != watcher);
        }
    }

    /// Tells each watcher that wants it, is in the roster, and was sent nothing since the last tick.
    pub(crate) fn tick<'a>(
        &mut self,
        revision: Revision,
        entry_of: impl Fn(WatcherId) -> Option<&'a Entry<Link>>,
    ) {
        self.notified.retain(|watcher, shared| {
            let Some(shared) = shared.upgrade() else {
                return false;
            };
            if shared.sent_since_tick.swap(false, Ordering::AcqRel) || shared.in_flight() > 0 {
                return true;
            }
            if let Some(entry) = entry_of(*watcher)
                && entry.next_revision <= revision.next()
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
    match &stream.outbox {
        Some(outbox) => outbox.push(StreamItem::Progress {
            watch_id: link.shared.watch_id,
            revision,
        }),
        None => {
            // A full mailbox is no place for progress: the next tick is as good.
            let _: Sent = link.try_tell(ToWatcher::Progress { revision });
        }
    }
}
