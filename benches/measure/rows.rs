//! What is compared: each row is one load on both servers, and the numbers of it that count.
//!
//! The loads are the command lines of `vigil bench`, so that any of them can be run again by hand.

/// A history that has to be there before the load begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct History {
    pub(crate) puts: u64,
    pub(crate) keys: u64,
    pub(crate) value_bytes: u64,
}

/// What is done to a server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// A load on an empty server.
    Empty(&'static str),
    /// A load on a server that was started on a history.
    On(History, &'static str),
    /// A load on an empty server that sends as fast as it can, and a bare gRPC stream in the same run to the same client.
    Flood { watchers: u64, load: &'static str },
    /// Overwrites on an empty server that is compacted again and again; `{}` is how many.
    Overwrites(&'static str),
    /// The start itself.
    Restart(History),
}

/// One number of a report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    pub(crate) label: &'static str,
    /// Where it stands in the report.
    pub(crate) field: &'static str,
    /// What it is divided by: another field of the report, where there is one.
    pub(crate) over: Option<&'static str>,
    /// What makes the unit of the label of the report's unit.
    pub(crate) scale: f64,
    pub(crate) goal: Goal,
}

/// What Vigil has to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// At least so many times what etcd has.
    Times(f64),
    /// At most so many times what etcd has.
    AtMostTimes(f64),
    /// At most this, whatever etcd has.
    AtMost(f64),
    /// It is only shown.
    Shown,
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// How it is chosen on the command line.
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) work: Work,
    pub(crate) measures: &'static [Measure],
}

pub(crate) const fn measure(
    label: &'static str,
    field: &'static str,
    scale: f64,
    goal: Goal,
) -> Measure {
    Measure {
        label,
        field,
        over: None,
        scale,
        goal,
    }
}

pub(crate) const fn rate(label: &'static str, goal: Goal) -> Measure {
    measure(label, "/per_second", 1.0, goal)
}

const fn rate_of(label: &'static str, field: &'static str) -> Measure {
    measure(label, field, 1.0, Shown)
}

pub(crate) const fn cpu(goal: Goal) -> Measure {
    measure(
        "server CPU, us each",
        "/server_cpu_us_per_operation",
        1.0,
        goal,
    )
}

pub(crate) const fn p50(goal: Goal) -> Measure {
    measure("p50 ms", "/latency_ms/p50", 1.0, goal)
}

pub(crate) const fn p99(goal: Goal) -> Measure {
    measure("p99 ms", "/latency_ms/p99", 1.0, goal)
}

const fn memory(goal: Goal) -> Measure {
    measure(
        "server memory at most, MiB",
        "/server_rss_bytes_max",
        1.0 / (1 << 20) as f64,
        goal,
    )
}

const fn quotient(
    label: &'static str,
    field: &'static str,
    over: &'static str,
    goal: Goal,
) -> Measure {
    Measure {
        label,
        field,
        over: Some(over),
        scale: 1.0,
        goal,
    }
}

use Goal::{AtMost, AtMostTimes, Shown, Times};

const MILLION: History = History {
    puts: 1_000_000,
    keys: 1000,
    value_bytes: 256,
};
const MILLION_KEYS: History = History {
    puts: 1_000_000,
    keys: 1_000_000,
    value_bytes: 256,
};
const LARGER_VALUES: History = History {
    puts: 1_000_000,
    keys: 10_000,
    value_bytes: 1024,
};
/// Beside a bare gRPC stream with messages as large as those of the server.
const RAW: Measure = rate_of(
    "the same on a bare gRPC stream, events/s",
    "/raw/per_second",
);
const EVENTS_A_MESSAGE: Measure = rate_of("events in a message", "/events_per_response");
const SHARE_OF_RAW: Measure = quotient(
    "share of the bare stream",
    "/per_second",
    "/raw/per_second",
    Shown,
);
const GIB: f64 = 1.0 / (1 << 30) as f64;
const RESTART: &[Measure] = &[
    measure(
        "seconds to the first answer",
        "/seconds",
        1.0,
        AtMostTimes(0.5),
    ),
    measure("server CPU, s", "/server_cpu_seconds", 1.0, Shown),
    measure(
        "server memory, MiB",
        "/server_rss_bytes",
        1.0 / (1 << 20) as f64,
        Shown,
    ),
];

