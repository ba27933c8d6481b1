//! What `vigil serve` runs with: flags that have been checked, sorted into each room's own limits.
//!
//! Bad input becomes an error that names the flag and the limit, here and nowhere later. No room ever sees a flag.

use crate::actors::{
    AutoCompaction, EngineConfig, EngineLimits, OutboxLimits, Placement, StoreLimits,
};
use crate::api::{HttpSettings, NameList};
use crate::cli::{HttpArgs, LimitArgs, ServeArgs, WatchLimitArgs};
use crate::server::{ServeConfig, ServerLimits};
use crate::storage::StorageLimits;
use crate::watch::BatchLimits;
use log::LevelFilter;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

mod cors;
mod duration;
mod relay;
mod tls;

pub use relay::RelayStart;

/// Everything that `vigil serve` is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is logged.
    pub log_level: LevelFilter,
    /// What is served, where and within which bounds.
    pub serve: ServeConfig,
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
    /// The same twice, or one in the other.
    #[error("--{flag} has both {one:?} and {other:?}, and one of them is enough")]
    Both {
        /// The flag.
        flag: &'static str,
        /// What could be left out.
        one: String,
        /// What is there for it.
        other: String,
    },
    /// More than another flag has room for.
    #[error("--{flag} has {count} {what}, and --{bound} is {max}")]
    MoreThan {
        /// The flag.
        flag: &'static str,
        /// What is counted.
        what: &'static str,
        /// How many were given.
        count: usize,
        /// The flag that bounds them.
        bound: &'static str,
        /// The limit.
        max: usize,
    },
    /// Of no use without another one.
    #[error("--{flag} needs {needed}")]
    Alone {
        /// The flag.
        flag: &'static str,
        /// What is missing.
        needed: &'static str,
    },
    /// The address and the certificates do not say the same.
    #[error("--listen-client is {value:?}, and {reason}")]
    Scheme {
        /// What was given.
        value: String,
        /// What says otherwise.
        reason: &'static str,
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
        if args.name.is_empty() {
            return Err(ConfigError::Empty { flag: "name" });
        }
        let tls = tls::source(&args)?;
        let workers = match args.workers {
            Some(workers) => count("workers", workers, WORKERS_MAX)?,
            None => default_workers(),
        };
        let engine = EngineConfig {
            data_dir: args.data_dir,
            placement: Placement::Threads { workers },
            limits: EngineLimits {
                auto_compaction: auto_compaction(
                    &args.auto_compaction_mode,
                    &args.auto_compaction_retention,
                )?,
                ..engine_limits(&args.limits)?
            },
            storage: storage_limits(&args.limits)?,
        };
        let (_, listen_client) = tls::split_scheme(&args.listen_client);
        let serve = ServeConfig {
            listen_client: address("listen-client", listen_client)?,
            tls,
            advertise_client_url: args.advertise_client_url.map(url).transpose()?,
            name: args.name,
            http: http_settings(&args.http)?,
            engine,
            limits: server_limits(&args.limits)?,
        };
        Ok(Self {
            log_level: level(&args.log_level)?,
            serve,
        })
    }
}

fn http_settings(args: &HttpArgs) -> Result<HttpSettings, ConfigError> {
    Ok(HttpSettings {
        cors: cors::origins(&args.cors)?,
        host_whitelist: NameList::read(&args.host_whitelist),
        grpc_gateway: args.enable_grpc_gateway,
    })
}

fn server_limits(args: &LimitArgs) -> Result<ServerLimits, ConfigError> {
    let streams = args.streams_per_connection_max;
    within(
        "streams-per-connection-max",
        streams.into(),
        1,
        u32::MAX.into(),
    )?;
    Ok(ServerLimits {
        request_bytes_max: count("request-bytes-max", args.request_bytes_max, FRAME_BYTES_MAX)?,
        streams_per_connection_max: streams,
        ..ServerLimits::default()
    })
}

fn engine_limits(args: &LimitArgs) -> Result<EngineLimits, ConfigError> {
    let limits = watch_limits(&args.watching)?;
    let store = StoreLimits {
        txn_ops_max: count("txn-ops-max", args.txn_ops_max, COUNT_MAX)?,
        ..limits.store
    };
    Ok(EngineLimits { store, ..limits })
}

fn watch_limits(args: &WatchLimitArgs) -> Result<EngineLimits, ConfigError> {
    let standard = EngineLimits::default();
    let interval_ms = within(
        "progress-notify-interval-ms",
        args.progress_notify_interval_ms,
        PROGRESS_NOTIFY_INTERVAL_MS_MIN,
        PROGRESS_NOTIFY_INTERVAL_MS_MAX,
    )?;
    let batch = BatchLimits {
        delivery_bytes_max: count(
            "delivery-bytes-max",
            args.delivery_bytes_max,
            FRAME_BYTES_MAX,
        )?,
        ..standard.batch
    };
    let outbox = OutboxLimits {
        outbox_bytes_max: count("outbox-bytes-max", args.outbox_bytes_max, FRAME_BYTES_MAX)?,
        ..standard.outbox
    };
    let messages = args.mailbox_messages_max;
    let per_stream = args.watches_per_stream_max;
    let revisions = args.ring_revisions_max;
    Ok(EngineLimits {
        batch,
        outbox,
        mailbox_messages_max: count("mailbox-messages-max", messages, COUNT_MAX)?,
        ring_bytes_max: count("ring-bytes-max", args.ring_bytes_max, MEMORY_BYTES_MAX)?,
        ring_revisions_max: count("ring-revisions-max", revisions, COUNT_MAX)?,
        watches_per_stream_max: count("watches-per-stream-max", per_stream, COUNT_MAX)?,
        watches_max: count("watches-max", args.watches_max, COUNT_MAX)?,
        progress_notify_interval: Duration::from_millis(interval_ms),
        ..standard
    })
}

