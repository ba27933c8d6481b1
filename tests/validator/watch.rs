//! One watch stream, held against the history: each watch has a place in it, and every response moves that place.
//!
//! What a response passes over is remembered until it is known what it was: late, split, overtaken or lost. It judges
//! what a client saw and never waits for more.

use super::history::History;
use super::record::{Ask, Create, Event, Response, Server};
use super::verdict::{Property, Verdict};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Judges one stream.
#[derive(Debug)]
pub(crate) struct StreamCheck<'h> {
    server: Server,
    history: &'h History,
    /// Creates that were not answered yet, each with the newest revision that was answered before it was sent.
    asked: VecDeque<(Create, i64)>,
    watches: BTreeMap<i64, Watch>,
    /// Ended watches whose faults are not settled.
    past: Vec<Watch>,
    /// The fragments so far of a response that is not complete.
    train: Option<Response>,
    ids: Option<(u64, u64)>,
    /// The watches that the client has asked to cancel.
    cancels: BTreeSet<i64>,
}

#[derive(Debug)]
struct Watch {
    create: Create,
    /// The place where it begins; nothing while its server has not shown it.
    begins: Option<usize>,
    /// The place after everything that was passed.
    place: usize,
    /// The first revision that it is still owed.
    next_revision: i64,
    progress: i64,
    was_told: bool,
    ended: bool,
    /// Places that were passed without their event, and the line and manner of it.
    skipped: BTreeMap<usize, (usize, Skip)>,
}

/// How an event was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    /// By the first event of the watch.
    First,
    /// By a later event.
    Gap,
    /// By the end of a response with other events of its revision.
    Split,
    /// By progress; that is a fault already.
    Overtaken,
}

impl<'h> StreamCheck<'h> {
    /// A stream of which nothing is known yet.
    pub(crate) fn new(server: Server, history: &'h History) -> Self {
        Self {
            server,
            history,
            asked: VecDeque::new(),
            watches: BTreeMap::new(),
            past: Vec::new(),
            train: None,
            ids: None,
            cancels: BTreeSet::new(),
        }
    }

