//! Plain HTTP: JSON compared with etcd's, watches for browsers and curl, and what operators ask.

mod compared;
mod events;
mod operations;
