//! A watch by an application's own actor, as the application holds it.
//!
//! It keeps the watch alive and nothing else: events go straight to the actor.

use super::stream::StreamState;
use crate::model::Revision;
use std::sync::Arc;

/// A watch by one of your own actors. Dropping it cancels the watch.
#[derive(Debug)]
pub struct Watch {
    /// The registration revision: everything after it, or from the start revision on, will come.
    pub revision: Revision,
    stream: Arc<StreamState>,
}

impl Watch {
    /// A watch that is not registered yet.
    pub(super) fn new(stream: Arc<StreamState>) -> Self {
        Self {
            revision: Revision::default(),
            stream,
        }
    }

    /// The watch as its stream knows it, for tests of the actors.
    #[cfg(test)]
    pub(crate) fn live_for_test(&self) -> Option<super::stream::LiveWatch> {
        self.stream.watches().values().next().cloned()
    }

    /// Ends the watch. What is in the actor's mailbox already still arrives.
    pub fn cancel(self) {
        drop(self);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stream.leave();
    }
}
