//! The command line, as clap types and nothing else.
//!
//! It says which words and flags there are and what they mean when left out. It never decides whether a value is any
//! good: `config` does that for the server, and each verb for itself.

mod relay;
mod snapshot;
mod tls;
mod transfer;
mod watch_limits;

pub use relay::{RelayArgs, RelayLimitArgs};
pub use snapshot::{SnapshotRestoreArgs, SnapshotSaveArgs, SnapshotStatusArgs, SnapshotVerb};
pub use tls::{CertArgs, ServeTlsArgs, TlsArgs};
pub use transfer::{ExportArgs, ImportArgs, MirrorArgs};
pub use watch_limits::WatchLimitArgs;

use crate::actors::EngineLimits;
use crate::bench::BenchArgs;
use crate::server::ServerLimits;
use crate::storage::StorageLimits;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// A durable multi-version key-value store whose every change can be watched, resumed and replayed by revision.
#[derive(Debug, Parser)]
#[command(name = "vigil", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a data directory over the etcd v3 API.
    #[command(next_line_help = true)]
    Serve(ServeArgs),
    /// Serve an etcd cluster to many clients.
    #[command(next_line_help = true)]
    Relay(RelayArgs),
    /// Put a load on a server and print what it did as one JSON object.
    Bench(BenchArgs),
    /// Talk to a server.
    #[command(flatten)]
    Verb(Verb),
}

/// What to ask of a server.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Put a key; without VALUE the value is read from standard input.
    Put(PutArgs),
    /// Get a key or a range of keys.
    Get(GetArgs),
    /// Delete a key or a range of keys.
    Del(DelArgs),
    /// Watch a key or a range of keys, across reconnects, until interrupted.
    Watch(WatchArgs),
    /// Forget all history before a revision.
    #[command(visible_alias = "compaction")]
    Compact(CompactArgs),
    /// Show what the server says of itself.
    Status(StatusArgs),
    /// Copy one server's keys to another, and go on with every change of them, until interrupted.
    Mirror(MirrorArgs),
    /// Write keys as JSON, a line each.
    Export(ExportArgs),
    /// Put the keys that an export has written.
    Import(ImportArgs),
    /// Save the data of a server, and make a data directory of what was saved.
    #[command(subcommand)]
    Snapshot(SnapshotVerb),
}

/// The flags of `vigil serve`; each can be set as `VIGIL_*` in the environment too.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Directory of the data, made when missing.
    #[arg(
        long,
        env = "VIGIL_DATA_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    #[arg(default_value = "vigil.data")]
    pub data_dir: PathBuf,
    /// Address to serve clients on, with or without http:// or https:// before it; port 0 takes a free one.
    #[arg(
        long,
        env = "VIGIL_LISTEN_CLIENT",
        hide_env_values = true,
        value_name = "HOST:PORT"
    )]
    #[arg(default_value = "127.0.0.1:2379")]
    pub listen_client: String,
    /// URL that clients are told to use; that of --listen-client when not set.
    #[arg(
        long,
        env = "VIGIL_ADVERTISE_CLIENT_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub advertise_client_url: Option<String>,
    /// Name of this member.
    #[arg(long, env = "VIGIL_NAME", hide_env_values = true, value_name = "NAME")]
    #[arg(default_value = "default")]
    pub name: String,
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
    /// TLS.
    #[command(flatten)]
    pub tls: ServeTlsArgs,
    /// What --auto-compaction-retention counts: periodic is time, revision is revisions.
    #[arg(
        long,
        env = "VIGIL_AUTO_COMPACTION_MODE",
        hide_env_values = true,
        value_name = "MODE"
    )]
    #[arg(default_value = "periodic")]
    pub auto_compaction_mode: String,
    /// Which history is kept when the rest is compacted by itself: a time as in 1h30m, whole hours, or revisions; 0 is all.
    #[arg(long, env = "VIGIL_AUTO_COMPACTION_RETENTION", hide_env_values = true)]
    #[arg(value_name = "RETENTION", default_value = "0")]
    pub auto_compaction_retention: String,
    /// The limits.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// The HTTP side of `vigil serve`, with etcd's names and defaults.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpArgs {
    /// Origins whose pages may read answers, with commas between them; * is all.
    #[arg(
        long,
        env = "VIGIL_CORS",
        hide_env_values = true,
        value_name = "ORIGINS"
    )]
    #[arg(default_value = "*")]
    pub cors: String,
    /// Host names that plain requests may be addressed to, with commas between them; * is all.
    #[arg(
        long,
        env = "VIGIL_HOST_WHITELIST",
        hide_env_values = true,
        value_name = "HOSTS"
    )]
    #[arg(default_value = "*")]
    pub host_whitelist: String,
    /// Serve every gRPC call as JSON under /v3/ too.
    #[arg(long, env = "VIGIL_ENABLE_GRPC_GATEWAY", hide_env_values = true)]
    #[arg(value_name = "BOOL", default_value_t = true)]
    #[arg(action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_grpc_gateway: bool,
}

