//! What every watcher of a simulation must have seen, told afterwards from what was written.

use crate::actors::tests::support::{Got, Response, Seen};
use crate::model::{DeleteRange, EventKind, Op, WatchClass, Write};
use std::collections::BTreeMap;

/// Everything that was written, by revision.
#[derive(Debug, Default)]
pub(super) struct History {
    commits: BTreeMap<i64, Vec<Seen>>,
    /// Successful compactions.
    pub(super) compactions: Vec<i64>,
}

/// What one watch asked for, and what it has been given so far.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) class: WatchClass,
    pub(super) start: i64,
    /// Progress below it is none of its business.
    pub(super) told_from: i64,
    given: usize,
    last: i64,
    progress: i64,
    wanted: Vec<Seen>,
    /// It was told that it is compacted, cancelled, or that its stream has ended.
    pub(super) over: bool,
}

impl History {
    /// The history that these writes have made, each with its revision.
    pub(super) fn of(mut writes: Vec<(i64, Write)>, compactions: Vec<i64>) -> Self {
        writes.sort_by_key(|(revision, _)| *revision);
        let mut keys = BTreeMap::new();
        let mut commits = BTreeMap::new();
        for (revision, write) in writes {
            let mut events = Vec::new();
            match write {
                Write::Put(put) => put_into(&mut keys, revision, &put.key, &put.value, &mut events),
                Write::Delete(delete) => delete_from(&mut keys, revision, &delete, &mut events),
                Write::Txn(txn) => {
                    for op in txn.success {
                        if let Op::Put(put) = op {
                            put_into(&mut keys, revision, &put.key, &put.value, &mut events);
                        }
                    }
                }
            }
            let twice = commits.insert(revision, events);
            assert!(twice.is_none(), "revision {revision} is twice");
        }
        Self {
            commits,
            compactions,
        }
    }

    /// The last revision.
    pub(super) fn last(&self) -> i64 {
        self.commits.keys().next_back().copied().unwrap_or(1)
    }

    /// A watch that was registered at `registered`.
    pub(super) fn watched(&self, class: &WatchClass, start: i64, registered: i64) -> Watched {
        let told_from = start.max(registered);
        let start = if start > 0 { start } else { registered + 1 };
        let wanted = self.commits.range(start..).flat_map(|(_, events)| events);
        let wanted = wanted.filter(|seen| {
            class.range.contains(seen.key.as_bytes()) && class.filters.admit(seen.kind)
        });
        Watched {
            class: class.clone(),
            wanted: wanted.cloned().collect(),
            start,
            told_from,
            given: 0,
            last: 0,
            progress: 0,
            over: false,
        }
    }

    /// A delivery: the next events, once, in order, and whole revisions.
    pub(super) fn events(&self, watched: &mut Watched, events: &[Seen]) {
        assert!(!watched.over, "{events:?} after the end of {watched:?}");
        let first = events.first().expect("no empty delivery").revision;
        assert!(first > watched.last, "a revision is split: {events:?}");
        assert!(first > watched.progress, "{events:?} after {watched:?}");
        for seen in events {
            let wanted = watched.wanted.get(watched.given);
            let wanted = wanted.unwrap_or_else(|| panic!("{seen:?} is not wanted: {watched:?}"));
            let (mut want, mut got) = (wanted.clone(), seen.clone());
            let compacted = self.compactions.iter().any(|it| seen.revision - 1 < *it);
            if !watched.class.prev_kv || (compacted && got.prev.is_none()) {
                (want.prev, got.prev) = (None, None);
            }
            assert_eq!(got, want, "of {watched:?}");
            watched.given += 1;
            watched.last = seen.revision;
        }
        let next = watched.wanted.get(watched.given);
        assert!(
            next.is_none_or(|next| next.revision > watched.last),
            "a revision is split: {events:?}"
        );
    }

