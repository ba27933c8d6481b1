//! A bar on standard error while a load is on, for whoever sits at a terminal.
//!
//! It is drawn from a counter that the load keeps anyway, a few times a second.

use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const REDRAW: Duration = Duration::from_millis(200);

/// A bar that follows a counter.
#[derive(Debug)]
pub(super) struct Bar {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bar {
    /// Draws how far `counter` is on its way to `total`, if anybody sees it.
    pub(super) fn follow(what: &'static str, counter: &Arc<AtomicU64>, total: u64) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let bar = ProgressBar::new(total);
        if bar.is_hidden() {
            return Self {
                ended,
                thread: None,
            };
        }
        let template = "{msg:12} {bar:40} {human_pos}/{human_len} {per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        let (counter, stop) = (Arc::clone(counter), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                bar.set_position(counter.load(Ordering::Relaxed));
                thread::park_timeout(REDRAW);
            }
            bar.finish_and_clear();
        });
        Self {
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A bar that panicked has cost nothing but itself.
            drop(thread.join());
        }
    }
}
