//! A part of a client's stream, which lives in one ring while others of its watches live in others, as seen by whoever answers
//! for all of them.
//!
//! Each part is right about its own watches and knows nothing of the others, so none speaks for the stream. It can be held: then
//! everything up to a revision is in the outbox and nothing behind that. Everything here happens on the worker's own thread, so
//! that what was seen is true until the next wait.

use super::protocol::{Hold, LetGo};
use super::stream::StreamState;
use crate::model::{Revision, WatchId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// A part of a client's stream.
#[derive(Clone, Debug)]
pub(crate) struct Part(Arc<StreamState>);

impl Part {
    pub(super) fn new(stream: Arc<StreamState>) -> Self {
        Self(stream)
    }

    /// True for the same part.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// True when a watch has this id.
    pub(crate) fn has(&self, watch_id: WatchId) -> bool {
        self.0.watches().contains(watch_id)
    }

    /// How many watches there are.
    pub(crate) fn watches_len(&self) -> usize {
        self.0.watches().len()
    }

    /// True while there is a watch that could be told of progress.
    pub(crate) fn has_watches(&self) -> bool {
        !self.0.is_closed() && !self.0.watches().is_empty()
    }

    /// True when nothing but messages is in the way of being held at `through`: a watcher that reads history, or whose mailbox
    /// is full, may take long, and so may a start in the future.
    pub(crate) fn may_be_held(&self, through: Revision) -> bool {
        self.0.not_in_roster() == 0 && self.0.has_started(through)
    }

    /// Holds it where its group stands, and brings it to `through` if that is further: the answer says where it is held once all
    /// before that is in the outbox. There is none when its group is gone or lets go of it.
    pub(crate) fn hold(&self, through: Revision) -> oneshot::Receiver<Revision> {
        let (reply, held) = oneshot::channel();
        self.0.worker.tell_group(Hold {
            stream: Arc::clone(&self.0),
            through,
            reply,
        });
        held
    }

    /// Lets go of it, if it is held.
    pub(crate) fn let_go(&self) {
        self.0.worker.tell_group(LetGo {
            stream: Arc::clone(&self.0),
        });
    }

    /// True while it is held, has everything up to there in the outbox, and was told of nothing behind `revision`, which is where
    /// it is held.
    pub(crate) fn is_held_quiet(&self, revision: Revision) -> bool {
        self.0.held.load(Ordering::Acquire)
            && self.0.is_quiet()
            && self.0.told() <= revision
            && self.0.has_started(revision)
    }

    /// The client is told of this revision.
    pub(crate) fn note_told(&self, revision: Revision) {
        self.0.note_told(revision);
    }

    /// What has to be told when the reading end of the stream goes away.
    pub(crate) fn life(&self) -> &Arc<StreamState> {
        &self.0
    }
}
