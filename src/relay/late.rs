//! What a cover's ring has no more of, read from the cluster: a watch from an older revision, held until it is level.
//!
//! A watch that has told of all that was asked for is let go of: nothing new ever comes by it.

use super::call::{Call, open, wire};
use super::cover::{Cover, Plan};
use super::covers::refusal;
use super::endpoints::Endpoints;
use super::heard::{Heard, Listener, key_value};
use crate::actors::{History, Narrow};
use crate::api::pb::etcdserverpb::RangeRequest;
use crate::api::pb::etcdserverpb::kv_client::KvClient;
use crate::fault::{self, Fault};
use crate::model::{Commit, Event, KeyRange, Refusal, Revision};
use crate::storage::{Done, ReadError, Stretch, Wanted};
use crate::watch::BatchLimits;
use actix::prelude::*;
use futures_util::{StreamExt, stream};
use std::collections::VecDeque;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tonic::Code;

/// Old watches that are kept for whoever reads on: one for each thread that may.
const KEPT_MAX: usize = 8;
/// How long one is kept.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// How often the cluster is asked how far it has come.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long one read may take.
const READ_MAX: Duration = Duration::from_secs(10);
/// Previous values that are looked up at a time.
const LOOK_UPS_MAX: usize = 16;
/// What a deleted or compacted revision answers a read with.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// The history of one cover.
pub(super) struct Late {
    endpoints: Endpoints,
    /// Where reads run.
    arbiter: ArbiterHandle,
    limits: BatchLimits,
    cover: OnceLock<Weak<Cover>>,
    /// The oldest revision that the cluster was found to have.
    compact_revision: AtomicI64,
    kept: Mutex<Kept>,
}

/// Watches that stand where somebody may read on.
#[derive(Debug, Default)]
struct Kept {
    readers: Vec<Reader>,
    /// Nobody reads here any more.
    is_closed: bool,
}

impl fmt::Debug for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Late")
            .field("compact_revision", &self.compact_revision)
            .finish_non_exhaustive()
    }
}

impl Late {
    /// A history that belongs to no cover yet.
    pub(super) fn new(
        endpoints: Endpoints,
        arbiter: ArbiterHandle,
        limits: BatchLimits,
    ) -> Arc<Self> {
        Arc::new(Self {
            endpoints,
            arbiter,
            limits,
            cover: OnceLock::new(),
            compact_revision: AtomicI64::new(0),
            kept: Mutex::default(),
        })
    }

    /// The cover whose range is read.
    pub(super) fn belongs_to(&self, cover: &Arc<Cover>) {
        // Said once, by whoever makes both.
        let _ = self.cover.set(Arc::downgrade(cover));
    }

    /// The cluster has nothing older than this.
    pub(super) fn compacted(&self, compact_revision: Revision) {
        let order = Ordering::AcqRel;
        self.compact_revision.fetch_max(compact_revision.0, order);
    }

    /// Reads from `from` on, with a watch that stands there if one is kept: of this range, or else of the whole cover.
    async fn read(
        &self,
        from: Revision,
        through: Revision,
        outline: Option<&KeyRange>,
    ) -> Result<Stretch, ReadError> {
        loop {
            let mut reader = self.reader(from, outline).await?;
            let ours = self.endpoints.identity().cluster_id;
            let read = timeout(READ_MAX, reader.read(through, ours, &self.limits)).await;
            match read {
                // From here to the answer nothing waits: whoever has come for a wider range meanwhile must not be told that
                // this was all there is.
                Ok(Ok(stretch)) => {
                    let is_wide = outline.is_some() || reader.range.encloses(&self.plan()?.range);
                    if !is_wide && !fault::active(Fault::LateReaderTooNarrow) {
                        continue;
                    }
                    if stretch.next <= through {
                        self.keep(reader);
                    }
                    return Ok(stretch);
                }
                Ok(Err(Unread::Compacted(next))) if fault::active(Fault::CompactedPastSkipped) => {
                    let commits = Vec::new();
                    return Ok(Stretch { commits, next });
                }
                Ok(Err(Unread::Compacted(compact_revision))) => {
                    self.compacted(compact_revision);
                    let compacted = Refusal::Compacted { compact_revision };
                    return Err(ReadError::Refused(compacted));
                }
                Ok(Err(Unread::Refused(words))) => return Err(self.refused(words)),
                Ok(Err(Unread::Broken(why))) => {
                    log::warn!("history cannot be read: {why}");
                    return Err(ReadError::Busy);
                }
                Err(_) => {
                    // The cluster may need longer than that to begin; what it has done so far is not to be done again.
                    self.keep(reader);
                    return Err(ReadError::Busy);
                }
            }
        }
    }

