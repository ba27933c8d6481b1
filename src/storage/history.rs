//! History in aligned windows of revisions, decoded once for everyone who reads there (L5).
//!
//! A window is a power of two of revisions. One that would be too large in memory is split, and the split is
//! remembered, so that late watchers who start anywhere soon read the very same windows. Nothing here reads beyond the
//! revision that was published before it began (L7).

use super::codec::{Place, RecordRef};
use super::core::Core;
use super::fetch::Blocks;
use super::value_cache::bounded;
use super::{ReadError, StorageError};
use crate::fault::{self, Fault};
use crate::model::{Commit, Event, EventKind, KeyValue, Refusal, Revision};
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::fmt;
use std::sync::Arc;

/// What an entry takes beyond its commits, in bytes.
const ENTRY_OVERHEAD_BYTES: u64 = 200;

/// A part of history.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    /// The commits in order; a revision that compaction has emptied has none.
    pub commits: Vec<Arc<Commit>>,
    /// The first revision that is not covered.
    pub next: Revision,
}

/// The cache of decoded windows.
pub(crate) struct HistoryCache(Cache<(i64, i64), Window, ByBytes, ahash::RandomState>);

impl fmt::Debug for HistoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HistoryCache({} bytes)", self.0.weight())
    }
}

impl HistoryCache {
    /// A cache of at most this many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(bounded(bytes_max, 64 << 10, ByBytes))
    }
}

#[derive(Clone, Debug)]
enum Window {
    Decoded(Arc<Decoded>),
    /// Too large: read windows of this many revisions here.
    Split(i64),
}

#[derive(Debug)]
struct Decoded {
    commits: Vec<Arc<Commit>>,
    /// The last revision it covers: the window's last, or the one that was published when it was read.
    through: Revision,
    bytes: u64,
}

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<(i64, i64), Window> for ByBytes {
    fn weight(&self, _: &(i64, i64), window: &Window) -> u64 {
        ENTRY_OVERHEAD_BYTES
            + match window {
                Window::Decoded(decoded) => decoded.bytes,
                Window::Split(_) => 0,
            }
    }
}

impl Decoded {
    fn stretch(&self, from: Revision, through: Revision) -> Stretch {
        let through = through.min(self.through);
        let begin = self
            .commits
            .partition_point(|commit| commit.revision < from);
        let end = self
            .commits
            .partition_point(|commit| commit.revision <= through);
        Stretch {
            commits: self.commits.get(begin..end).unwrap_or_default().to_vec(),
            next: if fault::active(Fault::StretchClaimsOneMore) {
                through.next().next()
            } else {
                through.next()
            },
        }
    }
}

/// The window of history that holds `from`, if it is in memory.
pub(crate) fn history_cached(core: &Core, from: Revision, through: Revision) -> Option<Stretch> {
    let (_, _, found) = locate(core, from);
    let decoded = found.filter(|decoded| decoded.through >= from)?;
    Some(decoded.stretch(from, through))
}

/// The window that holds a revision: its first revision, its size, and what is known of it.
fn locate(core: &Core, from: Revision) -> (i64, i64, Option<Arc<Decoded>>) {
    let mut size = power_of_two_within(core.limits.stretch_revisions_max as u64);
    loop {
        let start = from.0 - from.0.rem_euclid(size);
        match core.history.0.get(&(start, size)) {
            Some(Window::Split(smaller)) if smaller < size => size = smaller,
            Some(Window::Decoded(decoded)) => return (start, size, Some(decoded)),
            _ => return (start, size, None),
        }
    }
}

fn power_of_two_within(number: u64) -> i64 {
    let exponent = number.max(1).ilog2().min(62);
    1 << exponent
}