fn storage_limits(args: &LimitArgs) -> Result<StorageLimits, ConfigError> {
    let value_cache_bytes_max = args.value_cache_bytes_max;
    Ok(StorageLimits {
        value_cache_bytes_max: count(
            "value-cache-bytes-max",
            value_cache_bytes_max,
            MEMORY_BYTES_MAX,
        )?,
        quota_bytes: quota(args.quota_backend_bytes),
        auto_defragment_multiple: args.auto_defragment_multiple,
        ..StorageLimits::default()
    })
}

/// etcd's forms: a bare number is hours, or revisions; 0 is never.
fn auto_compaction(mode: &str, retention: &str) -> Result<AutoCompaction, ConfigError> {
    let malformed = |flag, value: &str, expected| ConfigError::Malformed {
        flag,
        value: value.to_owned(),
        expected,
    };
    let flag = "auto-compaction-retention";
    match mode {
        "periodic" => {
            let hours = retention.parse::<u32>().map(u64::from);
            let period = hours.map_or_else(
                |_| duration::parse(retention),
                |hours| Some(Duration::from_hours(hours)),
            );
            match period {
                Some(Duration::ZERO) => Ok(AutoCompaction::Off),
                Some(period) => Ok(AutoCompaction::Periodic(period)),
                None => Err(malformed(
                    flag,
                    retention,
                    "a time as in 1h30m, or a number of hours,",
                )),
            }
        }
        "revision" => match retention.parse::<i64>() {
            Ok(0) => Ok(AutoCompaction::Off),
            Ok(kept) if kept > 0 => Ok(AutoCompaction::Revisions(kept)),
            _ => Err(malformed(flag, retention, "a number of revisions")),
        },
        other => Err(malformed(
            "auto-compaction-mode",
            other,
            "one of periodic, revision",
        )),
    }
}

/// etcd's rule: 0 is the default, and what is below is no quota.
fn quota(flag: i64) -> u64 {
    match u64::try_from(flag) {
        Ok(0) => StorageLimits::default().quota_bytes,
        Ok(bytes) => bytes,
        Err(_) => u64::MAX,
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

    pub(super) fn config(flags: &[&str]) -> Result<Config, String> {
        let line = ["vigil", "serve"].iter().chain(flags);
        match Cli::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Serve(args) => Config::try_from(args).map_err(|error| error.to_string()),
            _ => Err("not serve".to_owned()),
        }
    }

    #[test]
    fn defaults_are_etcds_where_etcd_has_one() {
        let config = config(&[]).unwrap();
        assert_eq!(
            config.serve.listen_client,
            "127.0.0.1:2379".parse().unwrap()
        );
        assert_eq!(config.serve.name, "default");
        assert_eq!(config.serve.limits.request_bytes_max, 1_572_864);
        assert_eq!(config.serve.limits.streams_per_connection_max, u32::MAX);
        let limits = config.serve.engine.limits;
        assert_eq!(limits.store.txn_ops_max, 128);
        assert_eq!(limits.progress_notify_interval, Duration::from_mins(10));
        assert_eq!(limits.batch.revisions_per_batch_max, 1000);
        assert_eq!(limits.outbox.control_items_max, 16);
        assert_eq!(config.serve.engine.storage.quota_bytes, 2 << 30);
        let Placement::Threads { workers } = config.serve.engine.placement else {
            panic!("not on threads");
        };
        assert!(workers >= 1);
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
        check(
            "--auto-compaction-mode",
            "daily",
            "\"daily\", and one of periodic, revision is needed",
        );
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
    fn a_quota_of_zero_is_the_default_and_a_negative_one_is_none() {
        let quota = |value: &str| {
            let config = config(&["--quota-backend-bytes", value]).unwrap();
            config.serve.engine.storage.quota_bytes
        };
        assert_eq!(quota("0"), 2 << 30);
        assert_eq!(quota("1"), 1);
        assert_eq!(quota("-1"), u64::MAX);
    }

    #[test]
    fn retention_is_read_as_etcd_reads_it() {
        let read = |mode: &str, retention: &str| {
            let flags = [
                "--auto-compaction-mode",
                mode,
                "--auto-compaction-retention",
                retention,
            ];
            config(&flags).map(|config| config.serve.engine.limits.auto_compaction)
        };
        let periodic = |minutes| Ok(AutoCompaction::Periodic(Duration::from_mins(minutes)));
        assert_eq!(read("periodic", "0"), Ok(AutoCompaction::Off));
        assert_eq!(read("periodic", "0s"), Ok(AutoCompaction::Off));
        assert_eq!(read("periodic", "2"), periodic(120));
        assert_eq!(read("periodic", "5m"), periodic(5));
        assert_eq!(read("periodic", "1h30m"), periodic(90));
        assert_eq!(read("revision", "0"), Ok(AutoCompaction::Off));
        assert_eq!(
            read("revision", "1000"),
            Ok(AutoCompaction::Revisions(1000))
        );
        for (mode, retention, wanted) in [
            (
                "periodic",
                "soon",
                "a time as in 1h30m, or a number of hours,",
            ),
            ("periodic", "5", ""),
            ("revision", "5m", "a number of revisions"),
        ] {
            let error = read(mode, retention).err();
            let said =
                format!("--auto-compaction-retention is {retention:?}, and {wanted} is needed");
            assert_eq!(error, Some(said).filter(|_| !wanted.is_empty()));
        }
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