    /// What the cluster lets nobody read it lets nobody watch either: the cover ends, and whoever comes back is told why.
    fn refused(&self, words: Arc<str>) -> ReadError {
        if let Some(cover) = self.cover.get().and_then(Weak::upgrade) {
            cover.refuse(words);
        }
        ReadError::Busy
    }

    fn plan(&self) -> Result<Plan, ReadError> {
        let cover = self.cover.get().and_then(Weak::upgrade);
        Ok(cover.ok_or(ReadError::Busy)?.plan())
    }

    /// A watch that stands at `from`.
    async fn reader(
        &self,
        from: Revision,
        outline: Option<&KeyRange>,
    ) -> Result<Reader, ReadError> {
        let mut plan = self.plan()?;
        if let Some(outline) = outline {
            plan.range = outline.clone();
        }
        if let Some(reader) = self.take(from, &plan.range, plan.with_prev) {
            return Ok(reader);
        }
        let cannot = |why: String| {
            log::warn!("history cannot be read: {why}");
            ReadError::Busy
        };
        let active = self.endpoints.usable().await.map_err(cannot)?;
        let opened = open(active.channel, &plan.range, from, plan.with_prev).await;
        let call = opened.map_err(|status| match refusal(&status) {
            Some(words) => self.refused(words),
            None => cannot(format!("{}: {status}", active.name)),
        })?;
        Ok(Reader::new(call, plan.range, plan.with_prev, from))
    }

    fn take(&self, from: Revision, range: &KeyRange, with_prev: bool) -> Option<Reader> {
        let mut kept = self.kept();
        kept.tidy();
        let fits = |reader: &Reader| {
            let has_prev = reader.with_prev || !with_prev;
            let is_wide = reader.range.encloses(range) || fault::active(Fault::LateReaderTooNarrow);
            reader.next == from && has_prev && is_wide
        };
        let number = kept.readers.iter().position(fits)?;
        Some(kept.readers.swap_remove(number))
    }

    fn keep(&self, mut reader: Reader) {
        reader.kept_at = Instant::now();
        let mut kept = self.kept();
        if kept.is_closed {
            return;
        }
        if kept.readers.len() >= KEPT_MAX {
            kept.readers.remove(0);
        }
        kept.readers.push(reader);
    }

    /// Lets go of watches that nobody has read on with.
    pub(super) fn tidy(&self) {
        self.kept().tidy();
    }

    /// Nobody watches here any more: what a read that is under way stands at is let go of too.
    pub(super) fn close(&self) {
        let mut kept = self.kept();
        kept.is_closed = true;
        kept.readers.clear();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn tidy(&mut self) {
        self.readers
            .retain(|reader| reader.kept_at.elapsed() < KEPT_FOR);
    }
}

/// A watch that reads what is past.
#[derive(Debug)]
struct Reader {
    call: Call,
    listener: Listener,
    range: KeyRange,
    with_prev: bool,
    /// The first revision that it has not told of.
    next: Revision,
    /// Heard, and not told of.
    ahead: VecDeque<Arc<Commit>>,
    /// Everything up to here was heard.
    heard: Revision,
    is_created: bool,
    kept_at: Instant,
}

/// Why history was not read.
enum Unread {
    Compacted(Revision),
    Refused(Arc<str>),
    Broken(String),
}

impl Reader {
    fn new(call: Call, range: KeyRange, with_prev: bool, from: Revision) -> Self {
        Self {
            call,
            listener: Listener::new(from.previous(), with_prev),
            range,
            with_prev,
            next: from,
            ahead: VecDeque::new(),
            heard: from.previous(),
            is_created: false,
            kept_at: Instant::now(),
        }
    }

