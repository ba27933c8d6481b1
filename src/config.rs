//! What `vigil serve` runs with: values that have been checked.
//!
//! Bad input becomes an error that names the flag and the limit, here and nowhere later. No room ever sees this type:
//! the server hands each room its own limits.

use crate::cli::{LimitArgs, ServeArgs};
use log::LevelFilter;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// Everything the server is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Directory of the data.
    pub data_dir: PathBuf,
    /// Address to bind for clients.
    pub listen_client: SocketAddr,
    /// URL that clients are told to use; `None` is the bound address.
    pub advertise_client_url: Option<String>,
    /// Name of this member.
    pub name: String,
    /// Worker threads.
    pub workers: usize,
    /// What is logged.
    pub log_level: LevelFilter,
    /// The limits.
    pub limits: ServerLimits,
}

/// The limits that can be set from outside; each is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Size of one request, in bytes.
    pub request_bytes_max: usize,
    /// Operations of one transaction.
    pub txn_ops_max: usize,
    /// Open calls of one connection.
    pub streams_per_connection_max: u32,
    /// Watches of one Watch stream.
    pub watches_per_stream_max: usize,
    /// Watches of the whole server.
    pub watches_max: usize,
    /// Events queued for one Watch stream, in bytes.
    pub outbox_bytes_max: usize,
    /// Messages queued for one watcher.
    pub mailbox_messages_max: usize,
    /// Events of one delivery to one watcher, in bytes.
    pub delivery_bytes_max: usize,
    /// Idle time after which a watch is told of progress.
    pub progress_notify_interval: Duration,
    /// Recent commits held in memory, in bytes.
    pub ring_bytes_max: usize,
    /// Latest values held in memory, in bytes.
    pub value_cache_bytes_max: usize,
}

/// Why the server cannot start with these flags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Too small.
    #[error("--{flag} is {value}, and the least is {min}")]
    BelowMin {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: u64,
        /// The limit.
        min: u64,
    },
    /// Too large.
    #[error("--{flag} is {value}, and the most is {max}")]
    AboveMax {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: u64,
        /// The limit.
        max: u64,
    },
    /// Empty.
    #[error("--{flag} is empty, and at least one character is needed")]
    Empty {
        /// The flag.
        flag: &'static str,
    },
    /// Not of the form that the flag takes.
    #[error("--{flag} is {value:?}, and {expected} is needed")]
    Malformed {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What is needed.
        expected: &'static str,
    },
}

/// More threads than this is a slip of the hand.
const WORKERS_MAX: u64 = 1024;
/// Requests and outboxes travel in gRPC frames, whose length has 32 bits; half of that leaves room for the rest.
const FRAME_BYTES_MAX: u64 = 1 << 30;
/// Below this etcd refuses too: a notification would cost more than what it tells.
const PROGRESS_NOTIFY_INTERVAL_MS_MIN: u64 = 100;
/// A year.
const PROGRESS_NOTIFY_INTERVAL_MS_MAX: u64 = 365 * 24 * 3_600_000;
/// A counter of things in memory never needs more.
const COUNT_MAX: u64 = 1 << 31;
/// A terabyte of memory.
const MEMORY_BYTES_MAX: u64 = 1 << 40;

impl TryFrom<ServeArgs> for Config {
    type Error = ConfigError;

    fn try_from(args: ServeArgs) -> Result<Self, ConfigError> {
        let workers = match args.workers {
            Some(workers) => count("workers", workers, WORKERS_MAX)?,
            None => default_workers(),
        };
        if args.name.is_empty() {
            return Err(ConfigError::Empty { flag: "name" });
        }
        Ok(Self {
            data_dir: args.data_dir,
            listen_client: address("listen-client", &args.listen_client)?,
            advertise_client_url: args.advertise_client_url.map(url).transpose()?,
            name: args.name,
            workers,
            log_level: level(&args.log_level)?,
            limits: ServerLimits::try_from(args.limits)?,
        })
    }
}

impl TryFrom<LimitArgs> for ServerLimits {
    type Error = ConfigError;

    fn try_from(args: LimitArgs) -> Result<Self, ConfigError> {
        let interval_ms = within(
            "progress-notify-interval-ms",
            args.progress_notify_interval_ms,
            PROGRESS_NOTIFY_INTERVAL_MS_MIN,
            PROGRESS_NOTIFY_INTERVAL_MS_MAX,
        )?;
        let streams = u64::from(args.streams_per_connection_max);
        within("streams-per-connection-max", streams, 1, u32::MAX.into())?;
        Ok(Self {
            request_bytes_max: count("request-bytes-max", args.request_bytes_max, FRAME_BYTES_MAX)?,
            txn_ops_max: count("txn-ops-max", args.txn_ops_max, COUNT_MAX)?,
            streams_per_connection_max: args.streams_per_connection_max,
            watches_per_stream_max: count(
                "watches-per-stream-max",
                args.watches_per_stream_max,
                COUNT_MAX,
            )?,
            watches_max: count("watches-max", args.watches_max, COUNT_MAX)?,
            outbox_bytes_max: count("outbox-bytes-max", args.outbox_bytes_max, FRAME_BYTES_MAX)?,
            mailbox_messages_max: count(
                "mailbox-messages-max",
                args.mailbox_messages_max,
                COUNT_MAX,
            )?,
            delivery_bytes_max: count(
                "delivery-bytes-max",
                args.delivery_bytes_max,
                FRAME_BYTES_MAX,
            )?,
            progress_notify_interval: Duration::from_millis(interval_ms),
            ring_bytes_max: count("ring-bytes-max", args.ring_bytes_max, MEMORY_BYTES_MAX)?,
            value_cache_bytes_max: count(
                "value-cache-bytes-max",
                args.value_cache_bytes_max,
                MEMORY_BYTES_MAX,
            )?,
        })
    }
}

