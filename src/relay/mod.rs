//! The relay: an etcd cluster as a backend. Its events come once for each cover, as commits in rings of the same kind as the
//! engine's, and the same actors deliver them; every other call is passed on raw.
//!
//! It knows the cluster as a client does and never stores a key. What it may not change on the way it never decodes.

mod asking;
mod backend;
mod backoff;
mod cache;
mod call;
mod confirm;
mod connect;
mod cover;
mod covers;
mod endpoints;
mod feed;
mod heard;
mod late;
mod pass_on;
mod passing;
mod rules;
mod stream;
mod upstream;

pub use backend::RelayBackend;
pub use cache::Caches;
pub use covers::{Covers, RelayLimits};
pub use endpoints::{Active, Endpoints, EndpointsError};
pub use pass_on::PassOn;
pub use stream::RelayStream;
