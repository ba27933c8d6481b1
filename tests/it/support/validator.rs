//! Holds what a watch stream said against what was written.
//!
//! Each watch has a cursor, the next revision it is owed. Every response has to be exactly the history between the
//! cursor and the response's end, whole revisions only; that one equality means ordered, unique, atomic, reliable,
//! resumable and bookmarkable at once. It judges a stream after the fact and never waits for one.

use super::history::Replay;
use super::mvccpb::Event;
use super::mvccpb::event::EventType;
use super::pb::{WatchCreateRequest, WatchResponse};
use super::peer::PeerKind;
use super::stream::is_progress;
use std::collections::BTreeMap;
use vigil::model::KeyRange;

/// A faulty response, in words.
type Fault = String;

/// Judges one stream.
#[derive(Debug)]
pub(crate) struct Validator<'a> {
    kind: PeerKind,
    replay: &'a Replay,
    watches: BTreeMap<i64, Watch>,
    /// The fragments so far of a response that is not complete.
    train: Option<WatchResponse>,
    /// Cluster and member, as the first header named them.
    ids: Option<(u64, u64)>,
    progress_seen: usize,
}

#[derive(Debug)]
struct Watch {
    create: WatchCreateRequest,
    range: KeyRange,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked for, not yet created.
    Asked,
    /// Created at this revision by a peer whose created header can be later than the registration: the first event
    /// decides where the watch began.
    Near { created: i64 },
    /// Owed everything from here on.
    At { cursor: i64 },
    /// Cancelled or compacted.
    Ended,
}

impl<'a> Validator<'a> {
    /// A validator of one stream, on which these watches are asked for, each with the id it is going to have.
    pub(crate) fn new(
        kind: PeerKind,
        replay: &'a Replay,
        creates: impl IntoIterator<Item = (i64, WatchCreateRequest)>,
    ) -> Self {
        let watch = |(id, create): (i64, WatchCreateRequest)| {
            let range = KeyRange::from_wire(create.key.clone(), create.range_end.clone());
            let state = State::Asked;
            (
                id,
                Watch {
                    create,
                    range,
                    state,
                },
            )
        };
        Self {
            kind,
            replay,
            watches: creates.into_iter().map(watch).collect(),
            train: None,
            ids: None,
            progress_seen: 0,
        }
    }

    /// Judges a whole log; the fault names the response.
    pub(crate) fn check_all(&mut self, responses: &[WatchResponse]) -> Result<(), Fault> {
        for (index, response) in responses.iter().enumerate() {
            self.check(response)
                .map_err(|fault| format!("response {index}: {fault}; in {}", brief(response)))?;
        }
        Ok(())
    }

    /// Every watch was told of everything up to `revision` (or has ended).
    pub(crate) fn complete(&self, revision: i64) -> Result<(), Fault> {
        for (id, watch) in &self.watches {
            let behind = match watch.state {
                State::Ended => false,
                State::Asked => true,
                State::Near { created } => !self.wanted(watch, created + 1, revision).is_empty(),
                State::At { cursor } => !self.wanted(watch, cursor, revision).is_empty(),
            };
            if behind {
                let state = watch.state;
                return Err(format!(
                    "watch {id} is not told of all up to {revision}: {state:?}"
                ));
            }
        }
        Ok(())
    }

    /// How many progress responses there were.
    pub(crate) fn progress_seen(&self) -> usize {
        self.progress_seen
    }

    /// Judges the next response.
    pub(crate) fn check(&mut self, response: &WatchResponse) -> Result<(), Fault> {
        self.check_ids(response)?;
        let Some(whole) = self.assemble(response)? else {
            return Ok(());
        };
        if is_progress(&whole) {
            self.check_progress(&whole)
        } else if whole.created {
            self.check_created(&whole)
        } else if whole.canceled {
            self.check_canceled(&whole)
        } else {
            self.check_events(&whole)
        }
    }

