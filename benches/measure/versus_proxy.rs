//! A relay beside etcd's own proxy and beside none: the same loads on all three before the same kind of cluster, in turn, on
//! the same machine in the same run, as a table of ratios.

use crate::cluster::{ALL, Asked, Cluster, Front};
use crate::load;
use crate::number::short;
use crate::proxy_rows::{ProxyRow, ROWS};
use crate::servers::Kind;
use crate::table::median_of;
use clap::Args;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often the members are asked how many watches they hold; each answer costs them some milliseconds.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How soon the end of a load is seen.
const LOOK: Duration = Duration::from_millis(20);

/// A relay beside etcd's proxy.
#[derive(Debug, Args)]
pub(crate) struct Versus {
    /// How often each load is put on each; the table has the medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long a load is measured.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Every report, one a line.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Rows to run; one runs with all whose names begin so.
    rows: Vec<String>,
}

/// What was seen of one of the three in all rounds.
#[derive(Default)]
struct Seen {
    reports: Vec<Value>,
    failures: Vec<String>,
}

/// Measures, and prints the table.
pub(crate) fn run(args: &Versus) {
    let wanted = |row: &&ProxyRow| {
        args.rows.is_empty() || args.rows.iter().any(|name| row.name.starts_with(&**name))
    };
    let rows: Vec<_> = ROWS.iter().filter(wanted).collect();
    let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
    assert!(
        !rows.is_empty(),
        "no such row; there are: {}",
        names.join(" ")
    );
    let mut json = args
        .json
        .as_ref()
        .map(|path| File::create(path).expect("the file"));
    println!("{}", head());
    for row in rows {
        let mut seen: [Seen; 3] = Default::default();
        for round in 1..=args.rounds {
            for (asked, seen) in ALL.into_iter().zip(&mut seen) {
                eprintln!("{}: {asked:?}, round {round} of {}", row.name, args.rounds);
                match measure(row, asked, args.seconds) {
                    Ok(report) => {
                        if let Some(json) = &mut json {
                            let asked = format!("{asked:?}");
                            let line = json!({ "row": row.name, "asked": asked, "report": report });
                            writeln!(json, "{line}").expect("the file");
                        }
                        seen.reports.push(report);
                    }
                    Err(error) => {
                        eprintln!("{}: {asked:?}: {error}", row.name);
                        seen.failures.push(error);
                    }
                }
            }
        }
        for line in lines(row, &seen) {
            println!("{line}");
        }
    }
}

/// One load on one of them, before a cluster of its own.
fn measure(row: &ProxyRow, asked: Asked, seconds: u64) -> Result<Value, String> {
    let cluster = Cluster::start();
    let front = Front::start(asked, &cluster);
    let (seconds, pids) = (seconds.to_string(), cluster.pids());
    let mut words: Vec<&str> = row.load.split_whitespace().collect();
    words.extend(["--seconds", &seconds, "--behind-pid", &pids]);
    let ended = AtomicBool::new(false);
    let (report, held) = thread::scope(|scope| {
        let asking = scope.spawn(|| watches_held_at_most(&cluster, &ended));
        let report = load::run(front.server(), &words);
        ended.store(true, Ordering::Relaxed);
        (report, asking.join().expect("a thread"))
    });
    let mut report = report?;
    report["watches_held"] = held.into();
    let number = |field: &str| report.pointer(field).and_then(Value::as_f64);
    let mut all = number("/behind_cpu_us_per_operation");
    if front.is_before_the_cluster() {
        let own = number("/server_cpu_us_per_operation");
        all = all.zip(own).map(|(cluster, own)| cluster + own);
    }
    report["all_cpu_us_per_operation"] = all.into();
    Ok(report)
}

/// The most watches that the cluster holds at any time of a load.
fn watches_held_at_most(cluster: &Cluster, ended: &AtomicBool) -> u64 {
    let (mut most, mut last) = (0, Instant::now());
    while !ended.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        if last.elapsed() >= ASK_EVERY {
            most = most.max(cluster.watches_held());
            last = Instant::now();
        }
    }
    most
}

fn head() -> String {
    let etcd = Kind::Etcd.version();
    format!(
        "Before three members of {etcd} on this machine, each load and each round with fresh ones. The generator, the members \
         and whoever is asked share the same cores, so a number is what is left for it by the others, and the ratios count.\n\n\
         | work | measured | {etcd} | grpc-proxy | relay | relay : etcd | relay : proxy |\n|---|---|---|---|---|---|---|"
    )
}

/// The lines of a row, from the reports of all its rounds.
fn lines(row: &ProxyRow, seen: &[Seen; 3]) -> Vec<String> {
    let mut what = row.what;
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), short);
    let times = |relay: Option<f64>, other: Option<f64>| {
        let ratio = relay.zip(other).map(|(relay, other)| relay / other);
        ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{} x", short(ratio)))
    };
    let lines = row.measures.iter().map(|measure| {
        let medians = seen.each_ref();
        let [etcd, proxy, relay] = medians.map(|seen| median_of(measure, &seen.reports));
        format!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            std::mem::take(&mut what),
            measure.label,
            number(etcd),
            number(proxy),
            number(relay),
            times(relay, etcd),
            times(relay, proxy),
        )
    });
    let mut lines: Vec<_> = lines.collect();
    if seen.iter().any(|seen| !seen.failures.is_empty()) {
        let [etcd, proxy, relay] = seen.each_ref().map(|seen| match seen.failures.first() {
            Some(first) => format!("{}: {first}", seen.failures.len()),
            None => "0".to_owned(),
        });
        lines.push(format!(
            "|  | rounds that failed | {etcd} | {proxy} | {relay} |  |  |"
        ));
    }
    lines
}