    /// Progress: everything up to there was given, and it never goes back.
    pub(super) fn progress(&self, watched: &mut Watched, revision: i64) {
        assert!(!watched.over, "progress {revision} after {watched:?}");
        assert!(
            revision >= watched.last.max(watched.progress),
            "progress {revision} goes back: {watched:?}"
        );
        let due = watched.wanted.iter().filter(|it| it.revision <= revision);
        assert_eq!(
            due.count(),
            watched.given,
            "progress {revision}: {watched:?}"
        );
        let legal = watched.told_from..=self.last();
        assert!(
            legal.contains(&revision),
            "progress {revision}: {watched:?}"
        );
        watched.progress = revision;
    }

    /// The compacted cancel: legal only below the compact revision.
    pub(super) fn compacted(&self, watched: &mut Watched, revision: i64) {
        assert!(!watched.over, "compacted after {watched:?}");
        assert!(
            self.compactions.contains(&revision),
            "nobody compacted {revision}"
        );
        let position = watched
            .start
            .max(watched.last + 1)
            .max(watched.progress + 1);
        assert!(position < revision, "compacted at {revision}: {watched:?}");
        watched.over = true;
    }

    /// Everything was given.
    pub(super) fn is_level(&self, watched: &Watched) {
        assert_eq!(
            watched.given,
            watched.wanted.len(),
            "{watched:?} has not all"
        );
    }

    /// What an application's own actor has got. True when the watch has not ended.
    pub(super) fn check_actor(&self, class: &WatchClass, start: i64, got: &[Got]) -> Watched {
        let Some((Got::Created(registered), got)) = got.split_first() else {
            panic!("the first message is `created`, and not {got:?}");
        };
        let mut watched = self.watched(class, start, *registered);
        for got in got {
            match got {
                Got::Events(events) => self.events(&mut watched, events),
                Got::Progress(revision) => self.progress(&mut watched, *revision),
                Got::Compacted(revision) => self.compacted(&mut watched, *revision),
                Got::Created(_) | Got::Cancelled => panic!("{got:?} of {watched:?}"),
            }
        }
        watched
    }

    /// What a stream has sent, given its creates in order; its live watches by id.
    pub(super) fn check_stream(
        &self,
        creates: &[(WatchClass, i64)],
        responses: &[Response],
    ) -> BTreeMap<i64, Watched> {
        let mut creates = creates.iter();
        let mut live: BTreeMap<i64, Watched> = BTreeMap::new();
        for response in responses {
            match response {
                Response::Created(id, registered) => {
                    let (class, start) = creates.next().expect("a create");
                    let watched = self.watched(class, *start, *registered);
                    assert!(live.insert(*id, watched).is_none(), "{id} is in use");
                }
                Response::Rejected(_) => drop(creates.next().expect("a create")),
                Response::Events(id, events) => {
                    self.events(live.get_mut(id).expect("a live watch"), events);
                }
                Response::Progress(-1, revision) => {
                    for watched in live.values_mut() {
                        self.progress(watched, *revision);
                    }
                }
                Response::Progress(id, revision) => {
                    self.progress(live.get_mut(id).expect("a live watch"), *revision);
                }
                Response::Canceled(id) => drop(live.remove(id).expect("a live watch")),
                Response::Compacted(id, revision) => {
                    let mut watched = live.remove(id).expect("a live watch");
                    self.compacted(&mut watched, *revision);
                }
                Response::End(end) => panic!("the stream ends: {end:?}"),
            }
        }
        live
    }
}

type Keys = BTreeMap<String, String>;

fn put_into(keys: &mut Keys, revision: i64, key: &[u8], value: &[u8], events: &mut Vec<Seen>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let prev = keys.insert(text(key), text(value));
    events.push(Seen {
        revision,
        kind: EventKind::Put,
        key: text(key),
        prev,
    });
}

fn delete_from(keys: &mut Keys, revision: i64, delete: &DeleteRange, events: &mut Vec<Seen>) {
    let gone = keys
        .keys()
        .filter(|key| delete.range.contains(key.as_bytes()));
    let gone: Vec<String> = gone.cloned().collect();
    for key in gone {
        let prev = keys.remove(&key);
        events.push(Seen {
            revision,
            kind: EventKind::Delete,
            key,
            prev,
        });
    }
}
