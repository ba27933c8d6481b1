//! `/metrics`: numbers in Prometheus' text, under etcd's names where the thing is the same and under ours where it is not.
//!
//! Each is measured or counted when it is asked for. What we cannot measure has no line: a zero would be a lie.

use super::{Http, health, process};
use crate::api::grpc::Served;
use crate::api::pb::etcdserverpb as pb;
use crate::backend::{Inspection, Measure, StoreStatus};
use actix_web::{HttpResponse, web};
use std::fmt::{Display, Write as _};

/// What Prometheus calls this format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers with all numbers.
pub(super) async fn serve<B: Served>(http: web::Data<Http<B>>) -> HttpResponse {
    let mut text = Exposition::default();
    let name = "vigil_version";
    text.head(name, "gauge", "The version of this server.");
    text.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    // What is said of a store that is elsewhere is asked there.
    if let Some(store) = http.backend().store() {
        if let Ok(status) = health::status(&http).await {
            put_server(&mut text, &status);
        }
        put_store(&mut text, store);
    }
    for measure in http.backend().measures() {
        put_measure(&mut text, &measure);
    }
    let watching = Watching::of(&http.backend().inspect().await);
    watching.put(&mut text);
    put_calls(&mut text, &http);
    put_checks(&mut text, &http);
    put_process(&mut text);
    HttpResponse::Ok().content_type(CONTENT_TYPE).body(text.0)
}

/// The text, as it grows.
#[derive(Debug, Default)]
struct Exposition(String);

impl Exposition {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // A string takes everything.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"");
            self.text_of_label(text);
            self.0.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    /// What stands between the quotes. Prometheus has a way to write three characters; others that cannot be printed are
    /// spelt out.
    fn text_of_label(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other if other.is_control() => {
                    let spelt = other.escape_default();
                    let _ = write!(self.0, "\\{spelt}");
                }
                other => self.0.push(other),
            }
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "counter", help);
        self.sample(name, &[], value);
    }
}

fn put_server(text: &mut Exposition, status: &pb::StatusResponse) {
    let header = status.header.unwrap_or_default();
    let is_leader = status.leader != 0 && status.leader == header.member_id;
    text.gauge(
        "etcd_server_has_leader",
        "Whether a leader exists.",
        u8::from(status.leader != 0),
    );
    text.gauge(
        "etcd_server_is_leader",
        "Whether this member is the leader.",
        u8::from(is_leader),
    );
    text.gauge(
        "etcd_server_is_learner",
        "Whether this member is a learner.",
        u8::from(status.is_learner),
    );
    let id = format!("{:x}", header.member_id);
    text.head("etcd_server_id", "gauge", "The id of this member.");
    text.sample("etcd_server_id", &[("server_id", &id)], 1);
    let name = "etcd_server_version";
    text.head(name, "gauge", "The version of etcd whose API this is.");
    text.sample(name, &[("server_version", &status.version)], 1);
    if status.db_size_quota > 0 {
        text.gauge(
            "etcd_server_quota_backend_bytes",
            "How large the store may get.",
            status.db_size_quota,
        );
    }
}

fn put_store(text: &mut Exposition, store: StoreStatus) {
    text.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "What the data takes on the disk.",
        store.disk_bytes,
    );
    text.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "What of it is not compacted away.",
        store.live_bytes,
    );
    text.gauge(
        "etcd_disk_defrag_inflight",
        "Whether the data is being defragmented.",
        u8::from(store.is_defragmenting),
    );
    text.gauge(
        "etcd_debugging_mvcc_current_revision",
        "The last durable revision.",
        store.revision.0,
    );
    text.gauge(
        "etcd_debugging_mvcc_compact_revision",
        "The oldest revision that can still be asked for.",
        store.compact_revision.0,
    );
}

fn put_measure(text: &mut Exposition, measure: &Measure) {
    let kind = if measure.is_counter {
        "counter"
    } else {
        "gauge"
    };
    text.head(measure.name, kind, measure.help);
    for (label, value) in &measure.samples {
        let label = label.as_ref().map(|(name, of)| (*name, of.as_str()));
        text.sample(measure.name, label.as_slice(), value);
    }
}

/// The watchers of all workers, by where they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Watching {
    synced: usize,
    held: usize,
    unsynced: usize,
    victims: usize,
    victim_bytes: usize,
    stretches_read: u64,
    picks_read: u64,
    writes_queued: usize,
    compacting: bool,
}

impl Watching {
    fn of(states: &[Inspection]) -> Self {
        let mut all = Self::default();
        for state in states {
            match *state {
                Inspection::Store {
                    queued, compacting, ..
                } => (all.writes_queued, all.compacting) = (queued, compacting),
                Inspection::WatcherGroup { synced, held, .. } => {
                    all.synced += synced;
                    all.held += held;
                }
                Inspection::Sync {
                    unsynced,
                    stretches_read,
                    picks_read,
                } => {
                    all.unsynced += unsynced;
                    all.stretches_read += stretches_read;
                    all.picks_read += picks_read;
                }
                Inspection::VictimRetry {
                    victims,
                    pinned_bytes,
                } => {
                    all.victims += victims;
                    all.victim_bytes += pinned_bytes;
                }
            }
        }
        all
    }

