//! What `vigil serve` runs with: flags that have been checked, sorted into each room's own limits.
//!
//! Bad input becomes an error that names the flag and the limit, here and nowhere later. No room ever sees a flag.

use crate::actors::{EngineConfig, EngineLimits, OutboxLimits, Placement, StoreLimits};
use crate::api::{HttpSettings, NameList};
use crate::cli::{HttpArgs, LimitArgs, ServeArgs, ServeTlsArgs};
use crate::server::{ServeConfig, ServerLimits};
use crate::storage::StorageLimits;
use crate::tls::{ServerFiles, TlsSource};
use crate::watch::BatchLimits;
use log::LevelFilter;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

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
        let tls = tls(&args)?;
        let workers = match args.workers {
            Some(workers) => count("workers", workers, WORKERS_MAX)?,
            None => default_workers(),
        };
        let engine = EngineConfig {
            data_dir: args.data_dir,
            placement: Placement::Threads { workers },
            limits: engine_limits(&args.limits)?,
            storage: storage_limits(&args.limits)?,
        };
        let (_, listen_client) = split_scheme(&args.listen_client);
        let serve = ServeConfig {
            listen_client: address("listen-client", listen_client)?,
            tls,
            advertise_client_url: args.advertise_client_url.map(url).transpose()?,
            name: args.name,
            http: http_settings(&args.http),
            engine,
            limits: server_limits(&args.limits)?,
        };
        Ok(Self {
            log_level: level(&args.log_level)?,
            serve,
        })
    }
}

fn http_settings(args: &HttpArgs) -> HttpSettings {
    HttpSettings {
        cors: NameList::read(&args.cors),
        host_whitelist: NameList::read(&args.host_whitelist),
        grpc_gateway: args.enable_grpc_gateway,
    }
}

/// Where the certificate comes from, if there is to be one.
fn tls(args: &ServeArgs) -> Result<Option<TlsSource>, ConfigError> {
    let ServeTlsArgs {
        cert_file,
        key_file,
        client_cert_auth,
        trusted_ca_file,
        auto_tls,
    } = args.tls.clone();
    let alone = |flag, needed| Err(ConfigError::Alone { flag, needed });
    if client_cert_auth && trusted_ca_file.is_none() {
        return alone("client-cert-auth", "--trusted-ca-file");
    }
    let asks_for_certificates = trusted_ca_file.is_some();
    let source = match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => Some(TlsSource::Files(ServerFiles {
            cert_file,
            key_file,
            trusted_ca_file,
        })),
        (Some(_), None) => return alone("cert-file", "--key-file"),
        (None, Some(_)) => return alone("key-file", "--cert-file"),
        (None, None) if auto_tls => Some(TlsSource::Own {
            trusted_ca_file,
            hosts: own_hosts(args),
        }),
        (None, None) if asks_for_certificates => {
            let needed = "--cert-file and --key-file, or --auto-tls";
            return alone("trusted-ca-file", needed);
        }
        (None, None) => None,
    };
    let reason = match (split_scheme(&args.listen_client).0, &source) {
        (Some("https"), None) => "https needs --cert-file and --key-file, or --auto-tls",
        (Some("http"), Some(_)) => "http would not use --cert-file or --auto-tls",
        _ => return Ok(source),
    };
    Err(ConfigError::Scheme {
        value: args.listen_client.clone(),
        reason,
    })
}

/// What a certificate of one's own is good for: where the server listens, what clients are told, and this machine.
fn own_hosts(args: &ServeArgs) -> Vec<String> {
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    let urls = [
        Some(&args.listen_client),
        args.advertise_client_url.as_ref(),
    ];
    for url in urls.into_iter().flatten() {
        let (_, rest) = split_scheme(url);
        let authority = rest.split('/').next().unwrap_or_default();
        let host = authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host);
        let host = host.trim_matches(['[', ']']).to_owned();
        if !host.is_empty() && !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// The scheme of an address that has one, and the rest of it.
fn split_scheme(address: &str) -> (Option<&str>, &str) {
    match address.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
        _ => (None, address),
    }
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
    let standard = EngineLimits::default();
    let interval_ms = within(
        "progress-notify-interval-ms",
        args.progress_notify_interval_ms,
        PROGRESS_NOTIFY_INTERVAL_MS_MIN,
        PROGRESS_NOTIFY_INTERVAL_MS_MAX,
    )?;
    let store = StoreLimits {
        txn_ops_max: count("txn-ops-max", args.txn_ops_max, COUNT_MAX)?,
        ..standard.store
    };
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
    Ok(EngineLimits {
        store,
        batch,
        outbox,
        mailbox_messages_max: count("mailbox-messages-max", messages, COUNT_MAX)?,
        ring_bytes_max: count("ring-bytes-max", args.ring_bytes_max, MEMORY_BYTES_MAX)?,
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
        ..StorageLimits::default()
    })
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
    fn certificates_and_schemes_have_to_say_the_same() {
        let refused = |flags: &[&str], said: &str| assert_eq!(config(flags).unwrap_err(), said);
        refused(&["--cert-file", "c"], "--cert-file needs --key-file");
        refused(&["--key-file", "k"], "--key-file needs --cert-file");
        let needed = "--client-cert-auth needs --trusted-ca-file";
        refused(&["--client-cert-auth", "--auto-tls"], needed);
        let needed = "--trusted-ca-file needs --cert-file and --key-file, or --auto-tls";
        refused(&["--trusted-ca-file", "ca"], needed);
        let https = ["--listen-client", "https://127.0.0.1:1"];
        let needed = "https needs --cert-file and --key-file, or --auto-tls";
        let line = format!("--listen-client is \"https://127.0.0.1:1\", and {needed}");
        refused(&https, &line);
        let http = ["--listen-client", "http://127.0.0.1:1"];
        let line = "--listen-client is \"http://127.0.0.1:1\", and http would not use --cert-file or --auto-tls";
        refused(&[&http[..], &["--auto-tls"]].concat(), line);
        let plain = config(&http).unwrap().serve;
        assert_eq!((plain.listen_client.port(), plain.tls), (1, None));
        let advertised = [
            "--auto-tls",
            "--advertise-client-url",
            "https://a.example:1/",
        ];
        let secret = config(&[&https[..], &advertised].concat()).unwrap().serve;
        let Some(TlsSource::Own { hosts, .. }) = secret.tls else {
            panic!("no certificate of its own");
        };
        assert_eq!(hosts, ["localhost", "127.0.0.1", "::1", "a.example"]);
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
