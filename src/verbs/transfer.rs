//! The verbs that carry keys from one place to another: `mirror`, `export` and `import`.
//!
//! Keys are read in pages at one revision and written in transactions; neither side ever holds the whole store in memory.

mod batch;
mod copy;
mod export;
mod import;
mod mirror;
mod pages;
mod same;

pub(super) use export::export;
pub(super) use import::import;
pub(super) use mirror::mirror;

use super::VerbError;
use indicatif::{ProgressBar, ProgressStyle};

/// How many operations a transaction may have: one is needed to get anywhere.
fn ops_max(max_txn_ops: usize) -> Result<usize, VerbError> {
    if max_txn_ops < 1 {
        return Err(VerbError::BelowMin {
            flag: "max-txn-ops",
            value: max_txn_ops,
            min: 1,
        });
    }
    Ok(max_txn_ops)
}

/// A bar on standard error, which is not drawn when nobody sits there.
fn bar(what: &'static str, total: i64) -> ProgressBar {
    let bar = match u64::try_from(total) {
        Ok(total) if total > 0 => ProgressBar::new(total),
        _ => ProgressBar::no_length(),
    };
    let template = "{msg:12} {bar:40} {human_pos}/{human_len} {per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}