/// One thread is left to the store.
fn default_workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_sub(1).max(1)
}

fn within(flag: &'static str, value: u64, min: u64, max: u64) -> Result<u64, ConfigError> {
    if value < min {
        Err(ConfigError::BelowMin { flag, value, min })
    } else if value > max {
        Err(ConfigError::AboveMax { flag, value, max })
    } else {
        Ok(value)
    }
}

/// At least 1: a limit of zero would be a server that refuses everything.
fn count(flag: &'static str, value: usize, max: u64) -> Result<usize, ConfigError> {
    // A usize that does not fit into 64 bits is above any maximum all the same.
    within(flag, u64::try_from(value).unwrap_or(u64::MAX), 1, max).map(|_| value)
}

fn address(flag: &'static str, value: &str) -> Result<SocketAddr, ConfigError> {
    let malformed = || ConfigError::Malformed {
        flag,
        value: value.to_owned(),
        expected: "HOST:PORT with a host that resolves",
    };
    let mut found = value.to_socket_addrs().map_err(|_| malformed())?;
    found.next().ok_or_else(malformed)
}

fn url(value: String) -> Result<String, ConfigError> {
    let authority = value
        .strip_prefix("http://")
        .or_else(|| value.strip_prefix("https://"))
        .unwrap_or_default();
    if authority.is_empty() || value.contains(char::is_whitespace) {
        return Err(ConfigError::Malformed {
            flag: "advertise-client-url",
            value,
            expected: "http://HOST:PORT",
        });
    }
    Ok(value)
}

fn level(value: &str) -> Result<LevelFilter, ConfigError> {
    value.parse().map_err(|_| ConfigError::Malformed {
        flag: "log-level",
        value: value.to_owned(),
        expected: "one of off, error, warn, info, debug, trace",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn config(flags: &[&str]) -> Result<Config, String> {
        let line = ["vigil", "serve"].iter().chain(flags);
        match Cli::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Serve(args) => Config::try_from(args).map_err(|error| error.to_string()),
            Command::Verb(_) => Err("not serve".to_owned()),
        }
    }

    #[test]
    fn defaults_are_etcds_where_etcd_has_one() {
        let config = config(&[]).unwrap();
        assert_eq!(config.listen_client, "127.0.0.1:2379".parse().unwrap());
        assert_eq!(config.name, "default");
        assert!(config.workers >= 1);
        assert_eq!(config.limits.request_bytes_max, 1_572_864);
        assert_eq!(config.limits.txn_ops_max, 128);
        assert_eq!(config.limits.streams_per_connection_max, u32::MAX);
        assert_eq!(
            config.limits.progress_notify_interval,
            Duration::from_mins(10)
        );
    }

    #[test]
    fn bad_input_names_the_flag_and_the_limit() {
        let check = |flag: &str, value: &str, said: &str| {
            let error = config(&[flag, value]).unwrap_err();
            assert_eq!(error, format!("{flag} is {said}"));
        };
        check("--workers", "0", "0, and the least is 1");
        check("--workers", "5000", "5000, and the most is 1024");
        check("--txn-ops-max", "0", "0, and the least is 1");
        check(
            "--request-bytes-max",
            "2000000000",
            "2000000000, and the most is 1073741824",
        );
        check(
            "--progress-notify-interval-ms",
            "99",
            "99, and the least is 100",
        );
        check("--streams-per-connection-max", "0", "0, and the least is 1");
        check("--name", "", "empty, and at least one character is needed");
        let one_of = "one of off, error, warn, info, debug, trace is needed";
        check("--log-level", "loud", &format!("\"loud\", and {one_of}"));
        let host = "HOST:PORT with a host that resolves is needed";
        check("--listen-client", "2379", &format!("\"2379\", and {host}"));
        let url = "http://HOST:PORT is needed";
        check(
            "--advertise-client-url",
            "a:1",
            &format!("\"a:1\", and {url}"),
        );
    }

    #[test]
    fn every_limit_takes_one() {
        let flags = [
            "--request-bytes-max",
            "--txn-ops-max",
            "--streams-per-connection-max",
            "--watches-per-stream-max",
            "--watches-max",
            "--outbox-bytes-max",
            "--mailbox-messages-max",
            "--delivery-bytes-max",
            "--ring-bytes-max",
            "--value-cache-bytes-max",
        ];
        for flag in flags {
            assert!(config(&[flag, "1"]).is_ok(), "{flag}");
            assert!(config(&[flag, "0"]).is_err(), "{flag}");
        }
    }
}
