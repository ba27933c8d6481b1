//! The flags of `vigil bench`.

use super::BenchError;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `vigil bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Where and how.
    #[command(flatten)]
    pub common: Common,
    /// Which load.
    #[command(subcommand)]
    pub workload: Workload,
}

/// What every load needs.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Server to measure.
    #[arg(
        long,
        env = "VIGIL_ENDPOINT",
        hide_env_values = true,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:2379",
        global = true
    )]
    pub endpoint: String,
    /// Process of the server, for its processor time and memory; whoever listens on the port when not set.
    #[arg(long, value_name = "PID", global = true)]
    pub server_pid: Option<u32>,
    /// Processes behind the server, as the members of a cluster are, for what all of them use together.
    #[arg(long, value_name = "PID,...", value_delimiter = ',', global = true)]
    pub behind_pid: Vec<u32>,
    /// Threads of the generator.
    #[arg(long, value_name = "COUNT", default_value_t = 1, global = true)]
    pub threads: usize,
    /// How long is measured, in seconds; it begins a second after the load.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, global = true)]
    pub seconds: u64,
    /// Size of a value, in bytes; at least 8.
    #[arg(long, value_name = "BYTES", default_value_t = 256, global = true)]
    pub value_bytes: usize,
    /// How many keys there are.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, global = true)]
    pub keys: usize,
}

/// Which load.
#[derive(Clone, Debug, Subcommand)]
pub enum Workload {
    /// Puts to each key in its turn, to have a history or many keys.
    Fill(FillLoad),
    /// Durable puts, each client one after the other.
    Put(ClientsArgs),
    /// Linearizable reads of one key or of many.
    Range(RangeLoad),
    /// Puts and reads side by side.
    Mixed(MixedLoad),
    /// Keep-alives of leases.
    Keepalive(KeepaliveLoad),
    /// Leases that all end at once, beside writers.
    Expire(ExpireLoad),
    /// Many watchers of one key, or of ranges in each other.
    Fanout(FanoutLoad),
    /// Many watchers, each of a key of its own.
    Many(ManyLoad),
    /// Watchers that start at revision 1.
    Catchup(CatchupLoad),
    /// Streams that nobody reads, beside one that is read.
    Slow(SlowLoad),
    /// A server's start on data that is there.
    Restart(RestartLoad),
}

/// `vigil bench fill`.
#[derive(Clone, Debug, Args)]
pub struct FillLoad {
    /// How many puts there are.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    pub puts: u64,
    /// Compact after every so many puts; 0 is never.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub compact_every: u64,
    /// How many of the newest revisions a compaction leaves.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub compact_behind: u64,
    /// Directory of the server's data, to say after each quarter how much it takes on the disk.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Clients in a closed loop.
#[derive(Clone, Debug, Args)]
pub struct ClientsArgs {
    /// How many clients there are.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub clients: usize,
    /// How many connections they share.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub connections: usize,
    /// End after this many operations, however long they take; 0 is after the time.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub total: u64,
}

/// `vigil bench range`.
#[derive(Clone, Debug, Args)]
pub struct RangeLoad {
    /// Who reads.
    #[command(flatten)]
    pub clients: ClientsArgs,
    /// How many keys one answer has.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub keys_per_answer: usize,
}

/// `vigil bench mixed`.
#[derive(Clone, Debug, Args)]
pub struct MixedLoad {
    /// Who reads and writes.
    #[command(flatten)]
    pub clients: ClientsArgs,
    /// How many of a hundred operations are puts.
    #[arg(long, value_name = "PERCENT", default_value_t = 20)]
    pub puts_percent: u32,
    /// Watchers of everything, beside them.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub watchers: usize,
}

/// `vigil bench keepalive`.
#[derive(Clone, Debug, Args)]
pub struct KeepaliveLoad {
    /// How many leases are kept alive, each on a stream of its own.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub leases: usize,
    /// How many keep-alives of a stream are on their way at a time.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub ahead: usize,
    /// How many connections they share.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub connections: usize,
}

/// `vigil bench expire`.
#[derive(Clone, Debug, Args)]
pub struct ExpireLoad {
    /// How many leases there are, each with one key.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub leases: usize,
    /// When they end, in seconds from the start; granting them has to be done five seconds before.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub end_after_seconds: u64,
    /// How many clients write meanwhile, each one put after the other.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub writers: usize,
}

/// When the next put goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pace {
    /// When every watcher has seen the last one.
    PingPong,
    /// At fixed times.
    Paced,
    /// At once, from every writer.
    Flood,
}

/// `vigil bench fanout`.
#[derive(Clone, Debug, Args)]
pub struct FanoutLoad {
    /// How many watchers there are.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub watchers: usize,
    /// Not all of one key: of twenty watchers one is of all of a hundred keys, five are of one of their ten prefixes, and
    /// fourteen are of one key. Every event is accounted for at the end.
    #[arg(long)]
    pub nested: bool,
    /// How many streams they share, each on a connection of its own.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub streams: usize,
    /// When the next put goes.
    #[arg(long, default_value = "ping-pong")]
    pub pace: Pace,
    /// Puts of a ping-pong that are on their way at a time: the next ones go when every watcher has seen all of these.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub ahead: usize,
    /// Puts a second of all writers, when paced.
    #[arg(long, value_name = "RATE", default_value_t = 100)]
    pub rate: u64,
    /// Writers of a flood.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub writers: usize,
}

/// `vigil bench many`.
#[derive(Clone, Debug, Args)]
pub struct ManyLoad {
    /// How many watchers there are, each of a key of its own.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub watchers: usize,
    /// How many streams they share, each on a connection of its own.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub streams: usize,
    /// Writers of their keys; with 0 the watchers are only created.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub writers: usize,
}

/// `vigil bench catchup`.
#[derive(Clone, Debug, Args)]
pub struct CatchupLoad {
    /// How many revisions of history are written first, on an empty server.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    pub history: u64,
    /// How many watchers start at revision 1.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub watchers: usize,
    /// How many streams they share, each on a connection of its own.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub streams: usize,
    /// Each watches a key of its own, and not everything.
    #[arg(long)]
    pub own_key: bool,
    /// The history is there from an earlier run.
    #[arg(long)]
    pub no_fill: bool,
    /// Writers that go on meanwhile.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub writers: usize,
}

/// `vigil bench slow`.
#[derive(Clone, Debug, Args)]
pub struct SlowLoad {
    /// Streams that are not read for a while, on connections of their own.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub stalled: usize,
    /// How many connections they share.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub stalled_connections: usize,
    /// Streams that are read, with a watcher each.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub live: usize,
    /// Writers of the one key that all watch.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub writers: usize,
}

/// `vigil bench restart`.
#[derive(Clone, Debug, Args)]
pub struct RestartLoad {
    /// The server's command, with its flags.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

impl BenchArgs {
    /// Refuses numbers with which nothing can be measured.
    pub(super) fn check(&self) -> Result<(), BenchError> {
        let common = &self.common;
        at_least_one("--threads", common.threads)?;
        at_least_one("--keys", common.keys)?;
        at_least_one("--seconds", common.seconds as usize)?;
        match &self.workload {
            Workload::Fill(load) => at_least_one("--puts", load.puts as usize),
            Workload::Put(load) => load.check(),
            Workload::Range(load) => {
                at_least_one("--keys-per-answer", load.keys_per_answer)?;
                load.clients.check()
            }
            Workload::Mixed(load) => load.clients.check(),
            Workload::Keepalive(load) => {
                at_least_one("--connections", load.connections)?;
                at_least_one("--ahead", load.ahead)?;
                at_least_one("--leases", load.leases)
            }
            Workload::Expire(load) => {
                at_least_one("--leases", load.leases)?;
                at_least_one("--end-after-seconds", load.end_after_seconds as usize)
            }
            Workload::Fanout(load) => {
                at_least_one("--watchers", load.watchers)?;
                at_least_one("--streams", load.streams)?;
                at_least_one("--rate", load.rate as usize)?;
                at_least_one("--ahead", load.ahead)?;
                at_least_one("--writers", load.writers)
            }
            Workload::Many(load) => {
                at_least_one("--watchers", load.watchers)?;
                at_least_one("--streams", load.streams)
            }
            Workload::Catchup(load) => {
                at_least_one("--history", load.history as usize)?;
                at_least_one("--watchers", load.watchers)?;
                at_least_one("--streams", load.streams)
            }
            Workload::Slow(load) => {
                at_least_one("--stalled-connections", load.stalled_connections)?;
                at_least_one("--live", load.live)?;
                at_least_one("--writers", load.writers)
            }
            Workload::Restart(_) => Ok(()),
        }
    }
}

impl ClientsArgs {
    fn check(&self) -> Result<(), BenchError> {
        at_least_one("--clients", self.clients)?;
        at_least_one("--connections", self.connections)
    }
}

fn at_least_one(flag: &'static str, given: usize) -> Result<(), BenchError> {
    if given == 0 {
        let given = given.to_string();
        let wanted = "at least 1";
        return Err(BenchError::Flag {
            flag,
            given,
            wanted,
        });
    }
    Ok(())
}
