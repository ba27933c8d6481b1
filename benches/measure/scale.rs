//! How cost grows: one load after the other on Vigil, each with one number growing, as tables and as plots.

use crate::curves::{CURVES, Curve, There};
use crate::number::short;
use crate::servers::{Kind, Server, fresh_dir};
use crate::{load, plot};
use bytes::Bytes;
use clap::Args;
use std::path::{Path, PathBuf};
use vigil::model::{Put, Write};
use vigil::storage::{self, Readers, StorageLimits};

/// How many puts of a history are durable together.
const GROUP_PUTS: u64 = 1000;

/// How cost grows.
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// How long each point is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Where the plots go.
    #[arg(long, default_value = "docs/scale")]
    to: PathBuf,
    /// Points beyond this are left out.
    #[arg(long, default_value_t = u64::MAX)]
    most: u64,
    /// Curves to draw; one stands for all whose names begin so.
    curves: Vec<String>,
}

/// Measures, prints and draws.
pub(crate) fn run(args: &Scale) {
    let wanted =
        |name: &str| args.curves.is_empty() || args.curves.iter().any(|it| name.starts_with(&**it));
    std::fs::create_dir_all(&args.to).expect("the directory of the plots");
    for curve in CURVES.iter().filter(|curve| wanted(curve.name)) {
        draw(curve, args);
    }
}

/// Measures all points of a curve, prints them, and draws them.
fn draw(curve: &Curve, args: &Scale) {
    println!("\n{}: {}", curve.name, curve.what);
    println!("| {} | {} |", curve.along, curve.labels().join(" | "));
    println!("|---|{}", "---|".repeat(curve.series.len()));
    let mut lines: Vec<Vec<(f64, f64)>> = vec![Vec::new(); curve.series.len()];
    for &point in curve.points.iter().filter(|point| **point <= args.most) {
        eprintln!("{} {point}", curve.name);
        let values = measure(curve, point, args.seconds);
        let texts: Vec<String> = values.iter().map(|value| short(*value)).collect();
        println!("| {} | {} |", short(point as f64), texts.join(" | "));
        for (line, value) in lines.iter_mut().zip(values) {
            line.push((point as f64, value));
        }
    }
    let path = args.to.join(format!("{}.svg", curve.name));
    plot::draw(&path, curve, &lines).expect("a plot");
}

/// One point: the numbers of all its series.
fn measure(curve: &Curve, point: u64, seconds: u64) -> Vec<f64> {
    let dir = fresh_dir();
    if let Some(there) = curve.there {
        write_history(dir.path(), point, there);
    }
    let flags = curve.server_flags(point);
    let server = Server::start(Kind::Vigil, dir.path(), &flags);
    let load = curve.load(point, seconds);
    let words: Vec<&str> = load.iter().map(String::as_str).collect();
    let report = load::run(&server, &words);
    curve.values(&report.unwrap_or_else(|error| panic!("{words:?}: {error}")))
}

/// Makes what the server is started on. No server is asked to: ten million puts would take it longer than all that is
/// measured.
fn write_history(dir: &Path, puts: u64, there: There) {
    let opened = storage::open(dir, StorageLimits::default(), Readers::Threads(1));
    let (mut writer, view) = opened.expect("a store");
    let value = Bytes::from(vec![b'v'; there.value_bytes]);
    for number in 0..puts {
        let put = Put {
            key: format!("bench/{:09}", number % there.keys).into(),
            value: value.clone(),
            ..Put::default()
        };
        writer.apply(&Write::Put(put), false).expect("room");
        if (number + 1).is_multiple_of(GROUP_PUTS) {
            writer.commit().expect("a disk");
        }
    }
    writer.commit().expect("a disk");
    drop(view);
    writer.close().expect("a disk");
}
