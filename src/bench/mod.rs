//! A load generator for any server of the etcd v3 API: it puts a load on from outside, and says what it saw.
//!
//! It measures real time, and knows of a server what a client sees and what the kernel says of its process. It is cheap,
//! because it shares the machine with what it measures, and checks what it is told: a rate of wrong answers is none.
#![allow(
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "it takes the real time, and its numbers are far from the ends of their types"
)]

mod args;
mod catchup;
mod clock;
mod error;
mod expire;
mod fanout;
mod fill;
mod keepalive;
mod listeners;
mod many;
mod mixed;
mod operations;
mod process;
mod progress;
mod reach;
mod report;
mod restart;
mod slow;
mod threads;
mod watching;
mod wire;

pub use args::BenchArgs;
pub use error::BenchError;

use args::Workload;
use std::io::Write;

/// Puts one load on, and prints one JSON object.
pub fn run(args: &BenchArgs, mut out: impl Write) -> Result<(), BenchError> {
    args.check()?;
    let report = match &args.workload {
        Workload::Fill(load) => operations::fill_only(&args.common, load),
        Workload::Put(load) => operations::put(&args.common, load),
        Workload::Range(load) => operations::range(&args.common, load),
        Workload::Mixed(load) => mixed::run(&args.common, load),
        Workload::Expire(load) => expire::run(&args.common, load),
        Workload::Keepalive(load) => keepalive::run(&args.common, load),
        Workload::Fanout(load) => fanout::run(&args.common, load),
        Workload::Many(load) => many::run(&args.common, load),
        Workload::Catchup(load) => catchup::run(&args.common, load),
        Workload::Slow(load) => slow::run(&args.common, load),
        Workload::Restart(load) => restart::run(&args.common, load),
    }?;
    writeln!(out, "{report}").map_err(BenchError::Output)
}