    fn check_ids(&mut self, response: &WatchResponse) -> Result<(), Fault> {
        let header = response.header.as_ref().ok_or("no header")?;
        let ids = (header.cluster_id, header.member_id);
        if ids != *self.ids.get_or_insert(ids) || header.member_id == 0 {
            return Err(format!("another cluster or member: {ids:?}"));
        }
        Ok(())
    }

    /// Joins fragments; nothing may come between them.
    fn assemble(&mut self, response: &WatchResponse) -> Result<Option<WatchResponse>, Fault> {
        let whole = match self.train.take() {
            None => response.clone(),
            Some(mut train) => {
                let same = train.watch_id == response.watch_id && train.header == response.header;
                if !same || response.events.is_empty() {
                    return Err("not the next fragment".to_owned());
                }
                train.events.extend_from_slice(&response.events);
                train
            }
        };
        if response.fragment {
            if !self.watch(whole.watch_id)?.create.fragment {
                return Err("a fragment for a watch that did not ask for them".to_owned());
            }
            self.train = Some(whole);
            return Ok(None);
        }
        Ok(Some(whole))
    }

    fn check_created(&mut self, response: &WatchResponse) -> Result<(), Fault> {
        let created = revision(response);
        let kind = self.kind;
        let watch = self.watch(response.watch_id)?;
        if watch.state != State::Asked {
            return Err(format!("created while {:?}", watch.state));
        }
        if response.canceled {
            watch.state = State::Ended;
            return Ok(());
        }
        watch.state = match (watch.create.start_revision, kind) {
            (0, PeerKind::Etcd) => State::Near { created },
            (0, PeerKind::Vigil) => State::At {
                cursor: created + 1,
            },
            (start, _) => State::At { cursor: start },
        };
        Ok(())
    }

    fn check_events(&mut self, response: &WatchResponse) -> Result<(), Fault> {
        let (Some(first), Some(last)) = (response.events.first(), response.events.last()) else {
            return Err("neither events nor anything else".to_owned());
        };
        let (first, last) = (mod_revision(first), mod_revision(last));
        let header = revision(response);
        match self.kind {
            PeerKind::Vigil if header != last => {
                return Err(format!(
                    "header {header} is not that of the last event, {last}"
                ));
            }
            PeerKind::Etcd if header < last => {
                return Err(format!("header {header} is before the last event, {last}"));
            }
            PeerKind::Vigil | PeerKind::Etcd => {}
        }
        let cursor = match self.watch(response.watch_id)?.state {
            State::At { cursor } => cursor,
            State::Near { created } => first.min(created + 1),
            state @ (State::Asked | State::Ended) => {
                return Err(format!("events while {state:?}"));
            }
        };
        let watch = self.watched(response.watch_id)?;
        let wanted = self.wanted(watch, cursor, last);
        self.compare(watch, &wanted, &response.events)?;
        self.watch(response.watch_id)?.state = State::At { cursor: last + 1 };
        Ok(())
    }

    fn compare(&self, watch: &Watch, wanted: &[&Event], got: &[Event]) -> Result<(), Fault> {
        for (index, (wanted, got)) in wanted.iter().zip(got).enumerate() {
            let at = mod_revision(wanted);
            if (wanted.r#type, &wanted.kv) != (got.r#type, &got.kv) {
                return Err(format!(
                    "event {index} is {got:?} and ought to be {wanted:?}"
                ));
            }
            // What a compaction took away cannot be told any more; what it did not take has to be.
            let compacted = self
                .replay
                .compactions
                .iter()
                .any(|revision| *revision >= at);
            let prev_is_right = if watch.create.prev_kv {
                got.prev_kv == wanted.prev_kv || (compacted && got.prev_kv.is_none())
            } else {
                got.prev_kv.is_none()
            };
            if !prev_is_right {
                return Err(format!("event {index} at {at} has a wrong previous value"));
            }
        }
        if wanted.len() != got.len() {
            let (wanted, got) = (wanted.len(), got.len());
            return Err(format!("{got} events, and the history has {wanted}"));
        }
        Ok(())
    }

