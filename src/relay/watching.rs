//! The seam for watches: where a relay's streams are opened. It opens none.

use crate::backend::{BackendError, Outbox, OutboxReader, WatchControl, WatchCreate};
use crate::model::WatchId;
use std::sync::Arc;

/// What a worker's watch streams are made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Watching;

/// The commanding end of a stream, of which there is none.
#[derive(Debug)]
pub enum Control {}

impl Watching {
    /// Opens a watch stream on the calling worker thread.
    pub(super) fn open_stream(&self) -> Result<(Control, OutboxReader), BackendError> {
        Err(BackendError::Stopped)
    }
}

impl WatchControl for Control {
    async fn create(&mut self, _creates: Vec<WatchCreate>) {
        match *self {}
    }

    async fn cancel(&mut self, _watch_id: WatchId) {
        match *self {}
    }

    async fn request_progress(&mut self) {
        match *self {}
    }

    fn outbox(&self) -> &Arc<Outbox> {
        match *self {}
    }
}
