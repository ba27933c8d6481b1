//! Puts, deletes and transactions to writes, and what they did to responses.
//!
//! The shape of a write (empty keys, counts, overlaps) is checked behind the edge; here only what the model cannot say
//! is refused.

use super::{RangeParts, detached, header, inner_header, key_value, query, range_response};
use crate::api::pb::etcdserverpb::compare::{
    CompareResult as PbResult, CompareTarget as PbTarget, TargetUnion,
};
use crate::api::pb::etcdserverpb::request_op::Request as PbOp;
use crate::api::pb::etcdserverpb::response_op::Response as PbOpAnswer;
use crate::api::pb::etcdserverpb::{
    Compare as PbCompare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use crate::backend::{BackendError, Identity};
use crate::model::{
    Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, LeaseId, Op, OpAnswer, OpBody,
    Put, RangeQuery, Refusal, Txn, TxnAnswer, WriteAnswer,
};
use bytes::Bytes;

/// The put that a request asks for.
pub(crate) fn put(request: &PutRequest) -> Put {
    Put {
        key: detached(&request.key),
        value: detached(&request.value),
        lease: LeaseId(request.lease),
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// The delete that a request asks for.
pub(crate) fn delete(request: &DeleteRangeRequest) -> DeleteRange {
    DeleteRange {
        range: detached_range(&request.key, &request.range_end),
        prev_kv: request.prev_kv,
    }
}

/// The transaction that a request asks for.
pub(crate) fn txn(request: TxnRequest) -> Result<Txn, Refusal> {
    let ops = |ops: Vec<RequestOp>| ops.into_iter().map(op).collect::<Result<Vec<_>, _>>();
    Ok(Txn {
        compares: request.compare.into_iter().map(compare).collect(),
        success: ops(request.success)?,
        failure: ops(request.failure)?,
    })
}

fn op(op: RequestOp) -> Result<Op, Refusal> {
    match op.request {
        Some(PbOp::RequestRange(range)) => {
            let query = query(range)?;
            let range = KeyRange {
                start: detached(&query.range.start),
                ..query.range
            };
            Ok(Op::Range(RangeQuery { range, ..query }))
        }
        Some(PbOp::RequestPut(request)) => Ok(Op::Put(put(&request))),
        Some(PbOp::RequestDeleteRange(request)) => Ok(Op::Delete(delete(&request))),
        Some(PbOp::RequestTxn(request)) => Ok(Op::Txn(txn(request)?)),
        None => Err(Refusal::KeyNotFound),
    }
}

fn compare(compare: PbCompare) -> Compare {
    let result = match PbResult::try_from(compare.result) {
        Ok(PbResult::Equal) => CompareResult::Equal,
        Ok(PbResult::Greater) => CompareResult::Greater,
        Ok(PbResult::Less) => CompareResult::Less,
        Ok(PbResult::NotEqual) => CompareResult::NotEqual,
        Err(_) => CompareResult::Unknown,
    };
    Compare {
        range: detached_range(&compare.key, &compare.range_end),
        target: target(compare.target, compare.target_union),
        result,
    }
}

/// The given side is read as what the target says; given as anything else it counts as absent, which is zero.
fn target(target: i32, given: Option<TargetUnion>) -> CompareTarget {
    match (PbTarget::try_from(target), given) {
        (Ok(PbTarget::Version), Some(TargetUnion::Version(version))) => {
            CompareTarget::Version(version)
        }
        (Ok(PbTarget::Version), _) => CompareTarget::Version(0),
        (Ok(PbTarget::Create), Some(TargetUnion::CreateRevision(revision))) => {
            CompareTarget::Create(revision)
        }
        (Ok(PbTarget::Create), _) => CompareTarget::Create(0),
        (Ok(PbTarget::Mod), Some(TargetUnion::ModRevision(revision))) => {
            CompareTarget::Mod(revision)
        }
        (Ok(PbTarget::Mod), _) => CompareTarget::Mod(0),
        (Ok(PbTarget::Value), Some(TargetUnion::Value(value))) => {
            CompareTarget::Value(detached(&value))
        }
        (Ok(PbTarget::Value), _) => CompareTarget::Value(Bytes::new()),
        (Ok(PbTarget::Lease), Some(TargetUnion::Lease(lease))) => CompareTarget::Lease(lease),
        (Ok(PbTarget::Lease), _) => CompareTarget::Lease(0),
        (Err(_), _) => CompareTarget::Unknown,
    }
}

fn detached_range(key: &Bytes, range_end: &Bytes) -> KeyRange {
    KeyRange::from_wire(detached(key), detached(range_end))
}

/// What a put did.
pub(crate) fn put_response(
    identity: Identity,
    answer: WriteAnswer,
) -> Result<PutResponse, BackendError> {
    match answer.body {
        OpBody::Put { prev } => Ok(PutResponse {
            header: Some(header(identity, answer.revision)),
            prev_kv: prev.map(key_value),
        }),
        _ => Err(unexpected_answer()),
    }
}

/// What a delete did.
pub(crate) fn delete_response(
    identity: Identity,
    answer: WriteAnswer,
) -> Result<DeleteRangeResponse, BackendError> {
    match answer.body {
        OpBody::Delete { deleted, prevs } => Ok(DeleteRangeResponse {
            header: Some(header(identity, answer.revision)),
            deleted,
            prev_kvs: prevs.into_iter().map(key_value).collect(),
        }),
        _ => Err(unexpected_answer()),
    }
}

/// What a transaction did.
pub(crate) fn txn_response(
    identity: Identity,
    answer: WriteAnswer,
) -> Result<TxnResponse, BackendError> {
    match answer.body {
        OpBody::Txn(txn) => Ok(txn_body(header(identity, answer.revision), txn)),
        _ => Err(unexpected_answer()),
    }
}

/// The backend answered a write with something else than the write; this is a fault of ours.
fn unexpected_answer() -> BackendError {
    BackendError::Failed("vigil: the answer is not of the request's kind".to_owned())
}

fn txn_body(header: ResponseHeader, answer: TxnAnswer) -> TxnResponse {
    TxnResponse {
        header: Some(header),
        succeeded: answer.succeeded,
        responses: answer.responses.into_iter().map(op_response).collect(),
    }
}

fn op_response(answer: OpAnswer) -> ResponseOp {
    let inner = inner_header(answer.revision);
    let response = match answer.body {
        OpBody::Range(range) => {
            PbOpAnswer::ResponseRange(range_response(Some(inner), range, RangeParts::All))
        }
        OpBody::Put { prev } => PbOpAnswer::ResponsePut(PutResponse {
            header: Some(inner),
            prev_kv: prev.map(key_value),
        }),
        OpBody::Delete { deleted, prevs } => PbOpAnswer::ResponseDeleteRange(DeleteRangeResponse {
            header: Some(inner),
            deleted,
            prev_kvs: prevs.into_iter().map(key_value).collect(),
        }),
        // As in etcd, the header of this one says no revision.
        OpBody::Txn(txn) => PbOpAnswer::ResponseTxn(txn_body(ResponseHeader::default(), txn)),
        // No operation of a transaction touches a lease.
        OpBody::Lease => return ResponseOp { response: None },
    };
    ResponseOp {
        response: Some(response),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RangeAnswer, Revision};

    #[test]
    fn an_operation_with_nothing_in_it_is_refused() {
        let request = TxnRequest {
            failure: vec![RequestOp { request: None }],
            ..TxnRequest::default()
        };
        assert_eq!(txn(request), Err(Refusal::KeyNotFound));
    }

    #[test]
    fn a_compare_reads_the_given_side_as_its_target_says() {
        let read = |kind: i32, given| target(kind, given);
        let create = PbTarget::Create as i32;
        assert_eq!(
            read(create, Some(TargetUnion::CreateRevision(5))),
            CompareTarget::Create(5)
        );
        assert_eq!(
            read(create, Some(TargetUnion::Version(5))),
            CompareTarget::Create(0)
        );
        assert_eq!(
            read(PbTarget::Value as i32, None),
            CompareTarget::Value(Bytes::new())
        );
        assert_eq!(
            read(99, Some(TargetUnion::Lease(1))),
            CompareTarget::Unknown
        );
        let unknown = PbCompare {
            result: 9,
            ..PbCompare::default()
        };
        assert_eq!(compare(unknown).result, CompareResult::Unknown);
    }

    #[test]
    fn b2_a_put_keeps_nothing_of_the_read_buffer() {
        let block = Bytes::from(vec![b'x'; 64]);
        let request = PutRequest {
            key: block.slice(0..4),
            value: block.slice(4..8),
            ..PutRequest::default()
        };
        let put = put(&request);
        drop(request);
        assert!(block.is_unique());
        assert_eq!((put.key.len(), put.value.len()), (4, 4));
    }

    #[test]
    fn headers_inside_a_transaction_say_the_revision_alone() {
        let range = OpAnswer {
            revision: Revision(4),
            body: OpBody::Range(RangeAnswer::default()),
        };
        let answer = OpAnswer {
            revision: Revision(5),
            body: OpBody::Txn(TxnAnswer {
                succeeded: true,
                responses: vec![range],
            }),
        };
        let identity = Identity {
            cluster_id: 1,
            member_id: 2,
            raft_term: 3,
        };
        let response = txn_response(identity, answer).unwrap();
        let outer = response.header.unwrap();
        assert_eq!(
            (
                outer.cluster_id,
                outer.member_id,
                outer.revision,
                outer.raft_term
            ),
            (1, 2, 5, 3)
        );
        let Some(PbOpAnswer::ResponseRange(inner)) = &response.responses[0].response else {
            panic!("not a range: {response:?}");
        };
        let inner = inner.header.unwrap();
        assert_eq!(
            (inner.cluster_id, inner.revision, inner.raft_term),
            (0, 4, 0)
        );
    }
}