    /// The next stretch, of one commit at least unless there are none up to `through`.
    async fn read(
        &mut self,
        through: Revision,
        cluster_id: u64,
        limits: &BatchLimits,
    ) -> Result<Stretch, Unread> {
        let mut again = interval(ASK_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.ahead.is_empty() && self.heard < through {
            tokio::select! {
                biased;
                said = self.call.next() => {
                    let response = match said {
                        Ok(Some(response)) => response,
                        Ok(None) => return Err(Unread::Broken("it was closed".to_owned())),
                        Err(status) => return Err(Unread::Broken(status.to_string())),
                    };
                    let theirs = response.header.as_ref().map_or(0, |header| header.cluster_id);
                    if is_another(cluster_id, theirs) {
                        return Err(Unread::Broken("it is another cluster".to_owned()));
                    }
                    match self.listener.hear(response) {
                        Ok(Heard::Created) => {
                            self.is_created = true;
                            self.call.ask_progress();
                        }
                        Ok(Heard::Commits(commits)) => {
                            let last = commits.last().map_or(self.heard, |it| it.revision);
                            self.heard = last;
                            self.ahead.extend(commits);
                        }
                        Ok(Heard::Progress(revision)) => self.heard = self.heard.max(revision),
                        Ok(Heard::Part) => {}
                        Ok(Heard::Compacted(revision)) => return Err(Unread::Compacted(revision)),
                        Ok(Heard::Canceled(why)) if !self.is_created => {
                            return Err(Unread::Refused(why.into()));
                        }
                        Ok(Heard::Canceled(why)) | Err(why) => return Err(Unread::Broken(why)),
                    }
                }
                _ = again.tick() => if self.is_created {
                    self.call.ask_progress();
                },
            }
        }
        Ok(self.told(through, limits))
    }

    /// What was heard, up to `through` and in the bounds of one stretch.
    fn told(&mut self, through: Revision, limits: &BatchLimits) -> Stretch {
        let (mut commits, mut bytes) = (Vec::new(), 0);
        while let Some(commit) = self.ahead.front()
            && commit.revision <= through
        {
            bytes += commit.bytes();
            let is_full = bytes > limits.delivery_bytes_max
                || commits.len() >= limits.revisions_per_batch_max.max(1);
            if is_full && !commits.is_empty() {
                break;
            }
            commits.extend(self.ahead.pop_front());
        }
        self.next = match self.ahead.front() {
            Some(next)
                if next.revision <= through && !fault::active(Fault::LateReaderClaimsMore) =>
            {
                next.revision
            }
            _ => through.min(self.heard).next(),
        };
        Stretch {
            commits,
            next: self.next,
        }
    }
}

impl History for Arc<Late> {
    fn compact_revision(&self) -> Revision {
        Revision(self.compact_revision.load(Ordering::Acquire))
    }

    fn revisions_of(
        &self,
        _range: &KeyRange,
        _within: RangeInclusive<Revision>,
        _max: Narrow,
    ) -> Wanted {
        // Nobody knows without asking.
        Wanted::Dense
    }

    fn history(
        &self,
        from: Revision,
        through: Revision,
        outline: Option<KeyRange>,
        done: Done<Stretch>,
    ) {
        let this = Arc::clone(self);
        self.arbiter.spawn(async move {
            done(this.read(from, through, outline.as_ref()).await);
        });
    }

    fn commits_at(
        &self,
        _range: KeyRange,
        _revisions: Vec<Revision>,
        done: Done<Vec<Arc<Commit>>>,
    ) {
        // Nothing was named, so nothing is picked.
        done(Err(ReadError::Busy));
    }

    fn fill_prev(&self, events: Vec<Arc<Event>>, done: Done<()>) {
        let endpoints = self.endpoints.clone();
        self.arbiter.spawn(async move {
            let looked_up = stream::iter(events).map(|event| look_up(&endpoints, event));
            let mut looked_up = looked_up.buffer_unordered(LOOK_UPS_MAX);
            while let Some(one) = looked_up.next().await {
                if let Err(error) = one {
                    return done(Err(error));
                }
            }
            done(Ok(()));
        });
    }
}

/// Whether an answer comes from another cluster than ours. A relay that has not reached its own yet says 0.
fn is_another(ours: u64, theirs: u64) -> bool {
    ours != 0 && theirs != 0 && ours != theirs && !fault::active(Fault::OtherClusterTaken)
}

/// Fills in what the key was before the event; nothing where that is compacted.
async fn look_up(endpoints: &Endpoints, event: Arc<Event>) -> Result<(), ReadError> {
    if event.prev().is_some() {
        return Ok(());
    }
    let (key, range_end) = wire(&KeyRange::single(event.kv.key.clone()));
    let at = if fault::active(Fault::PrevLookedUpLate) {
        event.kv.mod_revision
    } else {
        event.kv.mod_revision.previous()
    };
    let request = RangeRequest {
        key,
        range_end,
        revision: at.0,
        serializable: true,
        ..RangeRequest::default()
    };
    if request.revision < 1 {
        event.set_prev(None);
        return Ok(());
    }
    let active = endpoints.current();
    let mut client = KvClient::new(active.channel).max_decoding_message_size(usize::MAX);
    match client.range(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let theirs = answer.header.as_ref().map_or(0, |header| header.cluster_id);
            if is_another(endpoints.identity().cluster_id, theirs) {
                return Err(ReadError::Busy);
            }
            let prev = answer.kvs.first().map(|kv| Arc::new(key_value(kv)));
            event.set_prev(prev);
            Ok(())
        }
        Err(status) if status.code() == Code::OutOfRange && status.message() == COMPACTED => {
            event.set_prev(None);
            Ok(())
        }
        Err(status) => {
            log::warn!("a previous value cannot be read: {status}");
            Err(ReadError::Busy)
        }
    }
}
