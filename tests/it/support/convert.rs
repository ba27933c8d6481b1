//! Between the generated messages and a record: what went over the wire, written down as it is.
//!
//! Nothing is left out that the validator could judge, and nothing is repaired.

use super::mvccpb::event::EventType;
use super::mvccpb::{Event, KeyValue};
use super::pb::compare::{CompareResult, CompareTarget, TargetUnion};
use super::pb::request_op::Request as Op;
use super::pb::response_op::Response as OpResponse;
use super::pb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
    WatchCreateRequest, WatchResponse,
};
use crate::validator::record;
use crate::validator::record::{Answer, Kind, Kv, OpAnswer, Outcome, Relation, Request, Target};
use tonic::{Code, Status};

fn kv(kv: &KeyValue) -> Kv {
    Kv {
        key: kv.key.clone(),
        value: kv.value.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn kvs(all: &[KeyValue]) -> Vec<Kv> {
    all.iter().map(kv).collect()
}

fn event(event: &Event) -> record::Event {
    record::Event {
        kind: match event.r#type() {
            EventType::Put => Kind::Put,
            EventType::Delete => Kind::Delete,
        },
        kv: event.kv.as_ref().map(kv).unwrap_or_default(),
        prev_kv: event.prev_kv.as_ref().map(kv),
    }
}

fn to_kv(kv: &Kv) -> KeyValue {
    KeyValue {
        key: kv.key.clone(),
        value: kv.value.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// An event, as it is told.
pub(crate) fn to_event(event: &record::Event) -> Event {
    let kind = match event.kind {
        Kind::Put => EventType::Put,
        Kind::Delete => EventType::Delete,
    };
    Event {
        r#type: kind.into(),
        kv: Some(to_kv(&event.kv)),
        prev_kv: event.prev_kv.as_ref().map(to_kv),
    }
}

/// A watch response.
pub(crate) fn response(response: &WatchResponse) -> record::Response {
    let header = response.header.as_ref();
    record::Response {
        watch_id: response.watch_id,
        // A header that is not there is no header of this server's, and is found by its ids.
        revision: Some(header.map_or(0, |header| header.revision)),
        ids: Some(header.map_or((0, 0), |header| (header.cluster_id, header.member_id))),
        created: response.created,
        canceled: response.canceled,
        compact_revision: response.compact_revision,
        fragment: response.fragment,
        events: response.events.iter().map(event).collect(),
    }
}

/// A request for a watch. The filters' numbers are those of the kinds that they leave out.
pub(crate) fn create(create: &WatchCreateRequest) -> record::Create {
    let filters = |kind: EventType| create.filters.contains(&i32::from(kind));
    record::Create {
        watch_id: create.watch_id,
        range: record::Range {
            key: create.key.clone(),
            end: create.range_end.clone(),
        },
        start_revision: create.start_revision,
        no_put: filters(EventType::Put),
        no_delete: filters(EventType::Delete),
        prev_kv: create.prev_kv,
        fragment: create.fragment,
    }
}

/// A request for a watch, as it is sent.
pub(crate) fn to_create(create: &record::Create, progress_notify: bool) -> WatchCreateRequest {
    let filters = [
        (create.no_put, EventType::Put),
        (create.no_delete, EventType::Delete),
    ];
    let filters = filters.into_iter().filter(|(is_set, _)| *is_set);
    WatchCreateRequest {
        key: create.range.key.clone(),
        range_end: create.range.end.clone(),
        start_revision: create.start_revision,
        progress_notify,
        filters: filters.map(|(_, kind)| i32::from(kind)).collect(),
        prev_kv: create.prev_kv,
        watch_id: create.watch_id,
        fragment: create.fragment,
    }
}

/// A request of the KV service, as it is sent; a compaction is not an operation.
pub(crate) fn to_op(request: &Request) -> Op {
    match request {
        Request::Put {
            key,
            value,
            lease,
            prev_kv,
        } => Op::RequestPut(PutRequest {
            key: key.clone(),
            value: value.clone(),
            lease: *lease,
            prev_kv: *prev_kv,
            ..PutRequest::default()
        }),
        Request::Delete { range, prev_kv } => Op::RequestDeleteRange(DeleteRangeRequest {
            key: range.key.clone(),
            range_end: range.end.clone(),
            prev_kv: *prev_kv,
        }),
        Request::Range {
            range,
            revision,
            limit,
            keys_only,
            count_only,
        } => Op::RequestRange(RangeRequest {
            key: range.key.clone(),
            range_end: range.end.clone(),
            revision: *revision,
            limit: *limit,
            keys_only: *keys_only,
            count_only: *count_only,
            ..RangeRequest::default()
        }),
        Request::Txn {
            compares,
            success,
            failure,
        } => Op::RequestTxn(TxnRequest {
            compare: compares.iter().map(to_compare).collect(),
            success: success.iter().map(to_request_op).collect(),
            failure: failure.iter().map(to_request_op).collect(),
        }),
        Request::Stale { read } => match to_op(read) {
            Op::RequestRange(range) => Op::RequestRange(RangeRequest {
                serializable: true,
                ..range
            }),
            _ => panic!("no read"),
        },
        Request::Compact { .. } | Request::LeaseEnd { .. } => panic!("no operation"),
    }
}

fn to_request_op(request: &Request) -> RequestOp {
    RequestOp {
        request: Some(to_op(request)),
    }
}

fn to_compare(compare: &record::Compare) -> Compare {
    let (target, given) = match &compare.target {
        Target::Version(given) => (CompareTarget::Version, TargetUnion::Version(*given)),
        Target::Create(given) => (CompareTarget::Create, TargetUnion::CreateRevision(*given)),
        Target::Mod(given) => (CompareTarget::Mod, TargetUnion::ModRevision(*given)),
        Target::Lease(given) => (CompareTarget::Lease, TargetUnion::Lease(*given)),
        Target::Value(given) => (CompareTarget::Value, TargetUnion::Value(given.clone())),
    };
    let result = match compare.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::Greater => CompareResult::Greater,
        Relation::Less => CompareResult::Less,
        Relation::NotEqual => CompareResult::NotEqual,
    };
    Compare {
        result: result.into(),
        target: target.into(),
        key: compare.range.key.clone(),
        range_end: compare.range.end.clone(),
        target_union: Some(given),
    }
}

fn put(answer: &PutResponse) -> Answer {
    Answer::Put {
        prev_kv: answer.prev_kv.as_ref().map(kv),
    }
}

fn delete(answer: &DeleteRangeResponse) -> Answer {
    Answer::Delete {
        deleted: answer.deleted,
        prev_kvs: kvs(&answer.prev_kvs),
    }
}

fn range(answer: &RangeResponse) -> Answer {
    Answer::Range {
        kvs: kvs(&answer.kvs),
        more: answer.more,
        count: answer.count,
    }
}

fn txn(answer: &TxnResponse) -> Answer {
    Answer::Txn {
        succeeded: answer.succeeded,
        responses: answer.responses.iter().map(op_answer).collect(),
    }
}

fn op_answer(op: &ResponseOp) -> OpAnswer {
    let response = op.response.as_ref().expect("an operation is answered");
    let (header, answer) = of_op(response);
    OpAnswer {
        revision: header.map_or(0, |header| header.revision),
        answer,
    }
}

/// An answer with its header.
pub(crate) fn of_op(response: &OpResponse) -> (Option<&ResponseHeader>, Answer) {
    match response {
        OpResponse::ResponsePut(answer) => (answer.header.as_ref(), put(answer)),
        OpResponse::ResponseDeleteRange(answer) => (answer.header.as_ref(), delete(answer)),
        OpResponse::ResponseRange(answer) => (answer.header.as_ref(), range(answer)),
        OpResponse::ResponseTxn(answer) => (answer.header.as_ref(), txn(answer)),
    }
}

/// A refusal, or a failure after which nobody knows.
pub(crate) fn of_status(status: &Status) -> Outcome {
    let why = status.message().to_owned();
    match status.code() {
        Code::OutOfRange if why.contains("compacted") => Outcome::Compacted,
        Code::OutOfRange if why.contains("future") => Outcome::Future,
        Code::InvalidArgument | Code::ResourceExhausted | Code::NotFound => {
            Outcome::Refused { why }
        }
        _ => Outcome::Unknown { why },
    }
}
