//! Watch requests to what the backend takes, and events to protobuf.
//!
//! Which requests are acceptable is decided behind the edge, where ids and revisions are known.

use super::{detached, key_value};
use crate::api::pb::etcdserverpb::WatchCreateRequest;
use crate::api::pb::etcdserverpb::watch_create_request::FilterType;
use crate::api::pb::mvccpb;
use crate::api::pb::mvccpb::event::EventType;
use crate::backend::WatchCreate;
use crate::model::{Event, EventFilters, EventKind, KeyRange, WatchId};
use bytes::Bytes;

/// The first key there can be; an empty key in a watch stands for it.
const FIRST_KEY: &[u8] = &[0];

/// The watch that a request asks for. Filters that the protocol does not know are passed over, as in etcd.
pub(crate) fn create(request: &WatchCreateRequest) -> WatchCreate {
    let key = if request.key.is_empty() {
        Bytes::from_static(FIRST_KEY)
    } else {
        detached(&request.key)
    };
    let wants_out = |kind: FilterType| request.filters.contains(&(kind as i32));
    WatchCreate {
        watch_id: WatchId(request.watch_id),
        range: KeyRange::from_wire(key, detached(&request.range_end)),
        start_revision: request.start_revision,
        filters: EventFilters {
            no_put: wants_out(FilterType::Noput),
            no_delete: wants_out(FilterType::Nodelete),
        },
        prev_kv: request.prev_kv,
        fragment: request.fragment,
        progress_notify: request.progress_notify,
    }
}

/// An event; a previous value that nobody has looked up counts as unknown. Shares the bytes.
pub(crate) fn event(event: &Event, with_prev: bool) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Put => EventType::Put,
        EventKind::Delete => EventType::Delete,
    };
    let prev = if with_prev {
        event.prev().flatten()
    } else {
        None
    };
    mvccpb::Event {
        r#type: kind as i32,
        kv: Some(key_value(event.kv.clone())),
        prev_kv: prev.map(|kv| key_value(kv.as_ref().clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyValue, RangeEnd, Revision};
    use std::sync::Arc;

    #[test]
    fn an_empty_key_is_the_first_key_and_unknown_filters_are_passed_over() {
        let request = WatchCreateRequest {
            range_end: Bytes::from_static(b"\0"),
            filters: vec![9, FilterType::Nodelete as i32],
            watch_id: -4,
            ..WatchCreateRequest::default()
        };
        let create = create(&request);
        assert_eq!(create.range.start, Bytes::from_static(b"\0"));
        assert_eq!(create.range.end, RangeEnd::Open);
        assert!(create.filters.no_delete && !create.filters.no_put);
        assert_eq!(create.watch_id, WatchId(-4));
    }

    #[test]
    fn the_previous_value_is_told_only_to_those_who_asked() {
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            create_revision: Revision(2),
            mod_revision: Revision(3),
            version: 2,
            ..KeyValue::default()
        };
        let change = Event::new(EventKind::Put, kv.clone());
        assert_eq!(event(&change, true).prev_kv, None);
        change.set_prev(Some(Arc::new(KeyValue { version: 1, ..kv })));
        assert_eq!(event(&change, true).prev_kv.unwrap().version, 1);
        assert_eq!(event(&change, false).prev_kv, None);
    }
}