    /// How many creates were not answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.asked.len()
    }

    /// The client has sent something.
    pub(crate) fn asked(&mut self, ask: &Ask, answered: i64) {
        match ask {
            Ask::Create(create) => self.asked.push_back((create.clone(), answered)),
            Ask::Cancel { watch_id } => drop(self.cancels.insert(*watch_id)),
            Ask::Progress => {}
        }
    }

    /// The client has received something.
    pub(crate) fn told(&mut self, at: usize, response: &Response, verdict: &mut Verdict) {
        verdict.events += u64::try_from(response.events.len()).unwrap_or_default();
        verdict.check(Property::Protocol);
        if let Err(what) = self.take(at, response, verdict) {
            verdict.fault(Property::Protocol, at, what);
        }
    }

    fn take(&mut self, at: usize, got: &Response, verdict: &mut Verdict) -> Result<(), String> {
        if let Some(ids) = got.ids
            && (ids != *self.ids.get_or_insert(ids) || ids.1 == 0)
        {
            return Err(format!("another cluster or member: {ids:?}"));
        }
        let joined;
        let whole = if got.fragment || self.train.is_some() {
            match self.assemble(got)? {
                Some(whole) => {
                    joined = whole;
                    &joined
                }
                None => return Ok(()),
            }
        } else {
            got
        };
        if whole.is_progress() {
            self.progress(at, whole, verdict)
        } else if whole.created {
            self.created(whole)
        } else if whole.canceled {
            self.canceled(at, whole)
        } else {
            self.events(at, whole, verdict)
        }
    }

    /// Joins fragments; nothing may come between them.
    fn assemble(&mut self, got: &Response) -> Result<Option<Response>, String> {
        let mut whole = match self.train.take() {
            None => got.clone(),
            Some(mut train) => {
                let same = (train.watch_id, train.revision) == (got.watch_id, got.revision);
                if !same || got.events.is_empty() {
                    return Err("not the next fragment".to_owned());
                }
                train.events.extend_from_slice(&got.events);
                train
            }
        };
        if !got.fragment {
            whole.fragment = false;
            return Ok(Some(whole));
        }
        if !self.live(whole.watch_id)?.create.fragment {
            return Err("a fragment for a watch that did not ask for them".to_owned());
        }
        self.train = Some(whole);
        Ok(None)
    }

    fn live(&mut self, id: i64) -> Result<&mut Watch, String> {
        let watch = self.watches.get_mut(&id).filter(|watch| !watch.ended);
        watch.ok_or_else(|| format!("there is no live watch {id}"))
    }

    fn created(&mut self, got: &Response) -> Result<(), String> {
        let create = self.asked.pop_front();
        let (create, answered) = create.ok_or("created, and nobody asked for it")?;
        if got.canceled {
            return Ok(());
        }
        let id = got.watch_id;
        if create.watch_id != 0 && create.watch_id != id {
            let asked = create.watch_id;
            return Err(format!("watch {asked} was asked for, and {id} is created"));
        }
        let created = got.revision.ok_or("created without a revision")?;
        if created < answered {
            return Err(format!(
                "created at {created}, and {answered} was answered before it was asked for"
            ));
        }
        let (start, exact) = match (create.start_revision, self.server) {
            (0, Server::Vigil) => (created + 1, true),
            (0, Server::Etcd) => (created + 1, false),
            (start, _) => (start, true),
        };
        let place = self.history.place_of(start);
        let watch = Watch {
            create,
            begins: exact.then_some(place),
            place,
            next_revision: start,
            // From now on means that nothing older is told, not even progress.
            progress: if exact && start > created { created } else { 0 },
            was_told: false,
            ended: false,
            skipped: BTreeMap::new(),
        };
        match self.watches.insert(id, watch) {
            Some(before) if !before.ended => Err(format!("watch {id} is created twice")),
            Some(before) => {
                self.past.push(before);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn events(&mut self, at: usize, got: &Response, verdict: &mut Verdict) -> Result<(), String> {
        let (history, server) = (self.history, self.server);
        let last = got.events.last().map(|event| event.kv.mod_revision);
        let last = last.ok_or("neither events nor anything else")?;
        let watch = self.live(got.watch_id)?;
        watch.take_events(history, at, &got.events, verdict);
        match (got.revision, server) {
            (Some(header), Server::Vigil) if header != last => Err(format!(
                "header {header} is not that of the last event, {last}"
            )),
            (Some(header), Server::Etcd) if header < last => {
                Err(format!("header {header} is before the last event, {last}"))
            }
            _ => Ok(()),
        }
    }

    fn progress(&mut self, at: usize, got: &Response, verdict: &mut Verdict) -> Result<(), String> {
        verdict.progress += 1;
        let history = self.history;
        let progress = got.revision.ok_or("progress without a revision")?;
        if got.watch_id != -1 {
            let watch = self.live(got.watch_id)?;
            return watch.take_progress(history, at, progress, verdict);
        }
        let live = self.watches.values_mut().filter(|watch| !watch.ended);
        let taken = live.map(|watch| watch.take_progress(history, at, progress, verdict));
        taken.fold(Ok(()), Result::and)
    }

    fn canceled(&mut self, at: usize, got: &Response) -> Result<(), String> {
        let compact_revision = got.compact_revision;
        let asked = |it: &&super::history::Compaction| it.revision == compact_revision;
        let compaction = self.history.compactions.iter().filter(asked);
        let known = compaction
            .map(|it| it.called)
            .min()
            .is_some_and(|it| it <= at);
        let wanted = self.cancels.contains(&got.watch_id);
        let watch = self.live(got.watch_id)?;
        watch.ended = true;
        if compact_revision == 0 {
            // A watch that is given up would be owed nothing more, and nobody would miss it.
            let unasked = || format!("watch {} is cancelled, and nobody asked", got.watch_id);
            return if wanted { Ok(()) } else { Err(unasked()) };
        }
        let next = watch.next_revision;
        if !known {
            Err(format!("nobody compacted at {compact_revision}"))
        } else if next >= compact_revision {
            Err(format!(
                "compacted at {compact_revision}, and it is owed from {next} on"
            ))
        } else if got.revision.unwrap_or_default() != 0 {
            Err("a compacted watch has a header without a revision".to_owned())
        } else {
            Ok(())
        }
    }

    /// Every live watch has been told of everything up to a revision.
    pub(crate) fn complete(&mut self, at: usize, through: i64, verdict: &mut Verdict) {
        let live = self.watches.iter_mut().filter(|(_, watch)| !watch.ended);
        for (id, watch) in live {
            let owed = watch.pass(self.history, self.history.place_of(through + 1));
            verdict.hold(Property::Reliable, owed.is_empty(), at, || {
                let (first, count) = (owed.first(), owed.len());
                format!("watch {id} lacks {count} events up to {through}, from place {first:?}")
            });
        }
    }

    /// Nothing more comes: what was passed over and never came is a fault now.
    pub(crate) fn finish(mut self, verdict: &mut Verdict) {
        self.settle(verdict);
    }

    /// The same for a stream that goes on being asked.
    pub(crate) fn settle(&mut self, verdict: &mut Verdict) {
        for watch in self.past.iter_mut().chain(self.watches.values_mut()) {
            for (place, (line, skip)) in std::mem::take(&mut watch.skipped) {
                let property = match skip {
                    Skip::First => Property::Resumable,
                    Skip::Gap => Property::Reliable,
                    Skip::Split => Property::Atomic,
                    Skip::Overtaken => continue,
                };
                let lost = self.history.at(place).map(|event| &event.kv);
                verdict.fault(property, line, format!("{lost:?} was passed over"));
            }
        }
    }
}

impl Watch {
    /// Moves on to a place; gives the places that it is owed and that were passed.
    fn pass(&mut self, history: &History, to: usize) -> Vec<usize> {
        let passed = self.place..to.max(self.place);
        self.place = passed.end;
        let owed = |place: &usize| history.at(*place).is_some_and(|it| self.create.wants(it));
        passed.filter(owed).collect()
    }

    fn skip(&mut self, history: &History, to: usize, (line, how): (usize, Skip)) -> usize {
        let passed = self.pass(history, to);
        let count = passed.len();
        let skipped = passed.into_iter().map(|place| (place, (line, how)));
        self.skipped.extend(skipped);
        count
    }

    fn take_events(&mut self, history: &History, at: usize, got: &[Event], verdict: &mut Verdict) {
        let mut last = None;
        for event in got {
            let wanted = self.create.wants(event);
            verdict.hold(Property::Filter, wanted, at, || {
                format!("{event:?} was not asked for")
            });
            if !wanted {
                continue;
            }
            let revision = event.kv.mod_revision;
            let of_revision = &mut history.of_revision(revision);
            let same =
                |it: &(usize, &Event)| it.1.kv.key == event.kv.key && it.1.kind == event.kind;
            verdict.check(Property::Reliable);
            let Some((place, original)) = of_revision.find(same) else {
                let property = made_up(history, revision, at);
                verdict.fault(property, at, format!("{event:?} was never written"));
                continue;
            };
            self.content(history, at, (event, original), verdict);
            self.order(history, at, (event, place), verdict);
            last = last.max(Some(revision));
        }
        if let Some(last) = last {
            // What is left of the last revision had to be in this response.
            verdict.check(Property::Atomic);
            let end = history.place_of(last + 1);
            self.skip(history, end, (at, Skip::Split));
            self.next_revision = self.next_revision.max(last + 1);
        }
        self.was_told = true;
    }

    /// The event is what was written.
    fn content(
        &self,
        history: &History,
        at: usize,
        (got, wanted): (&Event, &Event),
        verdict: &mut Verdict,
    ) {
        let revision = wanted.kv.mod_revision;
        let creates = got.is_create() == wanted.is_create();
        verdict.hold(Property::IsCreate, creates, at, || {
            format!("{got:?} ought to be {wanted:?}")
        });
        if creates && got.kv != wanted.kv {
            let property = made_up(history, revision, at);
            verdict.fault(property, at, format!("{got:?} ought to be {wanted:?}"));
        }
        // What a compaction took away cannot be told any more; what it did not take has to be.
        let may_lack = got.prev_kv.is_none() && history.may_be_compacted(revision, at);
        let prev_is_right = if self.create.prev_kv {
            got.prev_kv == wanted.prev_kv || may_lack
        } else {
            got.prev_kv.is_none()
        };
        verdict.hold(Property::PrevKv, prev_is_right, at, || {
            format!("{got:?} has a wrong previous value: {wanted:?}")
        });
    }

    /// The event is the next one.
    fn order(
        &mut self,
        history: &History,
        at: usize,
        (got, place): (&Event, usize),
        verdict: &mut Verdict,
    ) {
        verdict.check(Property::Ordered);
        verdict.check(Property::Unique);
        let revision = got.kv.mod_revision;
        let begins = *self.begins.get_or_insert_with(|| {
            self.place = self.place.min(history.place_of(revision));
            self.place
        });
        if !self.was_told {
            verdict.check(Property::Resumable);
        }
        if place < begins {
            let what = format!("{revision} is before the start of the watch");
            return verdict.fault(Property::Resumable, at, what);
        }
        if place >= self.place {
            let how = if self.was_told {
                Skip::Gap
            } else {
                Skip::First
            };
            self.skip(history, place, (at, how));
            self.place = place + 1;
            self.was_told = true;
            return;
        }
        let (property, what) = match self.skipped.remove(&place) {
            None => (Property::Unique, "was told before"),
            Some((_, Skip::Overtaken)) => return,
            Some((_, Skip::Split)) => (Property::Atomic, "is in another response"),
            Some((_, Skip::First | Skip::Gap)) => (Property::Ordered, "comes too late"),
        };
        let key = &got.kv.key;
        verdict.fault(property, at, format!("{key:?} at {revision} {what}"));
    }

    fn take_progress(
        &mut self,
        history: &History,
        at: usize,
        progress: i64,
        verdict: &mut Verdict,
    ) -> Result<(), String> {
        let goes_on = progress >= self.progress && progress + 1 >= self.last_told();
        verdict.hold(Property::Bookmarkable, goes_on, at, || {
            format!("progress {progress} goes back: {self:?}")
        });
        self.progress = self.progress.max(progress);
        let overtaken = self.skip(
            history,
            history.place_of(progress.saturating_add(1)),
            (at, Skip::Overtaken),
        );
        if overtaken > 0 {
            let what = format!("progress {progress} overtakes {overtaken} events");
            verdict.fault(Property::Bookmarkable, at, what);
        }
        self.begins.get_or_insert(self.place);
        let start = self.create.start_revision;
        if start > progress {
            return Err(format!("progress {progress} before the start, {start}"));
        }
        self.next_revision = self.next_revision.max(progress + 1);
        Ok(())
    }

    /// The revision after the last that it was told of, or 0.
    fn last_told(&self) -> i64 {
        if self.was_told { self.next_revision } else { 0 }
    }
}

/// Which promise is broken by an event that is not what was written: if its revision was made only later, the event was
/// real once, and a restart took it back.
fn made_up(history: &History, revision: i64, seen: usize) -> Property {
    let later = history.called(revision).is_some_and(|called| called > seen);
    if later {
        Property::Durable
    } else {
        Property::Reliable
    }
}