/// All rows, in the order of the table.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "catch-up-1",
        what: "catch-up, 1 watcher from revision 1 over 1 M revisions",
        work: Work::On(MILLION, "catchup --watchers 1 --seconds 30"),
        measures: &[rate("events/s", Times(300.0)), cpu(Shown), memory(Shown)],
    },
    Row {
        name: "catch-up-writers",
        what: "the same while 10 writers go on",
        work: Work::On(MILLION, "catchup --watchers 1 --writers 10 --seconds 30"),
        measures: &[rate("events/s", Shown), cpu(Shown), memory(Shown)],
    },
    Row {
        name: "catch-up-100",
        what: "catch-up, 100 watchers on 1 stream, all of 1 M revisions each",
        work: Work::On(MILLION, "catchup --watchers 100 --seconds 30"),
        measures: &[rate("events/s", Times(15.0)), cpu(Shown), memory(Shown)],
    },
    Row {
        name: "catch-up-100-streams",
        what: "the same on 100 streams",
        work: Work::On(MILLION, "catchup --watchers 100 --streams 100 --seconds 30"),
        measures: &[rate("events/s", Times(15.0)), cpu(Shown), memory(Shown)],
    },
    Row {
        name: "catch-up-1000",
        what: "catch-up, 1,000 watchers on 1 stream, all of 1 M revisions each",
        work: Work::On(MILLION, "catchup --watchers 1000 --seconds 30"),
        measures: &[rate("events/s", Times(15.0)), cpu(Shown), memory(Shown)],
    },
    Row {
        name: "catch-up-keys",
        what: "catch-up, 1,000 watchers, a key each, over 1 M revisions",
        work: Work::On(MILLION, "catchup --watchers 1000 --own-key --seconds 30"),
        measures: &[rate("events/s", Times(1.2)), cpu(Shown), memory(Shown)],
    },
    Row {
        name: "fan-out-1",
        what: "ping-pong, 1 watcher",
        work: Work::Empty("fanout --watchers 1"),
        measures: &[p50(AtMostTimes(1.0)), p99(Shown), cpu(Shown)],
    },
    Row {
        name: "fan-out-100",
        what: "ping-pong, 100 watchers on 1 stream",
        work: Work::Empty("fanout --watchers 100"),
        measures: &[p50(AtMostTimes(0.7)), p99(Shown), cpu(Shown)],
    },
    Row {
        name: "fan-out-1000",
        what: "ping-pong (the next put waits for all), 1,000 watchers on 1 stream",
        work: Work::Empty("fanout --watchers 1000"),
        measures: &[
            rate("events/s", Times(20.0)),
            p50(Shown),
            p99(AtMost(5.0)),
            cpu(Shown),
        ],
    },
    Row {
        name: "fan-out-10000",
        what: "ping-pong, 10,000 watchers on 1 stream",
        work: Work::Empty("fanout --watchers 10000"),
        measures: &[
            rate("events/s", Times(7.0)),
            p50(Shown),
            p99(Shown),
            cpu(Shown),
        ],
    },
    Row {
        name: "fan-out-streams",
        what: "ping-pong, 10,000 watchers on 100 streams",
        work: Work::Empty("fanout --watchers 10000 --streams 100"),
        measures: &[
            rate("events/s", Times(3.0)),
            p50(Shown),
            p99(Shown),
            cpu(AtMost(1.2)),
        ],
    },
    Row {
        name: "flood-1000",
        what: "flood (100 writers never wait), 1,000 watchers on 1 stream",
        work: Work::Flood {
            watchers: 1000,
            load: "fanout --watchers 1000 --pace flood",
        },
        measures: &[
            rate("events/s", Times(1.3)),
            EVENTS_A_MESSAGE,
            RAW,
            SHARE_OF_RAW,
            p50(AtMostTimes(0.25)),
            cpu(Shown),
            memory(Shown),
        ],
    },
    Row {
        name: "flood-10000",
        what: "flood, 10,000 watchers on 1 stream",
        work: Work::Flood {
            watchers: 10_000,
            load: "fanout --watchers 10000 --pace flood",
        },
        measures: &[
            rate("events/s", Times(1.3)),
            EVENTS_A_MESSAGE,
            RAW,
            SHARE_OF_RAW,
            p50(AtMostTimes(0.25)),
            cpu(Shown),
            memory(Shown),
        ],
    },
    Row {
        name: "paced",
        what: "100 puts/s, 1,000 watchers on 1 stream",
        work: Work::Empty("fanout --watchers 1000 --pace paced --rate 100"),
        measures: &[p50(AtMostTimes(0.1)), p99(AtMostTimes(0.1)), cpu(Shown)],
    },
    Row {
        name: "put-1",
        what: "durable put, 1 client",
        work: Work::Empty("put --clients 1 --connections 1"),
        measures: &[rate("puts/s", Times(1.0)), p50(Shown), cpu(Shown)],
    },
    Row {
        name: "put-100",
        what: "durable put, 100 clients",
        work: Work::Empty("put --clients 100 --threads 2"),
        measures: &[
            rate("puts/s", Times(1.7)),
            p50(Shown),
            p99(Shown),
            cpu(AtMostTimes(0.6)),
        ],
    },
    Row {
        name: "put-1000",
        what: "durable put, 1,000 clients",
        work: Work::Empty("put --clients 1000 --connections 100 --threads 2"),
        measures: &[
            rate("puts/s", Times(1.7)),
            p50(Shown),
            p99(Shown),
            cpu(AtMostTimes(0.6)),
        ],
    },
    Row {
        name: "range-1",
        what: "range of one key, linearizable, 100 clients",
        work: Work::Empty("range --clients 100 --threads 2"),
        measures: &[
            rate("reads/s", Times(1.5)),
            p99(Shown),
            cpu(AtMostTimes(0.5)),
        ],
    },
    Row {
        name: "range-500",
        what: "range of 500 keys, 10 clients",
        work: Work::Empty("range --clients 10 --connections 2 --keys-per-answer 500"),
        measures: &[rate("reads/s", Times(3.0)), p99(Shown), cpu(Shown)],
    },
    Row {
        name: "idle-100k",
        what: "100 k idle watchers, a key each, 100 streams",
        work: Work::Empty("many --watchers 100000 --streams 100"),
        measures: &[
            measure(
                "bytes a watcher",
                "/bytes_per_watcher",
                1.0,
                AtMostTimes(0.7),
            ),
            measure("created/s", "/created_per_second", 1.0, Times(2.0)),
        ],
    },
    Row {
        name: "idle-1m",
        what: "1 M idle watchers, a key each, 100 streams",
        work: Work::Empty("many --watchers 1000000 --streams 100"),
        measures: &[
            measure(
                "bytes a watcher",
                "/bytes_per_watcher",
                1.0,
                AtMostTimes(0.7),
            ),
            measure("created/s", "/created_per_second", 1.0, Times(3.0)),
        ],
    },
    Row {
        name: "slow",
        what: "1,000 stalled streams beside 100 live ones, 10 writers",
        work: Work::Empty("slow"),
        measures: &[
            quotient(
                "live p99, stalled : none stalled",
                "/beside_stalled/latency_ms/p99",
                "/none_stalled/latency_ms/p99",
                AtMost(1.1),
            ),
            quotient(
                "put p99, stalled : none stalled",
                "/beside_stalled/put_latency_ms/p99",
                "/none_stalled/put_latency_ms/p99",
                AtMost(1.1),
            ),
            measure(
                "live events/s beside them",
                "/beside_stalled/per_second",
                1.0,
                Shown,
            ),
            measure(
                "events/s when they read again",
                "/level_again/per_second",
                1.0,
                Times(10.0),
            ),
            measure(
                "server memory at most, MiB",
                "/level_again/server_rss_bytes_max",
                1.0 / (1 << 20) as f64,
                Shown,
            ),
        ],
    },
    Row {
        name: "overwrites",
        what: "overwrites of 100 k keys, all but the newest 100 k revisions compacted every 100 k",
        work: Work::Overwrites(
            "fill --puts {} --keys 100000 --compact-every 100000 --compact-behind 100000",
        ),
        measures: &[
            measure("GiB after 1/4", "/disk_bytes_by_quarter/0", GIB, Shown),
            measure("GiB after 2/4", "/disk_bytes_by_quarter/1", GIB, Shown),
            measure("GiB after 3/4", "/disk_bytes_by_quarter/2", GIB, Shown),
            measure("GiB at the end", "/disk_bytes", GIB, AtMostTimes(1.0)),
            quotient(
                "end : 2/4",
                "/disk_bytes",
                "/disk_bytes_by_quarter/1",
                AtMost(1.1),
            ),
            rate("puts/s", Shown),
            cpu(Shown),
        ],
    },
    Row {
        name: "restart-keys",
        what: "restart with 1 M keys",
        work: Work::Restart(MILLION_KEYS),
        measures: RESTART,
    },
    Row {
        name: "restart-history",
        what: "restart with 10,000 keys x 1 KiB, 1 M revisions",
        work: Work::Restart(LARGER_VALUES),
        measures: RESTART,
    },
];
