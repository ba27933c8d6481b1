//! What is asked of a cluster directly, through its own proxy, and through a relay.
//!
//! The loads are the command lines of `vigil bench`, so that any of them can be run again by hand.

use crate::rows::{Goal::Shown, Measure, cpu, measure, p50, p99, rate};

/// A row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProxyRow {
    /// How it is chosen on the command line.
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) load: &'static str,
    pub(crate) measures: &'static [Measure],
}

const CLUSTER_CPU: Measure = measure(
    "CPU of the three members, us each",
    "/behind_cpu_us_per_operation",
    1.0,
    Shown,
);
const ALL_CPU: Measure = measure(
    "CPU of all servers, us each",
    "/all_cpu_us_per_operation",
    1.0,
    Shown,
);
const WATCHES: Measure = measure(
    "watches that the cluster holds",
    "/watches_held",
    1.0,
    Shown,
);
const FAN_OUT: &[Measure] = &[
    rate("events/s", Shown),
    p50(Shown),
    p99(Shown),
    cpu(Shown),
    CLUSTER_CPU,
    ALL_CPU,
    WATCHES,
];
const CALLS: &[Measure] = &[
    rate("calls/s", Shown),
    p50(Shown),
    p99(Shown),
    cpu(Shown),
    CLUSTER_CPU,
    ALL_CPU,
];

/// All rows, in the order of the table.
pub(crate) const ROWS: &[ProxyRow] = &[
    ProxyRow {
        name: "fan-out-1000",
        what: "ping-pong with 10 puts at a time, 1,000 watchers of one key on 10 streams",
        load: "fanout --watchers 1000 --streams 10 --ahead 10",
        measures: FAN_OUT,
    },
    ProxyRow {
        name: "fan-out-10000",
        what: "ping-pong, 10,000 watchers of one key on 10 streams",
        load: "fanout --watchers 10000 --streams 10",
        measures: FAN_OUT,
    },
    ProxyRow {
        name: "nested",
        what: "ping-pong with 20 puts at a time, 10,000 watchers of nested ranges on 10 streams",
        load: "fanout --watchers 10000 --streams 10 --nested --ahead 20",
        measures: FAN_OUT,
    },
    ProxyRow {
        name: "nested-streams",
        what: "the same on 100 streams",
        load: "fanout --watchers 10000 --streams 100 --nested --ahead 20",
        measures: FAN_OUT,
    },
    ProxyRow {
        name: "nested-paced",
        what: "the same watchers at 50 puts/s",
        load: "fanout --watchers 10000 --streams 100 --nested --pace paced --rate 50",
        measures: FAN_OUT,
    },
    ProxyRow {
        name: "flood",
        what: "flood (100 writers never wait), 1,000 watchers of one key on 10 streams",
        load: "fanout --watchers 1000 --streams 10 --pace flood",
        measures: FAN_OUT,
    },
    ProxyRow {
        name: "put",
        what: "put, 100 clients",
        load: "put --clients 100 --threads 2",
        measures: CALLS,
    },
    ProxyRow {
        name: "range",
        what: "range of one key, linearizable, 100 clients",
        load: "range --clients 100 --threads 2",
        measures: CALLS,
    },
    ProxyRow {
        name: "idle",
        what: "100 k idle watchers, a key each, 100 streams",
        load: "many --watchers 100000 --streams 100",
        measures: &[
            measure("bytes a watcher", "/bytes_per_watcher", 1.0, Shown),
            measure(
                "bytes a watcher in the three members",
                "/behind_bytes_per_watcher",
                1.0,
                Shown,
            ),
            measure("created/s", "/created_per_second", 1.0, Shown),
            WATCHES,
        ],
    },
];
