//! The `vigil` binary: parse, log, run, exit code.
//!
//! Nothing is decided here. It is the only place that ends the process, and it does so by returning.

use actix::System;
use clap::Parser;
use log::{LevelFilter, Record, kv};
use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use vigil::cli::{Cli, Command};
use vigil::config::{Config, RelayStart};
use vigil::server::ServeError;
use vigil::{bench, server, verbs};

/// Watchers are many small pieces that come and go with every event; `docs/performance.md` has what this is worth.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => Config::try_from(args)
            .map_err(Into::into)
            .and_then(|config| {
                serve(config.log_level, |ready, stop| {
                    server::run(config.serve, ready, stop)
                })
            }),
        Command::Relay(args) => RelayStart::try_from(args)
            .map_err(Into::into)
            .and_then(|start| {
                serve(start.log_level, |ready, stop| {
                    server::run_relay(start.relay, ready, stop)
                })
            }),
        Command::Bench(args) => bench::run(&args, io::stdout()).map_err(Into::into),
        Command::Verb(verb) => System::new()
            .block_on(verbs::run(verb, io::stdin(), io::stdout()))
            .map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref()),
    }
}

/// What a server is told to do once it answers, and what it waits for before it stops.
type Ready = fn(SocketAddr);
type Stop = Pin<Box<dyn Future<Output = ()>>>;

/// Serves until the process is told to stop, or what is served fails.
fn serve<F>(level: LevelFilter, run: impl FnOnce(Ready, Stop) -> F) -> Result<(), Box<dyn Error>>
where
    F: Future<Output = Result<(), ServeError>>,
{
    start_log(level)?;
    // As one line among the others; whoever is told of it by an error says what follows.
    std::panic::set_hook(Box::new(|panic| {
        log::error!("{}", panic.to_string().replace('\n', " "));
    }));
    // With standard output closed, nobody waits for this line.
    let ready: Ready = |address| drop(writeln!(io::stdout(), "vigil: listening on {address}"));
    System::new().block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = Box::pin(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        Ok(run(ready, stop).await?)
    })
}

/// One line on standard error, and a code that is not zero.
fn fail(error: &dyn Error) -> ExitCode {
    let mut line = format!("Error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    // With standard error closed there is nobody left to tell; the exit code still says it.
    let _ = writeln!(io::stderr(), "{}", line.replace('\n', " "));
    ExitCode::FAILURE
}

/// Log lines go to standard error: time, level, where from, what, and the named values.
fn start_log(level: LevelFilter) -> Result<(), log::SetLoggerError> {
    env_logger::Builder::new()
        // The libraries' own words help nobody below a warning.
        .filter_level(level.min(LevelFilter::Warn))
        .filter_module("vigil", level)
        .format(|out, record| {
            let time = out.timestamp_millis();
            write!(
                out,
                "{time} {:5} {} {}",
                record.level(),
                record.target(),
                record.args()
            )?;
            write_values(out, record)?;
            writeln!(out)
        })
        .try_init()
}

fn write_values(out: &mut dyn Write, record: &Record<'_>) -> io::Result<()> {
    struct Values<'o>(&'o mut dyn Write);
    impl<'kvs> kv::VisitSource<'kvs> for Values<'_> {
        fn visit_pair(
            &mut self,
            key: kv::Key<'kvs>,
            value: kv::Value<'kvs>,
        ) -> Result<(), kv::Error> {
            write!(self.0, " {key}={value}").map_err(kv::Error::from)
        }
    }
    let visited = record.key_values().visit(&mut Values(out));
    visited.map_err(|error| io::Error::other(error.to_string()))
}
