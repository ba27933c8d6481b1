//! What one watcher asked for.
//!
//! A spec is fixed when the watch is created; where the watcher stands is the entry's business, not the spec's.

use super::{Event, EventKind, KeyRange, Revision};
use crate::fault::{self, Fault};
use std::sync::Arc;

/// Which events a watcher does not want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventFilters {
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletes.
    pub no_delete: bool,
}

impl EventFilters {
    /// True when an event of this kind passes.
    pub fn admit(self, kind: EventKind) -> bool {
        if fault::active(Fault::FilterIgnored) {
            return true;
        }
        match kind {
            EventKind::Put => !self.no_put,
            EventKind::Delete => !self.no_delete,
        }
    }
}

/// Everything that decides *which bytes* a watcher is sent: watchers of one class get the very same batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WatchClass {
    /// The keys.
    pub range: KeyRange,
    /// Which events are left out.
    pub filters: EventFilters,
    /// Whether events carry the previous value.
    pub prev_kv: bool,
}

impl WatchClass {
    /// True when a watcher of this class is told of the event.
    pub fn admit(&self, event: &Event) -> bool {
        (fault::active(Fault::LateFilterIgnored) || self.filters.admit(event.kind))
            && self.range.contains(&event.kv.key)
    }
}

/// What one watcher asked for.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    /// Which events, in which form.
    pub class: Arc<WatchClass>,
    /// The first revision wanted; `None` is "from now on".
    pub start: Option<Revision>,
    /// Large responses may be cut into fragments.
    pub fragment: bool,
    /// The watcher wants to be told of progress while nothing happens.
    pub progress_notify: bool,
}

impl WatchSpec {
    /// A watch of all events of a range, from `start` or from now on.
    pub fn new(range: KeyRange, start: Option<Revision>) -> Self {
        let class = WatchClass {
            range,
            filters: EventFilters::default(),
            prev_kv: false,
        };
        Self {
            class: Arc::new(class),
            start,
            fragment: false,
            progress_notify: false,
        }
    }

    /// The same watch with previous values.
    pub fn with_prev_kv(mut self) -> Self {
        Arc::make_mut(&mut self.class).prev_kv = true;
        self
    }
}
