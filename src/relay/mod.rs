//! The relay: an etcd cluster as a backend. Watches are its own; every other call is passed on raw.
//!
//! It knows the cluster as a client does and never stores a key. What it may not change on the way it never decodes.

mod backend;
mod connect;
mod endpoints;
mod pass_on;
mod passing;
mod watching;

pub use backend::RelayBackend;
pub use endpoints::{Active, Endpoints, EndpointsError};
pub use pass_on::PassOn;