    fn put(self, text: &mut Exposition) {
        let slow = self.unsynced + self.victims;
        text.gauge(
            "etcd_debugging_mvcc_watcher_total",
            "Watchers.",
            self.synced + self.held + slow,
        );
        text.gauge(
            "etcd_debugging_mvcc_slow_watcher_total",
            "Watchers that are behind, or whose mailbox is full.",
            slow,
        );
        text.gauge(
            "vigil_synced_watchers",
            "Watchers that are level with the last commit.",
            self.synced,
        );
        text.gauge(
            "vigil_held_watchers",
            "Watchers held back until a progress that was asked for is told.",
            self.held,
        );
        text.gauge(
            "vigil_unsynced_watchers",
            "Watchers that catch up on history.",
            self.unsynced,
        );
        text.gauge(
            "vigil_victims",
            "Watchers whose mailbox is full.",
            self.victims,
        );
        text.gauge(
            "vigil_victim_bytes",
            "Bytes of events kept for victims.",
            self.victim_bytes,
        );
        text.counter(
            "vigil_history_stretches_read_total",
            "Stretches of history read from the disk for watchers that are behind.",
            self.stretches_read,
        );
        text.counter(
            "vigil_history_picks_read_total",
            "Narrow look-ups of history by revision.",
            self.picks_read,
        );
        text.gauge(
            "vigil_writes_queued",
            "Writes that wait for the next group.",
            self.writes_queued,
        );
        text.gauge(
            "vigil_compacting",
            "Whether a compaction is under way.",
            u8::from(self.compacting),
        );
    }
}

fn put_calls<B: Served>(text: &mut Exposition, http: &Http<B>) {
    let name = "grpc_server_started_total";
    text.head(
        name,
        "counter",
        "Calls that were begun, over gRPC and as JSON.",
    );
    for call in http.counts.calls() {
        let labels = [
            ("grpc_method", call.method.as_str()),
            ("grpc_service", call.service.as_str()),
            ("grpc_type", call.kind),
        ];
        text.sample(name, &labels, call.started());
    }
    text.gauge(
        "vigil_event_streams",
        "Watches over plain HTTP that are open.",
        http.counts.open_event_streams(),
    );
}

fn put_checks<B: Served>(text: &mut Exposition, http: &Http<B>) {
    let mut checks = http.counts.checks();
    let health = checks.remove(&("health", "health")).unwrap_or_default();
    text.counter(
        "etcd_server_health_success",
        "How often /health said yes.",
        health.successes,
    );
    text.counter(
        "etcd_server_health_failures",
        "How often /health said no.",
        health.failures,
    );
    let name = "etcd_server_healthcheck";
    text.head(name, "gauge", "How each check went last.");
    for ((kind, check), count) in &checks {
        let labels = [("name", *check), ("type", *kind)];
        text.sample(name, &labels, u8::from(count.was_well));
    }
    let name = "etcd_server_healthchecks_total";
    text.head(name, "counter", "How each check went.");
    for ((kind, check), count) in &checks {
        for (status, times) in [("success", count.successes), ("error", count.failures)] {
            let labels = [("name", *check), ("status", status), ("type", *kind)];
            text.sample(name, &labels, times);
        }
    }
}

fn put_process(text: &mut Exposition) {
    let Some(usage) = process::usage() else {
        return;
    };
    text.counter(
        "process_cpu_seconds_total",
        "Processor time in seconds.",
        usage.cpu_seconds,
    );
    text.gauge(
        "process_resident_memory_bytes",
        "Memory in use.",
        usage.resident_bytes,
    );
    text.gauge(
        "process_open_fds",
        "Files and sockets that are open.",
        usage.open_files,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Revision;

    #[test]
    fn labels_are_escaped_and_every_sample_has_a_head() {
        let mut text = Exposition::default();
        text.gauge("a", "A.", 1);
        text.head("b", "counter", "B.");
        text.sample("b", &[("x", "1\"\\\n"), ("y", "2")], 3);
        let expected = "# HELP a A.\n# TYPE a gauge\na 1\n# HELP b B.\n# TYPE b counter\nb{x=\"1\\\"\\\\\\n\",y=\"2\"} 3\n";
        assert_eq!(text.0, expected);
    }

    #[test]
    fn what_cannot_be_printed_is_spelt_out() {
        let mut text = Exposition::default();
        text.sample("a", &[("x", "\0\t\r\u{7f}\u{e4}")], 1);
        assert_eq!(text.0, "a{x=\"\\\\u{0}\\\\t\\\\r\\\\u{7f}\u{e4}\"} 1\n");
    }

    #[test]
    fn watchers_are_summed_over_the_workers_and_slow_is_behind_or_blocked() {
        let group = |synced, held| Inspection::WatcherGroup {
            revision: Revision(9),
            synced,
            held,
        };
        let sync = Inspection::Sync {
            unsynced: 3,
            stretches_read: 5,
            picks_read: 0,
        };
        let victims = Inspection::VictimRetry {
            victims: 4,
            pinned_bytes: 77,
        };
        let all = Watching::of(&[group(1, 0), sync, victims, group(10, 1)]);
        let mut text = Exposition::default();
        all.put(&mut text);
        assert!(text.0.contains("\netcd_debugging_mvcc_watcher_total 19\n"));
        assert!(
            text.0
                .contains("\netcd_debugging_mvcc_slow_watcher_total 7\n")
        );
        assert!(text.0.contains("\nvigil_victim_bytes 77\n"));
    }
}
