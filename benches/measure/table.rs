//! Medians, ratios, and the table that people read.

use crate::number::short;
use crate::rows::{Goal, Measure, Row};
use crate::servers::{BOTH, Kind};
use serde_json::Value;

/// What a measure has of a report.
pub(crate) fn value(measure: &Measure, report: &Value) -> Option<f64> {
    let number = |field: &str| report.pointer(field).and_then(Value::as_f64);
    let over = measure.over.map_or(Some(1.0), number)?;
    Some(number(measure.field)? * measure.scale / over)
}

/// The median; of an even number of values, the mean of the two in the middle.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// The median that reports have of a measure.
pub(crate) fn median_of(measure: &Measure, reports: &[Value]) -> Option<f64> {
    let values = reports.iter().filter_map(|report| value(measure, report));
    median(&mut values.collect::<Vec<_>>())
}

/// The head of the table.
pub(crate) fn head() -> String {
    let [etcd, _] = BOTH.map(Kind::version);
    format!("| work | measured | {etcd} | Vigil | ratio | aim | |\n|---|---|---|---|---|---|---|")
}

/// The lines of a row, from the reports of all its rounds.
pub(crate) fn lines(row: &Row, reports: &[Vec<Value>; 2]) -> Vec<String> {
    let mut what = row.what;
    let lines = row.measures.iter().map(|measure| {
        let [etcd, vigil] = reports.each_ref();
        let [etcd, vigil] = [etcd, vigil].map(|reports| median_of(measure, reports));
        let ratio = etcd.zip(vigil).map(|(etcd, vigil)| vigil / etcd);
        let line = format!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            std::mem::take(&mut what),
            measure.label,
            etcd.map_or_else(|| "-".to_owned(), short),
            vigil.map_or_else(|| "-".to_owned(), short),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{} x", short(ratio))),
            aim(measure.goal),
            verdict(measure.goal, vigil, ratio),
        );
        line
    });
    lines.collect()
}

fn aim(goal: Goal) -> String {
    match goal {
        Goal::Times(times) => format!(">= {} x", short(times)),
        Goal::AtMostTimes(times) => format!("<= {} x", short(times)),
        Goal::AtMost(value) => format!("<= {}", short(value)),
        Goal::Shown => String::new(),
    }
}

fn verdict(goal: Goal, vigil: Option<f64>, ratio: Option<f64>) -> &'static str {
    let met = match goal {
        Goal::Times(times) => ratio.map(|ratio| ratio >= times),
        Goal::AtMostTimes(times) => ratio.map(|ratio| ratio <= times),
        Goal::AtMost(most) => vigil.map(|value| value <= most),
        Goal::Shown => return "",
    };
    match met {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "not measured",
    }
}
