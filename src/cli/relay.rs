//! The flags of `vigil relay`. What it has in common with `vigil serve` has the same names, and the same defaults unless they
//! are the cluster's affair.

use super::tls::{CertArgs, TlsArgs};
use super::{HttpArgs, ServerLimits, WatchLimitArgs};
use crate::relay::RelayLimits;
use clap::Args;

/// The most that etcd's documentation advises a cluster to take, and so what is most often enough.
const JSON_REQUEST_BYTES_MAX: usize = 10 << 20;

/// The flags of `vigil relay`; each can be set as `VIGIL_*` in the environment too.
#[derive(Clone, Debug, Args)]
pub struct RelayArgs {
    /// Addresses of the cluster's members, with commas between them; one is used at a time, at first the first.
    #[arg(
        long,
        env = "VIGIL_UPSTREAM",
        hide_env_values = true,
        value_name = "HOST:PORT,..."
    )]
    pub upstream: String,
    /// What keys begin with whose reads are answered from the relay's memory, with commas between them; all keys of it are held
    /// there.
    #[arg(
        long,
        env = "VIGIL_CACHE",
        hide_env_values = true,
        value_name = "PREFIX,...",
        value_delimiter = ','
    )]
    pub cache: Vec<String>,
    /// Address to serve clients on, with or without http:// or https:// before it; port 0 takes a free one.
    #[arg(
        long,
        env = "VIGIL_LISTEN_CLIENT",
        hide_env_values = true,
        value_name = "HOST:PORT"
    )]
    #[arg(default_value = "127.0.0.1:2379")]
    pub listen_client: String,
    /// Worker threads, each with its own connections and watchers; cores - 1 when not set, at least 1.
    #[arg(
        long,
        env = "VIGIL_WORKERS",
        hide_env_values = true,
        value_name = "COUNT"
    )]
    pub workers: Option<usize>,
    /// What is logged: off, error, warn, info, debug or trace.
    #[arg(
        long,
        env = "VIGIL_LOG_LEVEL",
        hide_env_values = true,
        value_name = "LEVEL"
    )]
    #[arg(default_value = "info")]
    pub log_level: String,
    /// The HTTP side.
    #[command(flatten)]
    pub http: HttpArgs,
    /// TLS for those who connect here.
    #[command(flatten)]
    pub cert: CertArgs,
    /// TLS towards the cluster.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The limits.
    #[command(flatten)]
    pub limits: RelayLimitArgs,
}

/// The limits of `vigil relay`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct RelayLimitArgs {
    /// Size of one request that comes as JSON, in bytes: the relay reads it whole. Calls over gRPC are as long as the cluster
    /// takes them.
    #[arg(
        long,
        env = "VIGIL_REQUEST_BYTES_MAX",
        hide_env_values = true,
        value_name = "BYTES"
    )]
    #[arg(default_value_t = JSON_REQUEST_BYTES_MAX)]
    pub request_bytes_max: usize,
    /// Open calls of one connection.
    #[arg(long, env = "VIGIL_STREAMS_PER_CONNECTION_MAX", hide_env_values = true)]
    #[arg(value_name = "COUNT", default_value_t = ServerLimits::default().streams_per_connection_max)]
    pub streams_per_connection_max: u32,
    /// Watches that the relay holds on the cluster for those that its clients hold; each has its recent commits in memory.
    #[arg(long, env = "VIGIL_COVERS_MAX", hide_env_values = true)]
    #[arg(value_name = "COUNT", default_value_t = RelayLimits::default().covers_max)]
    pub covers_max: usize,
    /// What is watched.
    #[command(flatten)]
    pub watching: WatchLimitArgs,
}
