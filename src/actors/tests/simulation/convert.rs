//! Between the engine's values and a record: what clients send and see, written down as it is.
//!
//! Nothing is left out here and nothing repaired, or the verdict would be about something else.

use super::validator::record::{
    Answer, Create, Event, Kind, Kv, OpAnswer, Outcome, Range, Request, Response,
};
use crate::actors::outbox::StreamItem;
use crate::actors::{EngineError, WatchCreate};
use crate::model;
use crate::model::{
    EventFilters, EventKind, KeyRange, LeaseId, RangeAnswer, Refusal, Revision, WatchId,
};
use crate::watch::Batch;

pub(super) fn kv(kv: &model::KeyValue) -> Kv {
    Kv {
        key: kv.key.clone(),
        value: kv.value.clone(),
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version,
        lease: kv.lease.0,
    }
}

fn event(event: &model::Event, with_prev: bool) -> Event {
    let prev = event.prev().flatten().filter(|_| with_prev);
    Event {
        kind: match event.kind {
            EventKind::Put => Kind::Put,
            EventKind::Delete => Kind::Delete,
        },
        kv: kv(&event.kv),
        prev_kv: prev.map(|prev| kv(prev)),
    }
}

pub(super) fn events(batch: &Batch) -> Vec<Event> {
    let with_prev = batch.with_prev();
    let all = batch.events().iter();
    all.map(|it| event(it, with_prev)).collect()
}

pub(super) fn key_range(range: &Range) -> KeyRange {
    KeyRange::from_wire(range.key.clone(), range.end.clone())
}

pub(super) fn watch_create(create: &Create, progress_notify: bool) -> WatchCreate {
    WatchCreate {
        watch_id: WatchId(create.watch_id),
        range: key_range(&create.range),
        start_revision: create.start_revision,
        filters: filters(create),
        prev_kv: create.prev_kv,
        fragment: create.fragment,
        progress_notify,
    }
}

pub(super) fn filters(create: &Create) -> EventFilters {
    EventFilters {
        no_put: create.no_put,
        no_delete: create.no_delete,
    }
}

/// A request that may write; nothing for reads and compactions, which go other ways.
pub(super) fn write(request: &Request) -> Option<model::Write> {
    Some(match op(request)? {
        model::Op::Put(put) => model::Write::Put(put),
        model::Op::Delete(delete) => model::Write::Delete(delete),
        model::Op::Txn(txn) => model::Write::Txn(txn),
        model::Op::Range(_) => return None,
    })
}

fn op(request: &Request) -> Option<model::Op> {
    Some(match request {
        Request::Put {
            key,
            value,
            prev_kv,
            lease,
        } => model::Op::Put(model::Put {
            key: key.clone(),
            value: value.clone(),
            lease: LeaseId(*lease),
            prev_kv: *prev_kv,
            ..model::Put::default()
        }),
        Request::Delete { range, prev_kv } => model::Op::Delete(model::DeleteRange {
            range: key_range(range),
            prev_kv: *prev_kv,
        }),
        Request::Range { .. } => model::Op::Range(query(request)?),
        Request::Txn {
            compares,
            success,
            failure,
        } => model::Op::Txn(model::Txn {
            compares: compares.iter().map(compare).collect(),
            success: success.iter().filter_map(op).collect(),
            failure: failure.iter().filter_map(op).collect(),
        }),
        Request::Compact { .. } | Request::Stale { .. } | Request::LeaseEnd { .. } => return None,
    })
}

pub(super) fn query(request: &Request) -> Option<model::RangeQuery> {
    let Request::Range {
        range,
        revision,
        limit,
        keys_only,
        count_only,
    } = request
    else {
        return None;
    };
    Some(model::RangeQuery {
        revision: *revision,
        limit: *limit,
        keys_only: *keys_only,
        count_only: *count_only,
        ..model::RangeQuery::latest(key_range(range))
    })
}

