//! Vigil: a durable multi-version key-value store whose every change can be watched, resumed and replayed by revision.
//!
//! It speaks the etcd v3 API (`vigil serve`), stores on sled, and is a system of actix actors that also runs inside a
//! larger actix application: start an [`Engine`] in your System, and let your own actors watch.
//!
//! ```
//! use actix::prelude::*;
//! use vigil::{Engine, EngineConfig, KeyRange, Revision, ToWatcher, WatchSpec};
//!
//! struct Lamp(tokio::sync::mpsc::UnboundedSender<bytes::Bytes>);
//!
//! impl Actor for Lamp {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<ToWatcher> for Lamp {
//!     type Result = ();
//!
//!     fn handle(&mut self, message: ToWatcher, _ctx: &mut Self::Context) {
//!         if let ToWatcher::Events(delivery) = message {
//!             for event in delivery.batch.events() {
//!                 self.0.send(event.kv.value.clone()).unwrap();
//!             }
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! System::new().block_on(async {
//!     let dir = tempfile::tempdir()?;
//!     let engine = Engine::start(EngineConfig::new(dir.path())).await?;
//!     assert_eq!(engine.put("lamp", "on").await?, Revision(2));
//!
//!     // From revision 2 on: what has happened comes first, then what happens.
//!     let (tx, mut values) = tokio::sync::mpsc::unbounded_channel();
//!     let spec = WatchSpec::new(KeyRange::single("lamp"), Some(Revision(2)));
//!     let watch = engine.watch(spec, Lamp(tx).start().recipient()).await?;
//!     engine.put("lamp", "off").await?;
//!
//!     assert_eq!(values.recv().await.as_deref(), Some(&b"on"[..]));
//!     assert_eq!(values.recv().await.as_deref(), Some(&b"off"[..]));
//!     drop(watch);
//!     engine.stop().await?;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! Rooms import one way only, in the order of the `mod` lines below; `tests/tidy.rs` holds them to it.

mod fault;

pub mod tls;

pub mod model;

pub mod storage;

pub mod watch;

pub mod actors;

pub mod backend;

pub mod api;

pub mod relay;

pub mod server;

pub mod bench;

pub mod cli;

pub mod config;

pub mod verbs;

pub use actors::{
    Delivery, Engine, EngineConfig, EngineError, EngineLimits, Inspection, Placement, ToWatcher,
    Watch,
};
pub use model::{Event, EventKind, KeyRange, KeyValue, Revision, WatchSpec};
pub use storage::StorageLimits;
