//! The edge: protobuf and gRPC in, model values through, protobuf and gRPC out.
//!
//! It imports only the model and the backend; it never sees an actor, a mailbox or a disk.

pub mod pb;
