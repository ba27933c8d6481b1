//! Room for requests on their way to Store: so many at a time, and so many bytes (B1).
//!
//! Whoever wants to write waits here, first come first served. Nothing here knows what is written.

use super::protocol::Permit;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The room. A clone is the same room.
#[derive(Clone, Debug)]
pub(crate) struct Permits {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

impl Permits {
    /// Room for so many requests with so many bytes.
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests_max)),
            bytes: Arc::new(Semaphore::new(bytes_max)),
            bytes_max,
        }
    }

    /// How many requests find room, for tests of the actors.
    #[cfg(test)]
    pub(crate) fn requests_left_for_test(&self) -> usize {
        self.requests.available_permits()
    }

    /// Waits for room for a request of so many bytes; one larger than all the room takes all of it. Nothing when the
    /// engine has stopped.
    pub(crate) async fn take(&self, bytes: usize) -> Option<Permit> {
        let bytes = u32::try_from(bytes.clamp(1, self.bytes_max)).unwrap_or(u32::MAX);
        let request = Arc::clone(&self.requests).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes)
            .acquire_many_owned(bytes)
            .await
            .ok()?;
        Some(Permit {
            _request: request,
            _bytes: bytes,
        })
    }
}
