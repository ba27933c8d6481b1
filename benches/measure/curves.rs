//! The curves: which number grows, under which load, and what is read off.

use serde_json::Value;

/// One curve with its points.
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// What grows.
    pub(crate) along: &'static str,
    pub(crate) points: &'static [u64],
    /// What has to be there before, as words of `vigil bench`; `{}` is the number that grows.
    before: &'static str,
    /// The load that is measured.
    load: &'static str,
    /// Flags of the server.
    flags: &'static str,
    pub(crate) series: &'static [Series],
}

/// One number that is read off.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    field: &'static str,
    scale: f64,
    /// Whether its axis grows by factors.
    pub(crate) logarithmic: bool,
}

const fn series(name: &'static str, label: &'static str, field: &'static str) -> Series {
    Series {
        name,
        label,
        field,
        scale: 1.0,
        logarithmic: false,
    }
}

const CPU: Series = series("cpu", "server CPU, us each", "/server_cpu_us_per_operation");
const RATE: Series = series("rate", "a second", "/per_second");
const P50: Series = series("p50", "p50, ms", "/latency_ms/p50");
const P99: Series = Series {
    logarithmic: true,
    ..series("p99", "p99, ms", "/latency_ms/p99")
};
const MEMORY: Series = Series {
    scale: 1.0 / (1 << 20) as f64,
    ..series(
        "memory",
        "server memory at most, MiB",
        "/server_rss_bytes_max",
    )
};

/// All of them.
pub(crate) const CURVES: &[Curve] = &[
    Curve {
        name: "watchers",
        what: "watchers with a key each on 100 streams; 10 writers put to their keys",
        along: "watchers",
        points: &[1, 10, 100, 1000, 10_000, 100_000, 1_000_000],
        before: "",
        load: "many --watchers {} --streams 100 --writers 10",
        flags: "",
        series: &[
            CPU,
            P50,
            P99,
            series("bytes", "bytes a watcher", "/bytes_per_watcher"),
            series("created", "created a second", "/created_per_second"),
        ],
    },
    Curve {
        name: "watchers-per-key",
        what: "watchers of one key on 10 streams; the next put waits for all",
        along: "watchers",
        points: &[1, 10, 100, 1000, 10_000, 100_000],
        before: "",
        load: "fanout --watchers {} --streams 10",
        flags: "",
        series: &[CPU, RATE, P50, P99],
    },
    Curve {
        name: "keys",
        what: "puts of 100 clients to so many keys that are there",
        along: "keys",
        points: &[1000, 10_000, 100_000, 1_000_000, 10_000_000],
        before: "fill --puts {} --keys {} --value-bytes 64",
        load: "put --keys {} --value-bytes 64",
        flags: "",
        series: &[CPU, RATE, P99, MEMORY],
    },
    Curve {
        name: "history",
        what: "one watcher from revision 1 over so many revisions of 1,000 keys",
        along: "revisions",
        points: &[10_000, 100_000, 1_000_000, 10_000_000],
        before: "fill --puts {} --keys 1000",
        load: "catchup --no-fill --history {} --keys 1000",
        flags: "",
        series: &[CPU, RATE, MEMORY],
    },
    Curve {
        name: "workers",
        what: "10,000 watchers of one key on 100 streams; the next put waits for all",
        along: "workers",
        points: &[1, 2],
        before: "",
        load: "fanout --watchers 10000 --streams 100",
        flags: "--workers {}",
        series: &[CPU, RATE, P50],
    },
    Curve {
        name: "value-bytes",
        what: "puts of 10 clients, with 10 watchers that hear of every one",
        along: "bytes of a value",
        points: &[64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576],
        before: "",
        load: "fanout --watchers 10 --streams 10 --pace flood --writers 10 --value-bytes {}",
        flags: "",
        series: &[CPU, RATE, P99],
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

    /// What has to be done first, if anything, and what is measured.
    pub(crate) fn loads(&self, point: u64, seconds: u64) -> (Vec<Vec<String>>, Vec<String>) {
        let before = words(self.before, point);
        let mut load = words(self.load, point);
        // A history is read to its end, however long that takes.
        let seconds = if self.load.starts_with("catchup") {
            600
        } else {
            seconds
        };
        load.extend(["--seconds".to_owned(), seconds.to_string()]);
        (Vec::from_iter((!before.is_empty()).then_some(before)), load)
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