/// The window of history that holds `from`, read if it has to be; nothing beyond `through`.
pub(crate) fn history(
    core: &Core,
    from: Revision,
    through: Revision,
) -> Result<Stretch, ReadError> {
    let published = if fault::active(Fault::HistoryBeyondPublished) {
        Revision(i64::MAX)
    } else {
        core.revision()
    };
    let through = through.min(published);
    if from > through {
        return Ok(Stretch {
            commits: Vec::new(),
            next: from,
        });
    }
    let stretch = loop {
        if let Some(stretch) = history_cached(core, from, through) {
            break stretch;
        }
        let (start, size, _) = locate(core, from);
        match decode(core, from, start, size, published)? {
            Window::Decoded(decoded) => {
                let stretch = decoded.stretch(from, through);
                core.history
                    .0
                    .insert((start, size), Window::Decoded(decoded));
                break stretch;
            }
            split @ Window::Split(_) => core.history.0.insert((start, size), split),
        }
    };
    // L6: looked at after reading, since records may go while they are read.
    let compact_revision = core.compact_revision();
    if from < compact_revision && !fault::active(Fault::CompactedStretchAnswered) {
        return Err(Refusal::Compacted { compact_revision }.into());
    }
    Ok(stretch)
}

/// Reads one window, or says into which size it has to be split.
fn decode(
    core: &Core,
    from: Revision,
    start: i64,
    size: i64,
    published: Revision,
) -> Result<Window, StorageError> {
    // What lies below both is compacted, and nobody may ask for it any more.
    let begin = Revision(start).max(core.compact_revision().min(from));
    let through = Revision(start.saturating_add(size - 1)).min(published);
    let first = Place::first_of(begin);
    let block = core.index().blocks.block_of(first);
    let scan_from = block.map_or(first, |(place, _)| place);
    let mut commits = Commits::default();
    'blocks: for block in Blocks::new(core, scan_from, Place::first_of(through.next())) {
        let block = block?;
        let skipped = u32::from(fault::active(Fault::BlockBoundarySkipped));
        for number in block.lower_bound(first)?..block.records() - skipped {
            let record = block.record(number)?;
            if record.main > through {
                break 'blocks;
            }
            let begins = commits.last.is_none_or(|last| last != record.main);
            if begins && size > 1 && commits.bytes > core.limits.stretch_bytes_max {
                let fits = record.main.0.abs_diff(start).max(1);
                return Ok(Window::Split(power_of_two_within(fits).min(size / 2)));
            }
            commits.push(&record);
        }
    }
    let commits = commits.finish();
    check_whole(core, &commits, begin, through)?;
    let bytes = commits.iter().map(|commit| commit.memory_bytes() as u64);
    Ok(Window::Decoded(Arc::new(Decoded {
        bytes: bytes.sum(),
        commits,
        through,
    })))
}

/// Every revision that is not compacted has a record: one without is damage.
fn check_whole(
    core: &Core,
    commits: &[Arc<Commit>],
    begin: Revision,
    through: Revision,
) -> Result<(), StorageError> {
    let kept = begin
        .max(core.compact_revision())
        .max(Revision::FRESH.next());
    let mut expected = kept;
    let behind = commits.partition_point(|commit| commit.revision < kept);
    for commit in commits.iter().skip(behind) {
        if commit.revision != expected {
            break;
        }
        expected = expected.next();
    }
    if expected <= through && expected > core.compact_revision() {
        let at = format!("revision {expected}");
        return Err(StorageError::corrupt("history", at, "no block holds it"));
    }
    Ok(())
}

/// Records becoming commits.
#[derive(Default)]
struct Commits {
    done: Vec<Arc<Commit>>,
    events: Vec<Arc<Event>>,
    last: Option<Revision>,
    /// What they take in memory, as the cache counts it: a window that is read always fits into it.
    bytes: usize,
}

impl Commits {
    fn push(&mut self, record: &RecordRef<'_>) {
        if self.last.is_some_and(|last| last != record.main) {
            self.close();
        }
        self.last = Some(record.main);
        let event = event_of(record);
        self.bytes += event.memory_bytes();
        self.events.push(Arc::new(event));
    }

    fn close(&mut self) {
        let Some(revision) = self.last else { return };
        // Most revisions have one event; a vector that grew by itself would have room for four.
        let mut events = std::mem::take(&mut self.events);
        events.shrink_to_fit();
        self.done.push(Arc::new(Commit { revision, events }));
    }

    fn finish(mut self) -> Vec<Arc<Commit>> {
        self.close();
        self.done
    }
}

/// The event that a record tells of.
fn event_of(record: &RecordRef<'_>) -> Event {
    match record.version {
        0 => {
            let key = Bytes::copy_from_slice(record.key);
            Event::new(EventKind::Delete, KeyValue::tombstone(key, record.main))
        }
        _ => Event::new(EventKind::Put, record.to_key_value()),
    }
}
