//! What a measurement saw, as one JSON object.
//!
//! Latencies are kept in histograms of three digits, so that a percentile of millions costs nothing.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The longest time that is told apart from longer ones: an hour, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// How long things took.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Option<Histogram<u64>>);

impl Default for Latencies {
    fn default() -> Self {
        // The bounds are right, so there is always one.
        Self(Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).ok())
    }
}

impl Latencies {
    /// Counts one.
    pub(super) fn record_ns(&mut self, latency_ns: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record((latency_ns / 1000).max(1));
        }
    }

    /// Adds what another thread has counted.
    pub(super) fn add(&mut self, other: &Self) {
        if let (Some(histogram), Some(other)) = (&mut self.0, &other.0) {
            // Both have the same bounds.
            let added = histogram.add(other);
            debug_assert!(added.is_ok());
        }
    }

    /// Percentiles in milliseconds.
    pub(super) fn report(&self) -> Value {
        let Some(histogram) = &self.0 else {
            return Value::Null;
        };
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        json!({
            "count": histogram.len(),
            "mean": histogram.mean() / 1e3,
            "p50": at(0.5),
            "p90": at(0.9),
            "p99": at(0.99),
            "p999": at(0.999),
            "max": histogram.max() as f64 / 1e3,
        })
    }
}

/// A report under way.
#[derive(Debug)]
pub(super) struct Report(Map<String, Value>);

impl Report {
    /// A report of a load on a server.
    pub(super) fn new(workload: &str, endpoint: &str) -> Self {
        let mut report = Self(Map::new());
        report.set("workload", workload);
        report.set("endpoint", endpoint);
        report.set("vigil_bench", env!("CARGO_PKG_VERSION"));
        report
    }

    /// Sets a field.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Sets how many there were, in what time, and the rate.
    pub(super) fn rate(&mut self, count: u64, elapsed: Duration) -> &mut Self {
        let seconds = elapsed.as_secs_f64();
        self.set("count", count);
        self.set("seconds", seconds);
        self.set("per_second", count as f64 / seconds.max(f64::MIN_POSITIVE))
    }

    /// Sets all fields of an object.
    pub(super) fn merge(&mut self, fields: Value) -> &mut Self {
        if let Value::Object(fields) = fields {
            self.0.extend(fields);
        }
        self
    }

    /// The object.
    pub(super) fn finish(self) -> Value {
        Value::Object(self.0)
    }
}
