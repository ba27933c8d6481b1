//! When things happen: the actors, the messages between them, and the one place that wires them.
//!
//! Rules live in `storage` and `watch`; an actor only decides *when* to apply them. Actors tell, only the edge asks.

mod app_watch;
mod broadcast;
mod delivery;
mod engine;
mod history;
mod hooks;
mod inspecting;
mod lease;
mod limits;
mod nursery;
mod outbox;
mod part;
mod permits;
mod progress;
mod protocol;
mod slim_context;
mod store;
mod stream;
mod supervision;
mod sync;
mod turn;
mod victim_retry;
mod watch_stream;
mod watch_table;
mod watcher;
mod watcher_group;

#[cfg(test)]
mod tests;

pub(crate) use broadcast::Broadcast;
pub(crate) use history::{History, Narrow};
pub(crate) use outbox::StreamLife;
pub(crate) use part::Part;

pub use app_watch::Watch;
pub use engine::{Engine, EngineConfig, EngineError, GrantedLease, Placement};
pub use limits::{AutoCompaction, EngineLimits, StoreLimits};
pub use outbox::{
    Next, Outbox, OutboxLimits, OutboxReader, Room, StreamEnd, StreamItem, WatchRejection,
};
pub use protocol::{Delivery, Inspection, LeaseTime, ToWatcher};
pub use stream::InFlight;
pub use watch_stream::{WatchCreate, WatchStream};

// The edge may not import `storage`.
pub use crate::storage::{SnapshotPart, StoreHash};

// The edge encodes batches and may not import `watch`.
pub use crate::watch::Batch;
