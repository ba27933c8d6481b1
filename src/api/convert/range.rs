//! Range requests to queries, and answers to range responses.
//!
//! Which keys there are is the backend's business; nothing here sorts, filters or cuts.

use super::key_value;
use crate::api::pb::etcdserverpb::range_request::{SortOrder as PbOrder, SortTarget as PbTarget};
use crate::api::pb::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::api::pb::mvccpb;
use crate::model::{
    KeyRange, KeyValue, RangeAnswer, RangeQuery, Refusal, RevisionBounds, SortOrder, SortTarget,
};
use std::sync::Arc;

/// Which fields of a range response are filled: parts of a streamed range have keys alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeParts {
    /// The keys alone.
    Keys,
    /// The keys, `more` and `count`.
    All,
}

/// The query that a request asks for.
pub(crate) fn query(request: RangeRequest) -> Result<RangeQuery, Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    let sort_order = match PbOrder::try_from(request.sort_order) {
        Ok(PbOrder::None) => SortOrder::None,
        Ok(PbOrder::Ascend) => SortOrder::Ascend,
        Ok(PbOrder::Descend) => SortOrder::Descend,
        Err(_) => return Err(Refusal::InvalidSort),
    };
    let sort_target = match PbTarget::try_from(request.sort_target) {
        Ok(PbTarget::Key) => SortTarget::Key,
        Ok(PbTarget::Version) => SortTarget::Version,
        Ok(PbTarget::Create) => SortTarget::Create,
        Ok(PbTarget::Mod) => SortTarget::Mod,
        Ok(PbTarget::Value) => SortTarget::Value,
        Err(_) => return Err(Refusal::InvalidSort),
    };
    Ok(RangeQuery {
        range: KeyRange::from_wire(request.key, request.range_end),
        revision: request.revision,
        limit: request.limit,
        sort_order,
        sort_target,
        keys_only: request.keys_only,
        count_only: request.count_only,
        bounds: RevisionBounds {
            mod_min: request.min_mod_revision,
            mod_max: request.max_mod_revision,
            create_min: request.min_create_revision,
            create_max: request.max_create_revision,
        },
    })
}

/// The response that an answer makes.
pub(crate) fn range_response(
    header: Option<ResponseHeader>,
    answer: RangeAnswer,
    parts: RangeParts,
) -> RangeResponse {
    let all = parts == RangeParts::All;
    RangeResponse {
        header,
        kvs: answer.kvs.into_iter().map(owned).collect(),
        more: all && answer.more,
        count: if all { answer.count } else { 0 },
    }
}

fn owned(kv: Arc<KeyValue>) -> mvccpb::KeyValue {
    key_value(Arc::unwrap_or_clone(kv))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RangeEnd;
    use bytes::Bytes;

    fn request() -> RangeRequest {
        RangeRequest {
            key: Bytes::from_static(b"a"),
            ..RangeRequest::default()
        }
    }

    #[test]
    fn an_unknown_sort_number_is_refused_and_an_empty_key_first() {
        let order = RangeRequest {
            sort_order: 3,
            ..request()
        };
        assert_eq!(query(order), Err(Refusal::InvalidSort));
        let target = RangeRequest {
            sort_target: -1,
            ..request()
        };
        assert_eq!(query(target), Err(Refusal::InvalidSort));
        let keyless = RangeRequest {
            sort_order: 3,
            ..RangeRequest::default()
        };
        assert_eq!(query(keyless), Err(Refusal::EmptyKey));
    }

    #[test]
    fn every_field_of_a_range_arrives() {
        let full = RangeRequest {
            key: Bytes::from_static(b"a"),
            range_end: Bytes::from_static(b"\0"),
            limit: 3,
            revision: 4,
            sort_order: PbOrder::Descend as i32,
            sort_target: PbTarget::Mod as i32,
            serializable: true,
            keys_only: true,
            count_only: true,
            min_mod_revision: 5,
            max_mod_revision: 6,
            min_create_revision: 7,
            max_create_revision: 8,
        };
        let query = query(full).unwrap();
        assert_eq!(query.range.end, RangeEnd::Open);
        assert_eq!((query.limit, query.revision), (3, 4));
        assert_eq!(
            (query.sort_order, query.sort_target),
            (SortOrder::Descend, SortTarget::Mod)
        );
        assert!(query.keys_only && query.count_only);
        let bounds = query.bounds;
        assert_eq!(
            (
                bounds.mod_min,
                bounds.mod_max,
                bounds.create_min,
                bounds.create_max
            ),
            (5, 6, 7, 8)
        );
    }
}
