//! What Vigil costs: beside etcd, before etcd beside its proxy, as its work grows, and beside what the machine itself can do.
//!
//! It never reaches into a server: it starts them, and `vigil bench` puts the load on from outside. A long history alone is
//! written through the library.
//!
//! `cargo bench --bench measure -- versus-etcd | versus-proxy | scale | limits`
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a measurement that cannot go on should stop, it is for people to read, and it takes the real time"
)]

mod cluster;
mod curves;
mod limits;
mod load;
mod number;
mod plot;
mod proxy_rows;
mod raw;
mod rows;
mod scale;
mod servers;
mod table;
mod versus_etcd;
mod versus_proxy;

use clap::{Parser, Subcommand};

/// What Vigil costs.
#[derive(Debug, Parser)]
struct Args {
    /// `cargo bench` adds it.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The same loads on Vigil and on etcd, in turn, as a table of ratios.
    VersusEtcd(versus_etcd::Versus),
    /// The same loads on an etcd cluster, on etcd's proxy before it and on a relay before it, in turn, as a table of ratios.
    VersusProxy(versus_proxy::Versus),
    /// One load after the other with one number growing, as tables and plots.
    Scale(scale::Scale),
    /// What the machine itself can do.
    Limits,
    /// The bare stream that a flood is held against, as a process of its own.
    #[command(hide = true)]
    RawStream(raw::RawStream),
}

fn main() {
    match Args::parse().what {
        What::VersusEtcd(args) => versus_etcd::run(&args),
        What::VersusProxy(args) => versus_proxy::run(&args),
        What::Scale(args) => scale::run(&args),
        What::Limits => limits::print(),
        What::RawStream(args) => raw::serve(&args),
    }
}
