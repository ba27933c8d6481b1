//! Watchers under a load: they count and time events while it is measured, and tell a writer when all have heard.
//!
//! A watcher that sees anything out of order ends the measurement with an error.

use super::BenchError;
use super::report::Latencies;
use super::watching::Watching;
use super::wire::Connection;
use crate::api::pb::etcdserverpb::WatchCreateRequest;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, watch};

/// What the watchers of all threads have heard.
#[derive(Debug)]
pub(super) struct Heard {
    /// Events that were heard since the measurement began.
    pub events: Arc<AtomicU64>,
    /// Responses that brought them.
    responses: AtomicU64,
    /// Events that were heard in all.
    all: AtomicU64,
    /// At how many events in all the writer is to be woken.
    target: AtomicU64,
    reached: Notify,
    measuring: AtomicBool,
    latencies: Mutex<Latencies>,
    stopped: watch::Sender<bool>,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            events: Arc::default(),
            responses: AtomicU64::default(),
            all: AtomicU64::default(),
            target: AtomicU64::new(u64::MAX),
            reached: Notify::new(),
            measuring: AtomicBool::default(),
            latencies: Mutex::default(),
            stopped: watch::Sender::new(false),
        }
    }
}

impl Heard {
    /// From now on events are counted and timed.
    pub(super) fn measure(&self) {
        self.measuring.store(true, Ordering::Relaxed);
    }

    /// From now on events are no longer counted, and still listened to.
    pub(super) fn measure_no_more(&self) {
        self.measuring.store(false, Ordering::Relaxed);
    }

    /// Events that were heard in all, those before and behind the measurement included.
    pub(super) fn all(&self) -> u64 {
        self.all.load(Ordering::SeqCst)
    }

    /// Ends all listening.
    pub(super) fn stop(&self) {
        self.measure_no_more();
        self.stopped.send_replace(true);
    }

    /// How many events a response had on average.
    pub(super) fn events_per_response(&self) -> f64 {
        let responses = self.responses.load(Ordering::Relaxed).max(1);
        self.events.load(Ordering::Relaxed) as f64 / responses as f64
    }

    /// Waits until as many events were heard in all.
    pub(super) async fn wait_for(&self, target: u64) {
        self.target.store(target, Ordering::SeqCst);
        while self.all.load(Ordering::SeqCst) < target {
            self.reached.notified().await;
        }
    }

    /// How long events took, in milliseconds.
    pub(super) fn latencies(&self) -> Latencies {
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn heard(&self, events: u64) {
        if self.measuring.load(Ordering::Relaxed) {
            self.events.fetch_add(events, Ordering::Relaxed);
            self.responses.fetch_add(1, Ordering::Relaxed);
        }
        let before = self.all.fetch_add(events, Ordering::SeqCst);
        if before + events >= self.target.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }

    /// Listens on one stream until everything is stopped.
    pub(super) async fn listen(&self, mut watching: Watching) -> Result<(), BenchError> {
        let mut latencies = Latencies::default();
        let mut stopped = self.stopped.subscribe();
        loop {
            let timed = self
                .measuring
                .load(Ordering::Relaxed)
                .then_some(&mut latencies);
            tokio::select! {
                events = watching.next(timed) => self.heard(events?),
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
        }
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(&latencies);
        Ok(())
    }
}

/// Opens a stream on a connection of its own, with this many watchers that `create` makes.
pub(super) async fn open_stream(
    endpoint: &str,
    watchers: impl Iterator<Item = usize>,
    create: impl Fn(usize) -> WatchCreateRequest,
) -> Result<Watching, BenchError> {
    let connection = Connection::open(endpoint).await?;
    Watching::open(&connection, watchers.map(create).collect()).await
}

/// A watch of a key or a range from a revision on; 0 is now.
pub(super) fn watch_of(key: &str, range_end: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: bytes::Bytes::copy_from_slice(key.as_bytes()),
        range_end: bytes::Bytes::copy_from_slice(range_end.as_bytes()),
        start_revision,
        ..WatchCreateRequest::default()
    }
}