    fn check_progress(&mut self, response: &WatchResponse) -> Result<(), Fault> {
        self.progress_seen += 1;
        let progress = revision(response);
        let ids: Vec<i64> = match response.watch_id {
            -1 => self.watches.keys().copied().collect(),
            id => vec![id],
        };
        for id in ids {
            let cursor = match self.watched(id)?.state {
                State::At { cursor } => cursor,
                State::Near { created } => created + 1,
                State::Asked | State::Ended if response.watch_id == -1 => continue,
                state @ (State::Asked | State::Ended) => {
                    return Err(format!("progress while {state:?}"));
                }
            };
            let watch = self.watched(id)?;
            if watch.create.start_revision > progress {
                return Err(format!(
                    "progress {progress} before the start of watch {id}"
                ));
            }
            if let Some(missed) = self.wanted(watch, cursor, progress).first() {
                let at = mod_revision(missed);
                return Err(format!("progress {progress} overtakes {at} of watch {id}"));
            }
            let cursor = cursor.max(progress + 1);
            self.watch(id)?.state = State::At { cursor };
        }
        Ok(())
    }

    fn check_canceled(&mut self, response: &WatchResponse) -> Result<(), Fault> {
        let compact_revision = response.compact_revision;
        let known = self.replay.compactions.contains(&compact_revision);
        let watch = self.watch(response.watch_id)?;
        if let State::Asked | State::Ended = watch.state {
            return Err(format!("cancelled while {:?}", watch.state));
        }
        if compact_revision != 0 {
            if !known {
                return Err(format!("nobody compacted at {compact_revision}"));
            }
            if let State::At { cursor } = watch.state
                && cursor >= compact_revision
            {
                return Err(format!(
                    "compacted at {compact_revision}, owed from {cursor} on"
                ));
            }
            if revision(response) != 0 {
                return Err("a compacted watch has a header without a revision".to_owned());
            }
        }
        watch.state = State::Ended;
        Ok(())
    }

    /// The history that a watch is owed in `[from, through]`.
    fn wanted(&self, watch: &Watch, from: i64, through: i64) -> Vec<&'a Event> {
        let events = &self.replay.events;
        let start = events.partition_point(|event| mod_revision(event) < from);
        events[start..]
            .iter()
            .take_while(|event| mod_revision(event) <= through)
            .filter(|event| watch.wants(event))
            .collect()
    }

    fn watch(&mut self, id: i64) -> Result<&mut Watch, Fault> {
        self.watches.get_mut(&id).ok_or_else(|| unknown(id))
    }

    fn watched(&self, id: i64) -> Result<&Watch, Fault> {
        self.watches.get(&id).ok_or_else(|| unknown(id))
    }
}

impl Watch {
    fn wants(&self, event: &Event) -> bool {
        // The filters' numbers are those of the kinds they leave out.
        let kv = event
            .kv
            .as_ref()
            .expect("every event of the history has a key");
        !self.create.filters.contains(&event.r#type) && self.range.contains(&kv.key)
    }
}

fn unknown(id: i64) -> Fault {
    format!("nobody asked for watch {id}")
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

fn mod_revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// A response without its values.
fn brief(response: &WatchResponse) -> String {
    let events: Vec<String> = response
        .events
        .iter()
        .take(8)
        .map(|event| format!("{}@{}", short(event.r#type), mod_revision(event)))
        .collect();
    format!(
        "id {} header {} created {} canceled {} compacted {} fragment {} with {} events {events:?}",
        response.watch_id,
        revision(response),
        response.created,
        response.canceled,
        response.compact_revision,
        response.fragment,
        response.events.len(),
    )
}

fn short(kind: i32) -> &'static str {
    match EventType::try_from(kind) {
        Ok(EventType::Put) => "put",
        Ok(EventType::Delete) => "delete",
        Err(_) => "unknown",
    }
}