fn compare(compare: &super::validator::record::Compare) -> model::Compare {
    use super::validator::record::{Relation, Target};
    model::Compare {
        range: key_range(&compare.range),
        target: match &compare.target {
            Target::Version(given) => model::CompareTarget::Version(*given),
            Target::Create(given) => model::CompareTarget::Create(*given),
            Target::Mod(given) => model::CompareTarget::Mod(*given),
            Target::Lease(given) => model::CompareTarget::Lease(*given),
            Target::Value(given) => model::CompareTarget::Value(given.clone()),
        },
        result: match compare.relation {
            Relation::Equal => model::CompareResult::Equal,
            Relation::Greater => model::CompareResult::Greater,
            Relation::Less => model::CompareResult::Less,
            Relation::NotEqual => model::CompareResult::NotEqual,
        },
    }
}

fn range_answer(answer: RangeAnswer) -> Answer {
    Answer::Range {
        kvs: answer.kvs.iter().map(|shared| kv(shared)).collect(),
        more: answer.more,
        count: answer.count,
    }
}

fn answer(body: model::OpBody) -> Answer {
    match body {
        model::OpBody::Range(answer) => range_answer(answer),
        model::OpBody::Put { prev } => Answer::Put {
            prev_kv: prev.as_ref().map(kv),
        },
        model::OpBody::Delete { deleted, prevs } => Answer::Delete {
            deleted,
            prev_kvs: prevs.iter().map(kv).collect(),
        },
        model::OpBody::Txn(txn) => Answer::Txn {
            succeeded: txn.succeeded,
            responses: txn.responses.into_iter().map(op_answer).collect(),
        },
        model::OpBody::Lease => panic!("nobody asked for a lease"),
    }
}

fn op_answer(op: model::OpAnswer) -> OpAnswer {
    // As the edge does.
    let is_nested = matches!(op.body, model::OpBody::Txn(_));
    OpAnswer {
        revision: if is_nested { 0 } else { op.revision.0 },
        answer: answer(op.body),
    }
}

fn failed(error: EngineError) -> Outcome {
    let why = error.to_string();
    match error {
        EngineError::Refused(Refusal::Compacted { .. }) => Outcome::Compacted,
        EngineError::Refused(Refusal::FutureRevision { .. }) => Outcome::Future,
        EngineError::Refused(_) => Outcome::Refused { why },
        EngineError::TooManyRequests
        | EngineError::Stopped
        | EngineError::Failed(_)
        | EngineError::NotDefragmented(_) => Outcome::Unknown { why },
    }
}

pub(super) fn of_write(result: Result<model::WriteAnswer, EngineError>) -> Outcome {
    result.map_or_else(failed, |done| Outcome::Done {
        revision: done.revision.0,
        answer: answer(done.body),
    })
}

pub(super) fn of_range(result: Result<(Revision, RangeAnswer), EngineError>) -> Outcome {
    let done = |(revision, answer): (Revision, RangeAnswer)| Outcome::Done {
        revision: revision.0,
        answer: range_answer(answer),
    };
    match result.map_or_else(failed, done) {
        // A read has no effect in any case.
        Outcome::Unknown { why } => Outcome::Refused { why },
        known => known,
    }
}

pub(super) fn of_compact(result: Result<Revision, EngineError>) -> Outcome {
    result.map_or_else(failed, |revision| Outcome::Done {
        revision: revision.0,
        answer: Answer::Compact,
    })
}

pub(super) fn response(item: &StreamItem) -> Response {
    let of = |watch_id: WatchId, revision: Option<Revision>| Response {
        watch_id: watch_id.0,
        revision: revision.map(|revision| revision.0),
        ..Response::default()
    };
    match item {
        StreamItem::Created { watch_id, revision } => Response {
            created: true,
            ..of(*watch_id, Some(*revision))
        },
        StreamItem::Rejected { revision, .. } => Response {
            created: true,
            canceled: true,
            ..of(WatchId::STREAM, Some(*revision))
        },
        // The header is the edge's.
        StreamItem::Events {
            watch_id, batch, ..
        } => Response {
            events: events(batch),
            ..of(*watch_id, None)
        },
        StreamItem::Progress { watch_id, revision } => of(*watch_id, Some(*revision)),
        StreamItem::Canceled { watch_id, revision } => Response {
            canceled: true,
            ..of(*watch_id, Some(*revision))
        },
        StreamItem::Compacted {
            watch_id,
            compact_revision,
        } => Response {
            canceled: true,
            compact_revision: compact_revision.0,
            ..of(*watch_id, None)
        },
    }
}
