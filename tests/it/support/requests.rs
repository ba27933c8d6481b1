//! Requests in few words, so that a probe reads as what it asks.
//!
//! Only shapes; nothing here talks to a server.

use super::pb::compare::{CompareResult, CompareTarget, TargetUnion};
use super::pb::request_op::Request;
use super::pb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest,
};
use bytes::Bytes;
use vigil::model::{KeyRange, RangeEnd};

/// The end of an open range, and with the same key the whole key space.
pub(crate) const OPEN: &str = "\0";

/// The first key past all keys with this prefix, as on the wire.
pub(crate) fn prefix_end(prefix: &str) -> Bytes {
    match KeyRange::prefix(prefix.to_owned()).end {
        RangeEnd::Until(end) => end,
        RangeEnd::Open | RangeEnd::Single => Bytes::from_static(OPEN.as_bytes()),
    }
}

/// A read of one key.
pub(crate) fn get(key: impl Into<Bytes>) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}

/// A read of all keys with a prefix.
pub(crate) fn get_prefix(prefix: &str) -> RangeRequest {
    RangeRequest {
        range_end: prefix_end(prefix),
        ..get(prefix.to_owned())
    }
}

/// A watch of one key.
pub(crate) fn on(key: impl Into<Bytes>) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        ..WatchCreateRequest::default()
    }
}

/// A watch of all keys with a prefix.
pub(crate) fn on_prefix(prefix: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        range_end: prefix_end(prefix),
        ..on(prefix.to_owned())
    }
}

/// A watch of every key.
pub(crate) fn on_everything() -> WatchCreateRequest {
    WatchCreateRequest {
        range_end: OPEN.into(),
        ..on(OPEN)
    }
}

/// A put, as an operation.
pub(crate) fn op_put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> RequestOp {
    op(Request::RequestPut(PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }))
}

/// A delete, as an operation.
pub(crate) fn op_delete(key: impl Into<Bytes>, range_end: impl Into<Bytes>) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    }))
}

/// A read, as an operation.
pub(crate) fn op_range(request: RangeRequest) -> RequestOp {
    op(Request::RequestRange(request))
}

/// A nested transaction, as an operation.
pub(crate) fn op_txn(txn: TxnRequest) -> RequestOp {
    op(Request::RequestTxn(txn))
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// A transaction without conditions.
pub(crate) fn all_of(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..TxnRequest::default()
    }
}

/// A condition on one key.
pub(crate) fn compare(key: &'static str, result: CompareResult, given: TargetUnion) -> Compare {
    let target = match given {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        range_end: Bytes::new(),
        target_union: Some(given),
    }
}
