//! What `vigil relay` runs with.
//!
//! As for `vigil serve`, bad input becomes an error that names the flag, here and nowhere later.

use super::{
    ConfigError, FRAME_BYTES_MAX, WORKERS_MAX, address, count, default_workers, http_settings,
    level, tls, watch_limits, within,
};
use crate::cli::{RelayArgs, RelayLimitArgs};
use crate::relay::RelayLimits;
use crate::server::{RelayConfig, ServerLimits};
use crate::tls::{ClientFiles, Target};
use bytes::Bytes;
use log::LevelFilter;

/// Each is a watch on the cluster, with rings and actors of its own.
const COVERS_MAX: u64 = 1024;

/// Everything that `vigil relay` is started with.
#[derive(Clone, Debug)]
pub struct RelayStart {
    /// What is logged.
    pub log_level: LevelFilter,
    /// What is relayed, where and within which bounds.
    pub relay: RelayConfig,
}

impl TryFrom<RelayArgs> for RelayStart {
    type Error = ConfigError;

    fn try_from(args: RelayArgs) -> Result<Self, ConfigError> {
        let files = ClientFiles::from(&args.tls);
        let workers = match args.workers {
            Some(workers) => count("workers", workers, WORKERS_MAX)?,
            None => default_workers(),
        };
        let (_, listen_client) = tls::split_scheme(&args.listen_client);
        let watching = watching(&args.limits)?;
        let relay = RelayConfig {
            upstreams: upstreams(&args.upstream, &files)?,
            upstream_files: files,
            listen_client: address("listen-client", listen_client)?,
            tls: tls::given(&args.cert, &args.listen_client)?,
            workers,
            http: http_settings(&args.http)?,
            cache: prefixes(&args.cache, watching.covers_max)?,
            watching,
            limits: limits(&args.limits)?,
        };
        Ok(Self {
            log_level: level(&args.log_level)?,
            relay,
        })
    }
}

fn upstreams(list: &str, files: &ClientFiles) -> Result<Vec<Target>, ConfigError> {
    let flag = "upstream";
    let each = list.split(',').map(str::trim).filter(|it| !it.is_empty());
    let mut targets: Vec<Target> = Vec::new();
    let mut known: Vec<&str> = Vec::new();
    for endpoint in each {
        let target = Target::read(endpoint, files).ok_or_else(|| ConfigError::Malformed {
            flag,
            value: endpoint.to_owned(),
            expected: "HOST:PORT, with or without http:// or https:// before it,",
        })?;
        let mut pairs = known.iter().zip(&targets);
        if let Some((one, _)) = pairs.find(|(_, it)| it.authority == target.authority) {
            return Err(both(flag, one, endpoint));
        }
        known.push(endpoint);
        targets.push(target);
    }
    if targets.is_empty() {
        return Err(ConfigError::Empty { flag });
    }
    Ok(targets)
}

/// Without empty ones: each of those would be all keys there are.
fn prefixes(list: &[String], covers_max: usize) -> Result<Vec<Bytes>, ConfigError> {
    let flag = "cache";
    let prefixes: Vec<_> = list.iter().filter(|it| !it.is_empty()).collect();
    for (at, one) in prefixes.iter().enumerate() {
        let mut others = prefixes.iter().enumerate();
        let holds =
            |(place, other): &(usize, &&String)| *place != at && one.starts_with(other.as_str());
        if let Some((_, other)) = others.find(holds) {
            return Err(both(flag, one, other));
        }
    }
    if prefixes.len() > covers_max {
        return Err(ConfigError::MoreThan {
            flag,
            what: "prefixes",
            count: prefixes.len(),
            bound: "covers-max",
            max: covers_max,
        });
    }
    Ok(prefixes.into_iter().cloned().map(Bytes::from).collect())
}

fn both(flag: &'static str, one: &str, other: &str) -> ConfigError {
    let (one, other) = (one.to_owned(), other.to_owned());
    ConfigError::Both { flag, one, other }
}

fn limits(args: &RelayLimitArgs) -> Result<ServerLimits, ConfigError> {
    let streams = args.streams_per_connection_max;
    let flag = "streams-per-connection-max";
    within(flag, streams.into(), 1, u32::MAX.into())?;
    let flag = "request-bytes-max";
    Ok(ServerLimits {
        json_request_bytes_max: Some(count(flag, args.request_bytes_max, FRAME_BYTES_MAX)?),
        streams_per_connection_max: streams,
        ..ServerLimits::default()
    })
}

