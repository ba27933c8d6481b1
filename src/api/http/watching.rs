//! One watch over plain HTTP: a watch stream of the backend with a single watch, and its events as JSON.
//!
//! It takes from the stream's bounded outbox only what its reader takes, so that a slow one holds up nobody else. A
//! revision is never split: its events are one document.

use crate::api::counts::Counts;
use crate::backend::{Backend, BackendError, Batch, Next, OutboxReader, WatchControl, WatchCreate};
use crate::model::{Event, EventKind, KeyValue};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// How long to wait at least before progress is asked for again.
const ASK_AGAIN_MIN: Duration = Duration::from_millis(10);

/// A watch that is open. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Watching {
    outbox: OutboxReader,
    conductor: AbortHandle,
    counts: Arc<Counts>,
}

impl Watching {
    /// Opens a watch. Every `progress_interval` it is asked how far it has come; `None` never asks.
    pub(super) fn open<B: Backend>(
        backend: &B,
        create: WatchCreate,
        progress_interval: Option<Duration>,
        counts: &Arc<Counts>,
    ) -> Result<Self, BackendError> {
        let (control, outbox) = backend.open_stream()?;
        let conducting = conduct(control, create, progress_interval);
        let conductor = tokio::task::spawn_local(conducting).abort_handle();
        counts.event_streams(1);
        Ok(Self {
            outbox,
            conductor,
            counts: Arc::clone(counts),
        })
    }

    /// What the watch says next. May be dropped while it waits, and loses nothing.
    pub(super) async fn next(&mut self) -> Next {
        poll_fn(|cx| self.outbox.poll_next(cx)).await
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.conductor.abort();
        self.counts.event_streams(-1);
    }
}

/// Creates the watch, and asks for progress when it is time and the answers before were taken.
async fn conduct(
    mut control: impl WatchControl,
    create: WatchCreate,
    progress_interval: Option<Duration>,
) {
    control.create(vec![create]).await;
    let Some(interval) = progress_interval else {
        return;
    };
    let outbox = Arc::clone(control.outbox());
    sleep(interval).await;
    loop {
        outbox.control_room().await;
        control.request_progress().await;
        sleep(interval.max(ASK_AGAIN_MIN)).await;
    }
}

/// The events of a batch, a document for each revision, with the revision.
pub(super) fn revisions(batch: &Batch) -> impl Iterator<Item = (i64, Value)> {
    let with_prev = batch.with_prev();
    let together = |a: &Arc<Event>, b: &Arc<Event>| a.kv.mod_revision == b.kv.mod_revision;
    batch.events().chunk_by(together).map(move |events| {
        let revision = events.first().map_or(0, |event| event.kv.mod_revision.0);
        let events = events.iter().map(|event| event_value(event, with_prev));
        let events: Vec<_> = events.collect();
        (revision, json!({"revision": revision, "events": events}))
    })
}

/// All events of a batch.
pub(super) fn events(batch: &Batch) -> Vec<Value> {
    let events = batch.events().iter();
    events
        .map(|event| event_value(event, batch.with_prev()))
        .collect()
}

fn event_value(event: &Event, with_prev: bool) -> Value {
    let kind = match event.kind {
        EventKind::Put => "put",
        EventKind::Delete => "delete",
    };
    let mut value = key_value(&event.kv, event.kind == EventKind::Put);
    value.insert("type".to_owned(), kind.into());
    let prev = event.prev().flatten().filter(|_| with_prev);
    if let Some(prev) = prev {
        value.insert("prev_kv".to_owned(), key_value(prev, true).into());
    }
    value.into()
}

fn key_value(kv: &KeyValue, with_value: bool) -> Map<String, Value> {
    let mut value = Map::new();
    insert_bytes(&mut value, "key", &kv.key);
    value.insert("mod_revision".to_owned(), kv.mod_revision.0.into());
    if with_value {
        insert_bytes(&mut value, "value", &kv.value);
        value.insert("create_revision".to_owned(), kv.create_revision.0.into());
        value.insert("version".to_owned(), kv.version.into());
    }
    if kv.lease.0 != 0 {
        // Lease ids use all 63 bits, which no number of a browser holds.
        value.insert("lease".to_owned(), kv.lease.0.to_string().into());
    }
    value
}

/// As text where it is text, and else in base64 under a name that says so.
fn insert_bytes(value: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => value.insert(name.to_owned(), text.into()),
        Err(_) => value.insert(
            format!("{name}_base64"),
            BASE64_STANDARD.encode(bytes).into(),
        ),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LeaseId, Revision};
    use bytes::Bytes;

    fn put(key: &'static [u8], value: &'static [u8], at: i64) -> Arc<Event> {
        let kv = KeyValue {
            key: Bytes::from_static(key),
            value: Bytes::from_static(value),
            create_revision: Revision(2),
            mod_revision: Revision(at),
            version: at - 1,
            lease: LeaseId(0),
        };
        Arc::new(Event::new(EventKind::Put, kv))
    }

    #[test]
    fn the_events_of_one_revision_are_one_document() {
        let batch = vec![put(b"a", b"1", 3), put(b"b", b"2", 3), put(b"a", b"3", 4)];
        let batch = Batch::new(batch, false).unwrap();
        let documents: Vec<_> = revisions(&batch).collect();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].0, 3);
        assert_eq!(documents[0].1["events"].as_array().unwrap().len(), 2);
        assert_eq!(documents[1].1["events"][0]["key"], "a");
        assert_eq!(documents[1].1["revision"], 4);
    }

    #[test]
    fn what_is_no_text_is_in_base64_under_another_name() {
        let event = put(b"\xff", b"\xfe", 3);
        let value = event_value(&event, false);
        assert_eq!(value["key_base64"], "/w==");
        assert_eq!(value["value_base64"], "/g==");
        assert_eq!(value.get("key"), None);
    }

    #[test]
    fn deletes_have_no_value_and_tell_what_was_there_to_those_who_asked() {
        let kv = KeyValue::tombstone("a".into(), Revision(9));
        let event = Event::new(EventKind::Delete, kv);
        event.set_prev(Some(Arc::new(put(b"a", b"old", 5).kv.clone())));
        let told = json!({"type":"delete", "key":"a", "mod_revision":9});
        assert_eq!(event_value(&event, false), told);
        assert_eq!(event_value(&event, true)["prev_kv"]["value"], "old");
    }

    #[test]
    fn a_lease_is_text() {
        let mut kv = put(b"a", b"1", 3).kv.clone();
        kv.lease = LeaseId(i64::MAX);
        let value = key_value(&kv, true);
        assert_eq!(value["lease"], "9223372036854775807");
    }
}
