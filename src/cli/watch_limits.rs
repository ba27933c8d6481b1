//! The flags that bound what is watched, in `vigil serve` and in `vigil relay`.

use crate::actors::EngineLimits;
use clap::Args;

/// The bounds of watches, and of what is held for them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct WatchLimitArgs {
    /// Watches of one Watch stream.
    #[arg(
        long,
        env = "VIGIL_WATCHES_PER_STREAM_MAX",
        hide_env_values = true,
        value_name = "COUNT"
    )]
    #[arg(default_value_t = 100_000)]
    pub watches_per_stream_max: usize,
    /// Watches of the whole server.
    #[arg(
        long,
        env = "VIGIL_WATCHES_MAX",
        hide_env_values = true,
        value_name = "COUNT"
    )]
    #[arg(default_value_t = 1_000_000)]
    pub watches_max: usize,
    /// Events queued for one Watch stream, in bytes; beyond it the stream's watchers wait.
    #[arg(
        long,
        env = "VIGIL_OUTBOX_BYTES_MAX",
        hide_env_values = true,
        value_name = "BYTES"
    )]
    #[arg(default_value_t = EngineLimits::default().outbox.outbox_bytes_max)]
    pub outbox_bytes_max: usize,
    /// Messages queued for one watcher; beyond it the watcher is a victim until it has room.
    #[arg(
        long,
        env = "VIGIL_MAILBOX_MESSAGES_MAX",
        hide_env_values = true,
        value_name = "COUNT"
    )]
    #[arg(default_value_t = EngineLimits::default().mailbox_messages_max)]
    pub mailbox_messages_max: usize,
    /// Events of one delivery to one watcher, in bytes; one revision above it goes alone.
    #[arg(
        long,
        env = "VIGIL_DELIVERY_BYTES_MAX",
        hide_env_values = true,
        value_name = "BYTES"
    )]
    #[arg(default_value_t = EngineLimits::default().batch.delivery_bytes_max)]
    pub delivery_bytes_max: usize,
    /// Idle time after which a watch that asks for progress is told of progress, in milliseconds.
    #[arg(
        long,
        env = "VIGIL_PROGRESS_NOTIFY_INTERVAL_MS",
        hide_env_values = true
    )]
    #[arg(value_name = "MS", default_value_t = 600_000)]
    pub progress_notify_interval_ms: u64,
    /// Recent commits held in memory for watchers, in bytes.
    #[arg(
        long,
        env = "VIGIL_RING_BYTES_MAX",
        hide_env_values = true,
        value_name = "BYTES"
    )]
    #[arg(default_value_t = EngineLimits::default().ring_bytes_max)]
    pub ring_bytes_max: usize,
    /// Recent commits held in memory for watchers, as a number of revisions.
    #[arg(long, env = "VIGIL_RING_REVISIONS_MAX", hide_env_values = true)]
    #[arg(value_name = "COUNT", default_value_t = EngineLimits::default().ring_revisions_max)]
    pub ring_revisions_max: usize,
}
