//! The edge: protobuf, JSON and HTTP in, model values through, and the same out again.
//!
//! It imports only the model and the backend; it never sees an actor, a mailbox or a disk.

mod codec;
mod convert;
mod counts;
mod grpc;
mod http;
mod status;
mod stop;

pub mod pb;

pub use counts::Counts;
#[cfg(test)]
pub(crate) use grpc::Place;
pub use grpc::{
    BoxError, Calls, Edge, EdgeFuture, EdgeLimits, Member, Served, Serving, StoreCalls, is_for_grpc,
};
pub use http::{Http, HttpClocks, HttpSettings, NameList, guard};
pub(crate) use status::rpc_error;
pub use stop::{Stop, StopSignal};
