//! When things happen: the actors, the messages between them, and the one place that wires them.
//!
//! Rules live in `storage` and `watch`; an actor only decides *when* to apply them. Actors tell, only the edge asks.

mod outbox;

pub use outbox::{
    Next, Outbox, OutboxLimits, OutboxReader, Room, StreamEnd, StreamItem, WatchRejection,
};
