//! The edge: protobuf and gRPC in, model values through, protobuf and gRPC out.
//!
//! It imports only the model and the backend; it never sees an actor, a mailbox or a disk.

mod codec;
mod convert;
mod grpc;
mod status;
mod stop;

pub mod pb;

pub use grpc::{Edge, EdgeFuture, EdgeLimits, Member};
pub use stop::{Stop, StopSignal};