/// The limits of `vigil serve`. Defaults are the rooms' own, which are etcd's where etcd has one.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Size of one request, in bytes.
    #[arg(
        long,
        env = "VIGIL_REQUEST_BYTES_MAX",
        hide_env_values = true,
        value_name = "BYTES"
    )]
    #[arg(default_value_t = ServerLimits::default().request_bytes_max)]
    pub request_bytes_max: usize,
    /// How much the store may hold that is not compacted away, in bytes; 0 is 2 GiB, and less is no quota.
    #[arg(
        long,
        env = "VIGIL_QUOTA_BACKEND_BYTES",
        hide_env_values = true,
        value_name = "BYTES"
    )]
    #[arg(default_value_t = 0, allow_negative_numbers = true)]
    pub quota_backend_bytes: i64,
    /// After how many times what is live the data on the disk is defragmented by itself; 0 is never.
    #[arg(long, env = "VIGIL_AUTO_DEFRAGMENT_MULTIPLE", hide_env_values = true)]
    #[arg(value_name = "COUNT", default_value_t = StorageLimits::default().auto_defragment_multiple)]
    pub auto_defragment_multiple: u64,
    /// Operations of one transaction.
    #[arg(
        long,
        env = "VIGIL_TXN_OPS_MAX",
        hide_env_values = true,
        value_name = "COUNT"
    )]
    #[arg(default_value_t = EngineLimits::default().store.txn_ops_max)]
    pub txn_ops_max: usize,
    /// Open calls of one connection.
    #[arg(long, env = "VIGIL_STREAMS_PER_CONNECTION_MAX", hide_env_values = true)]
    #[arg(value_name = "COUNT", default_value_t = ServerLimits::default().streams_per_connection_max)]
    pub streams_per_connection_max: u32,
    /// What is watched.
    #[command(flatten)]
    pub watching: WatchLimitArgs,
    /// Latest values held in memory for reads, in bytes.
    #[arg(
        long,
        env = "VIGIL_VALUE_CACHE_BYTES_MAX",
        hide_env_values = true,
        value_name = "BYTES"
    )]
    #[arg(default_value_t = StorageLimits::default().value_cache_bytes_max)]
    pub value_cache_bytes_max: usize,
}

/// What every verb needs: where the server is and how to print.
#[derive(Clone, Debug, Args)]
pub struct ClientArgs {
    /// Address of the server, with or without http:// or https:// before it.
    #[arg(
        long,
        env = "VIGIL_ENDPOINT",
        hide_env_values = true,
        value_name = "HOST:PORT"
    )]
    #[arg(default_value = "127.0.0.1:2379")]
    pub endpoint: String,
    /// How answers are printed.
    #[arg(short = 'w', long, value_name = "FORMAT", default_value = "simple")]
    pub write_out: Format,
    /// How long to wait for an answer, in milliseconds; a watch waits for ever.
    #[arg(
        long,
        env = "VIGIL_TIMEOUT_MS",
        hide_env_values = true,
        value_name = "MS"
    )]
    #[arg(default_value_t = 5000)]
    pub timeout_ms: u64,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Bare keys and values, a line each.
    Simple,
    /// One JSON document a line, keys and values in base64.
    Json,
}

