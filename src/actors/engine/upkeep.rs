//! The engine's face for operators.
//!
//! It passes orders on, and decides nothing.

use super::{Engine, EngineError};
use crate::actors::protocol::{Compact, Defragment, SetAlarm};
use crate::model::{Alarm, Revision};
use crate::storage::{ReadError, Snapshot, SnapshotPart, StoreHash};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::oneshot;

impl Engine {
    /// Forgets history below a revision; with `physical` returns when the disk has forgotten it too.
    pub async fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> Result<Revision, EngineError> {
        let compact = |permit| Compact {
            revision,
            physical,
            permit,
        };
        self.order(0, compact).await
    }

    /// The hash of all records up to a revision, or up to the last one.
    pub async fn hash(&self, at: Option<Revision>) -> Result<StoreHash, EngineError> {
        let (tx, rx) = oneshot::channel();
        self.view()
            .hash(at, Box::new(move |hash| drop(tx.send(hash))));
        rx.await
            .map_err(|_| self.gone())?
            .map_err(EngineError::from)
    }

    /// A snapshot at the last revision, part by part, as fast as it is read. What is asked of the disk is asked off this
    /// thread.
    pub fn snapshot(&self) -> BoxStream<'static, Result<SnapshotPart, EngineError>> {
        let view = self.view().clone();
        let next = move |snapshot: Option<Snapshot>| {
            let view = view.clone();
            let read = move || {
                let mut snapshot = match snapshot {
                    Some(snapshot) => snapshot,
                    None => view.snapshot()?,
                };
                let part = snapshot.next_part()?;
                Ok::<_, ReadError>(part.map(|part| (part, Some(snapshot))))
            };
            async move {
                match tokio::task::spawn_blocking(read).await {
                    Ok(read) => read.map_err(EngineError::from),
                    Err(_) => Err(EngineError::Stopped),
                }
            }
        };
        stream::try_unfold(None, next).boxed()
    }

    /// Gives back what the data does not use of the disk, beside reads and writes; returns when that is done.
    pub async fn defragment(&self) -> Result<(), EngineError> {
        let (tx, defragmented) = oneshot::channel();
        // Whoever asked may have gone.
        let done = Box::new(move |ended| drop(tx.send(ended)));
        self.order(0, |permit| Defragment { done, permit }).await?;
        let defragmented = defragmented.await.map_err(|_| self.gone())?;
        defragmented.map_err(|error| EngineError::NotDefragmented(error.to_string()))
    }

    /// Raises an alarm or takes it back, durably; answers whether it is, or was, raised.
    pub async fn set_alarm(&self, alarm: Alarm, raise: bool) -> Result<bool, EngineError> {
        let set = |permit| SetAlarm {
            alarm,
            raise,
            permit,
        };
        self.order(0, set).await
    }
}
