//! What a watch on the cluster says, as commits and frontiers.
//!
//! A revision is passed on whole or not at all, and never twice. Nothing here waits for anything.

use crate::api::pb::etcdserverpb::WatchResponse;
use crate::api::pb::mvccpb;
use crate::api::pb::mvccpb::event::EventType;
use crate::fault::{self, Fault};
use crate::model::{Commit, Event, EventKind, KeyValue, LeaseId, Revision, WatchId};
use bytes::Bytes;
use std::sync::Arc;

/// What one response has come to.
#[derive(Debug)]
pub(super) enum Heard {
    /// The watch begins.
    Created,
    /// These happened, in order.
    Commits(Vec<Arc<Commit>>),
    /// Everything up to here was said.
    Progress(Revision),
    /// What was to come next is compacted; this is the oldest that is left.
    Compacted(Revision),
    /// The watch has ended, for this reason.
    Canceled(String),
    /// More of it follows.
    Part,
}

/// One watch on the cluster, as it is heard.
#[derive(Debug)]
pub(super) struct Listener {
    /// Everything up to here was passed on.
    head: Revision,
    /// Events carry their previous values.
    with_prev: bool,
    /// What came of a revision that may not be complete, because the response it is in goes on.
    open: Vec<mvccpb::Event>,
}

impl Listener {
    /// Listens for what comes after `head`.
    pub(super) fn new(head: Revision, with_prev: bool) -> Self {
        Self {
            head,
            with_prev,
            open: Vec::new(),
        }
    }

    /// Takes a response in. An error says what no cluster should have sent.
    pub(super) fn hear(&mut self, response: WatchResponse) -> Result<Heard, String> {
        let revision = Revision(response.header.map_or(0, |header| header.revision));
        if response.compact_revision > 0 {
            return Ok(Heard::Compacted(Revision(response.compact_revision)));
        }
        if response.canceled {
            return Ok(Heard::Canceled(response.cancel_reason));
        }
        if response.created {
            return Ok(Heard::Created);
        }
        if response.events.is_empty() && self.open.is_empty() {
            let is_of_the_stream = response.watch_id == WatchId::STREAM.0;
            debug_assert!(is_of_the_stream || response.watch_id == 0, "one watch");
            self.head = self.head.max(revision);
            return Ok(Heard::Progress(revision));
        }
        let mut events = std::mem::take(&mut self.open);
        events.extend(response.events);
        if response.fragment && !fault::active(Fault::FragmentsNotJoined) {
            // A response is as large as what its watch is behind by, up to a thousand revisions: what waited for its end would
            // have no bound. All but the last revision are complete.
            let last = events.last().map(revision_of);
            let open = events.partition_point(|event| Some(revision_of(event)) != last);
            self.open = events.split_off(open);
        }
        if events.is_empty() {
            return Ok(Heard::Part);
        }
        self.commits(events).map(Heard::Commits)
    }

    fn commits(&mut self, events: Vec<mvccpb::Event>) -> Result<Vec<Arc<Commit>>, String> {
        let mut commits: Vec<Commit> = Vec::new();
        for event in events {
            let event = self.event(event)?;
            let revision = event.kv.mod_revision;
            if revision <= self.head {
                return Err(format!("revision {revision} came after {}", self.head));
            }
            match commits.last_mut() {
                Some(last) if last.revision == revision => last.events.push(Arc::new(event)),
                Some(last) if last.revision > revision => {
                    return Err(format!("revision {revision} came after {}", last.revision));
                }
                _ => commits.push(Commit {
                    revision,
                    events: vec![Arc::new(event)],
                }),
            }
        }
        self.head = commits.last().map_or(self.head, |last| last.revision);
        Ok(commits.into_iter().map(Arc::new).collect())
    }

    fn event(&self, event: mvccpb::Event) -> Result<Event, String> {
        let kind = match EventType::try_from(event.r#type) {
            Ok(EventType::Put) => EventKind::Put,
            Ok(EventType::Delete) => EventKind::Delete,
            Err(_) => return Err(format!("an event of the unknown type {}", event.r#type)),
        };
        let kv = event.kv.ok_or("an event without a key")?;
        let heard = Event::new(kind, key_value(&kv));
        if self.with_prev {
            heard.set_prev(event.prev_kv.as_ref().map(|prev| Arc::new(key_value(prev))));
        }
        Ok(heard)
    }
}

fn revision_of(event: &mvccpb::Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// A copy of its own: what was received together would else stay in memory together.
pub(super) fn key_value(kv: &mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(&kv.key),
        create_revision: Revision(kv.create_revision),
        mod_revision: Revision(kv.mod_revision),
        version: kv.version,
        value: Bytes::copy_from_slice(&kv.value),
        lease: LeaseId(kv.lease),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb::etcdserverpb::ResponseHeader;

    fn put(key: &'static str, revision: i64) -> mvccpb::Event {
        mvccpb::Event {
            r#type: EventType::Put as i32,
            kv: Some(mvccpb::KeyValue {
                key: key.into(),
                mod_revision: revision,
                ..mvccpb::KeyValue::default()
            }),
            prev_kv: None,
        }
    }

    fn response(events: Vec<mvccpb::Event>, fragment: bool) -> WatchResponse {
        WatchResponse {
            header: Some(ResponseHeader {
                revision: 90,
                ..ResponseHeader::default()
            }),
            events,
            fragment,
            ..WatchResponse::default()
        }
    }

    fn revisions(heard: Heard) -> Vec<(i64, usize)> {
        match heard {
            Heard::Commits(commits) => commits
                .iter()
                .map(|commit| (commit.revision.0, commit.events.len()))
                .collect(),
            other => panic!("no commits: {other:?}"),
        }
    }

    #[test]
    fn a_revision_is_passed_on_whole_though_it_comes_in_fragments_and_as_soon_as_it_is_whole() {
        let mut listener = Listener::new(Revision(4), false);
        let first = response(vec![put("a", 5), put("b", 6)], true);
        assert_eq!(revisions(listener.hear(first).unwrap()), [(5, 1)]);
        let middle = response(vec![put("c", 6)], true);
        assert!(matches!(listener.hear(middle), Ok(Heard::Part)));
        let more = response(vec![put("d", 6), put("a", 7)], true);
        assert_eq!(revisions(listener.hear(more).unwrap()), [(6, 3)]);
        let last = response(vec![put("a", 8)], false);
        assert_eq!(revisions(listener.hear(last).unwrap()), [(7, 1), (8, 1)]);
    }

    // In etcd's proxy the header of a response counted as how far it goes, and what a catch-up had still to send was lost.
    #[test]
    fn only_events_and_progress_move_the_frontier_and_no_header_of_events_does() {
        let mut listener = Listener::new(Revision(4), false);
        listener.hear(response(vec![put("a", 5)], false)).unwrap();
        let heard = listener.hear(response(vec![put("a", 6)], false)).unwrap();
        assert_eq!(revisions(heard), [(6, 1)]);
        let heard = listener.hear(response(Vec::new(), false)).unwrap();
        assert!(matches!(heard, Heard::Progress(Revision(90))));
        assert!(listener.hear(response(vec![put("a", 90)], false)).is_err());
    }

    #[test]
    fn what_is_repeated_or_out_of_order_is_an_error_and_not_an_event() {
        let mut listener = Listener::new(Revision(4), false);
        assert!(listener.hear(response(vec![put("a", 4)], false)).is_err());
        let back = response(vec![put("a", 7), put("a", 6)], false);
        assert!(listener.hear(back).is_err());
    }
}