/// `vigil put`.
#[derive(Clone, Debug, Args)]
pub struct PutArgs {
    /// The key.
    pub key: OsString,
    /// The value; standard input when left out.
    #[arg(allow_negative_numbers = true)]
    pub value: Option<OsString>,
    /// Print the key and value that were there before.
    #[arg(long)]
    pub prev_kv: bool,
    /// Keep the current value and only make a new revision of the key.
    #[arg(long, conflicts_with = "value")]
    pub ignore_value: bool,
    /// Where and how.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// A key or a range of keys, as `get` and `del` take it.
#[derive(Clone, Debug, Args)]
pub struct RangeArgs {
    /// The key, or the first key of a range.
    pub key: OsString,
    /// The first key past the range.
    pub range_end: Option<OsString>,
    /// All keys that start with KEY; an empty KEY is every key.
    #[arg(long, conflicts_with = "range_end")]
    pub prefix: bool,
    /// All keys from KEY on.
    #[arg(long, conflicts_with_all = ["range_end", "prefix"])]
    pub from_key: bool,
}

/// `vigil get`.
#[derive(Clone, Debug, Args)]
pub struct GetArgs {
    /// Which keys.
    #[command(flatten)]
    pub range: RangeArgs,
    /// The revision to read at; 0 is the latest.
    #[arg(
        long,
        value_name = "REVISION",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub rev: i64,
    /// Print keys without values.
    #[arg(long)]
    pub keys_only: bool,
    /// Print only how many keys there are.
    #[arg(long)]
    pub count_only: bool,
    /// How many keys at most; 0 is all.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub limit: i64,
    /// In which order.
    #[arg(long, ignore_case = true)]
    pub order: Option<Order>,
    /// Sorted by what.
    #[arg(long, ignore_case = true, value_name = "TARGET")]
    pub sort_by: Option<SortBy>,
    /// Print values without keys.
    #[arg(long)]
    pub print_value_only: bool,
    /// Where and how.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// In which order keys are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// What keys are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SortBy {
    /// By create revision.
    Create,
    /// By key.
    Key,
    /// By mod revision.
    Modify,
    /// By value.
    Value,
    /// By version.
    Version,
}

/// `vigil del`.
#[derive(Clone, Debug, Args)]
pub struct DelArgs {
    /// Which keys.
    #[command(flatten)]
    pub range: RangeArgs,
    /// Print the keys and values that were deleted.
    #[arg(long)]
    pub prev_kv: bool,
    /// Where and how.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `vigil watch`.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// Which keys.
    #[command(flatten)]
    pub range: RangeArgs,
    /// The first revision to see; 0 is from now on.
    #[arg(
        long,
        value_name = "REVISION",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub rev: i64,
    /// Print the key and value before each event.
    #[arg(long)]
    pub prev_kv: bool,
    /// Print how far the watch has come while nothing happens.
    #[arg(long)]
    pub progress_notify: bool,
    /// Where and how.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `vigil compact`.
#[derive(Clone, Debug, Args)]
pub struct CompactArgs {
    /// The oldest revision that can still be asked for afterwards.
    #[arg(allow_negative_numbers = true)]
    pub revision: i64,
    /// Wait until the old records are gone from the disk.
    #[arg(long)]
    pub physical: bool,
    /// Where and how.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `vigil status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Where and how.
    #[command(flatten)]
    pub client: ClientArgs,
}
