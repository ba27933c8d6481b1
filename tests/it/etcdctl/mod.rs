//! etcd's own command line client: every subcommand that it has, towards etcd and towards Vigil.
//!
//! `lines` has the command lines that end by themselves and `running` those that go on; `differences` is the whole list of
//! answers that are meant to differ, and `coverage` holds the lines against what `etcdctl help` lists. `spelled_out` has the
//! expected text of the commonest ones, for readers.

mod both;
mod coverage;
mod differences;
mod lines;
mod running;
mod spelled_out;
