//! First look: what the real server does under the loads that it is built for, measured from outside.
//!
//! It starts `vigil serve` as a process of its own for every measurement and speaks gRPC to it. It never reaches into
//! the server: what it knows of it is what a client sees, and what the kernel says of its process.
//!
//! `cargo bench --bench first_look -- [fan-out] [catch-up] [put] [idle]`; without a word, all of them.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::unchecked_time_subtraction,
    clippy::cast_sign_loss,
    reason = "a measurement that cannot go on should stop, it is for people to read, and it takes the real time"
)]

mod catch_up;
mod client;
mod fan_out;
mod idle;
mod put;
mod report;
mod server;

use std::env;
use std::future::Future;
use std::pin::Pin;

/// A measurement: it prints its own lines.
type Measurement = fn() -> Pin<Box<dyn Future<Output = ()>>>;

const MEASUREMENTS: &[(&str, Measurement)] = &[
    ("fan-out", || Box::pin(fan_out::run())),
    ("catch-up", || Box::pin(catch_up::run())),
    ("put", || Box::pin(put::run())),
    ("idle", || Box::pin(idle::run())),
];

fn main() {
    // `cargo bench` adds words of its own, all of which begin with a dash.
    let words: Vec<String> = env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    for word in &words {
        let known = MEASUREMENTS.iter().any(|(name, _)| name == word);
        assert!(known, "unknown measurement: {word}");
    }
    // One thread: the client shares the cores with the server, and has to be cheap.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for (name, measure) in MEASUREMENTS {
        if words.is_empty() || words.iter().any(|word| word == name) {
            runtime.block_on(measure());
        }
    }
}