fn watching(args: &RelayLimitArgs) -> Result<RelayLimits, ConfigError> {
    Ok(RelayLimits {
        engine: watch_limits(&args.watching)?,
        covers_max: count("covers-max", args.covers_max, COVERS_MAX)?,
        ..RelayLimits::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn start(flags: &[&str]) -> Result<RelayStart, String> {
        let line = ["vigil", "relay"].iter().chain(flags);
        match Cli::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Relay(args) => RelayStart::try_from(args).map_err(|error| error.to_string()),
            _ => Err("not relay".to_owned()),
        }
    }

    #[test]
    fn the_upstreams_are_a_list_of_addresses() {
        let list = "a:1, https://b:2/,,http://[::1]:3";
        let start = start(&["--upstream", list]).unwrap();
        let upstreams = start.relay.upstreams.iter();
        let upstreams: Vec<_> = upstreams
            .map(|it| (it.authority.as_str(), it.is_tls))
            .collect();
        assert_eq!(
            upstreams,
            [("a:1", false), ("b:2", true), ("[::1]:3", false)]
        );
    }

    #[test]
    fn without_a_scheme_it_is_tls_when_files_are_given() {
        let start = start(&["--upstream", "a:1,http://b:1", "--cacert", "ca.pem"]).unwrap();
        let is_tls: Vec<_> = start.relay.upstreams.iter().map(|it| it.is_tls).collect();
        assert_eq!(is_tls, [true, false]);
    }

    #[test]
    fn an_empty_list_of_prefixes_is_no_cache() {
        let cache = |list: &str| {
            let start = start(&["--upstream", "a:1", "--cache", list]).unwrap();
            let cache = start.relay.cache.iter();
            let cache: Vec<_> = cache.map(|it| String::from_utf8_lossy(it)).collect();
            cache.join("|")
        };
        assert_eq!(cache(""), "");
        assert_eq!(cache(",,"), "");
        assert_eq!(cache("k/,,l/,"), "k/|l/");
    }

    #[test]
    fn what_is_said_twice_is_refused_with_both() {
        let refused = |flags: &[&str], said: &str| {
            assert_eq!(start(flags).err().as_deref(), Some(said));
        };
        let said = "--upstream has both \"a:1\" and \"http://a:1\", and one of them is enough";
        refused(&["--upstream", "a:1,b:1,http://a:1"], said);
        let twice = "--cache has both \"k\" and \"k\", and one of them is enough";
        refused(&["--upstream", "a:1", "--cache", "k,l,k"], twice);
        let inside = "--cache has both \"k/a\" and \"k/\", and one of them is enough";
        refused(&["--upstream", "a:1", "--cache", "k/a,k/"], inside);
    }

    #[test]
    fn there_is_a_cover_for_each_cache() {
        let flags = |list| ["--upstream", "a:1", "--covers-max", "2", "--cache", list];
        assert!(start(&flags("a,b")).is_ok());
        let said = "--cache has 3 prefixes, and --covers-max is 2";
        assert_eq!(start(&flags("a,b,c")).err().as_deref(), Some(said));
    }

    #[test]
    fn bad_input_names_the_flag() {
        let refused = |flags: &[&str], said: &str| {
            let flags = [&["--upstream", "a:1"], flags].concat();
            assert_eq!(start(&flags).err().as_deref(), Some(said));
        };
        refused(&["--workers", "0"], "--workers is 0, and the least is 1");
        refused(&["--cert-file", "c"], "--cert-file needs --key-file");
        let needed = "--trusted-ca-file needs --cert-file and --key-file";
        refused(&["--trusted-ca-file", "ca"], needed);
        let https = "--listen-client is \"https://127.0.0.1:1\", and https needs --cert-file and --key-file";
        refused(&["--listen-client", "https://127.0.0.1:1"], https);
        let said = |upstream: &str| start(&["--upstream", upstream]).unwrap_err();
        assert_eq!(
            said(" , "),
            "--upstream is empty, and at least one character is needed"
        );
        assert_eq!(
            said("a:1,b"),
            "--upstream is \"b\", and HOST:PORT, with or without http:// or https:// before it, is needed"
        );
        assert!(start(&[]).unwrap_err().contains("--upstream"));
    }
}
