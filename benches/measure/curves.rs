//! The curves: which number grows, under which load, and what is read off.

use serde_json::Value;

/// One curve with its points.
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// What grows.
    pub(crate) along: &'static str,
    pub(crate) points: &'static [u64],
    /// What has to be there before: as many puts as the number that grows.
    pub(crate) there: Option<There>,
    /// The load that is measured, as words of `vigil bench`; `{}` is the number that grows.
    load: &'static str,
    /// Flags of the server.
    flags: &'static str,
    pub(crate) series: &'static [Series],
}

/// A history that was written before.
#[derive(Clone, Copy)]
pub(crate) struct There {
    /// Its keys, each put to in its turn.
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
}

/// One number that is read off.
pub(crate) struct Series {
    pub(crate) label: &'static str,
    field: &'static str,
    scale: f64,
}

const fn series(label: &'static str, field: &'static str) -> Series {
    Series {
        label,
        field,
        scale: 1.0,
    }
}

const EVENT_CPU: Series = series("server CPU, us an event", "/server_cpu_us_per_operation");
const PUT_CPU: Series = series("server CPU, us a put", "/server_cpu_us_per_operation");
const EVENTS: Series = series("events/s", "/per_second");
const PUTS: Series = series("puts/s", "/per_second");
const P50: Series = series("p50, ms", "/latency_ms/p50");
const P99: Series = series("p99, ms", "/latency_ms/p99");
const MEMORY: Series = Series {
    scale: 1.0 / (1 << 20) as f64,
    ..series("server memory at most, MiB", "/server_rss_bytes_max")
};

/// All of them.
pub(crate) const CURVES: &[Curve] = &[
    Curve {
        name: "watchers",
        what: "watchers with a key each on 100 streams; 10 writers put to their keys",
        along: "watchers",
        points: &[1, 10, 100, 1000, 10_000, 100_000, 1_000_000],
        there: None,
        load: "many --watchers {} --streams 100 --writers 10",
        flags: "",
        series: &[
            EVENT_CPU,
            P50,
            P99,
            EVENTS,
            series("bytes a watcher", "/bytes_per_watcher"),
            series("created a second", "/created_per_second"),
        ],
    },
    Curve {
        name: "watchers-per-key",
        what: "watchers of one key on 10 streams; the next put waits for all",
        along: "watchers",
        points: &[1, 10, 100, 1000, 10_000, 100_000],
        there: None,
        load: "fanout --watchers {} --streams 10",
        flags: "",
        series: &[EVENT_CPU, EVENTS, P50, P99],
    },
    Curve {
        name: "keys",
        what: "puts of 100 clients to so many keys that are there",
        along: "keys",
        points: &[1000, 10_000, 100_000, 1_000_000, 10_000_000],
        there: Some(There {
            keys: u64::MAX,
            value_bytes: 64,
        }),
        load: "put --keys {} --value-bytes 64",
        flags: "",
        series: &[PUT_CPU, PUTS, P99, MEMORY],
    },
    Curve {
        name: "history",
        what: "one watcher from revision 1 over so many revisions of 1,000 keys",
        along: "revisions",
        points: &[10_000, 100_000, 1_000_000, 10_000_000],
        there: Some(There {
            keys: 1000,
            value_bytes: 256,
        }),
        load: "catchup --no-fill --history {} --keys 1000",
        flags: "",
        series: &[EVENT_CPU, EVENTS, MEMORY],
    },
    Curve {
        name: "workers",
        what: "10,000 watchers of one key on 100 streams; the next put waits for all",
        along: "workers",
        points: &[1, 2],
        there: None,
        load: "fanout --watchers 10000 --streams 100",
        flags: "--workers {}",
        series: &[EVENT_CPU, EVENTS, P50],
    },
    Curve {
        name: "value-bytes",
        what: "puts of 10 clients, with 10 watchers that hear of every one",
        along: "bytes of a value",
        points: &[64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576],
        there: None,
        load: "fanout --watchers 10 --streams 10 --pace flood --writers 10 --value-bytes {}",
        flags: "",
        series: &[EVENT_CPU, EVENTS, P99, MEMORY],
    },
];

impl Curve {
    /// What its series are called.
    pub(crate) fn labels(&self) -> Vec<&'static str> {
        self.series.iter().map(|series| series.label).collect()
    }

    /// Flags of the server for a point.
    pub(crate) fn server_flags(&self, point: u64) -> Vec<String> {
        words(self.flags, point)
    }

    /// What is measured.
    pub(crate) fn load(&self, point: u64, seconds: u64) -> Vec<String> {
        let mut load = words(self.load, point);
        // A history is read to its end, however long that takes.
        let seconds = if self.load.starts_with("catchup") {
            600
        } else {
            seconds
        };
        load.extend(["--seconds".to_owned(), seconds.to_string()]);
        load
    }

    /// What the series have of a report.
    pub(crate) fn values(&self, report: &Value) -> Vec<f64> {
        let value = |series: &Series| {
            let number = report.pointer(series.field).and_then(Value::as_f64);
            number.unwrap_or(f64::NAN) * series.scale
        };
        self.series.iter().map(value).collect()
    }
}

fn words(text: &str, point: u64) -> Vec<String> {
    let point = point.to_string();
    let words = text.split_whitespace();
    words.map(|word| word.replace("{}", &point)).collect()
}
