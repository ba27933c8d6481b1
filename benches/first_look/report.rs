//! Numbers becoming lines.
//!
//! A report has a beginning and an end, so that processor time belongs to what was measured between them.

use crate::server::{Server, load, own_cpu};
use std::time::{Duration, Instant};

/// A measurement under way.
pub(crate) struct Stopwatch {
    begun: Instant,
    server_cpu: Duration,
    own_cpu: Duration,
}

impl Stopwatch {
    /// Begins.
    pub(crate) fn start(server: &Server) -> Self {
        Self {
            begun: Instant::now(),
            server_cpu: server.cpu(),
            own_cpu: own_cpu(),
        }
    }

    /// How long it has been under way.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Ends: one line with the rate of `count` things, what one of them cost the server, and what else there is to say.
    pub(crate) fn report(
        &self,
        name: &str,
        (count, unit): (u64, &str),
        server: &Server,
        more: &str,
    ) {
        let elapsed = self.elapsed();
        let server_cpu = server.cpu() - self.server_cpu;
        let own_cpu = own_cpu() - self.own_cpu;
        let share = |cpu: Duration| 100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64();
        println!(
            "{name}: {} {unit}/s ({count} in {:.2} s){more}; server CPU {:.2} us/{unit}, {:.0} %, client {:.0} %; \
             server RSS {:.0} MB; load {}",
            rate(count, elapsed),
            elapsed.as_secs_f64(),
            1e6 * server_cpu.as_secs_f64() / count.max(1) as f64,
            share(server_cpu),
            share(own_cpu),
            server.rss_bytes() as f64 / 1e6,
            load(),
        );
    }
}

fn rate(count: u64, elapsed: Duration) -> String {
    let rate = count as f64 / elapsed.as_secs_f64();
    if rate >= 1e6 {
        format!("{:.2} M", rate / 1e6)
    } else if rate >= 1e5 {
        format!("{:.0} k", rate / 1e3)
    } else {
        format!("{:.1} k", rate / 1e3)
    }
}

/// The middle, the 99th of a hundred and the largest of some times.
pub(crate) fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times
            .get(index)
            .map_or(0.0, |time| 1e3 * time.as_secs_f64())
    };
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}
