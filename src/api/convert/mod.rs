//! Protobuf messages to model values and back.
//!
//! A conversion only re-dresses what it is given: it refuses what the model cannot say, and decides nothing else.

mod range;
mod watch;
mod write;

pub(crate) use range::{RangeParts, query, range_response};
pub(crate) use watch::{create, event};
pub(crate) use write::{delete, delete_response, put, put_response, txn, txn_response};

use super::pb::etcdserverpb::ResponseHeader;
use super::pb::mvccpb;
use crate::backend::Identity;
use crate::model::{KeyValue, Revision};
use bytes::Bytes;

/// The header of an answer.
pub(crate) fn header(identity: Identity, revision: Revision) -> ResponseHeader {
    ResponseHeader {
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        revision: revision.0,
        raft_term: identity.raft_term,
    }
}

/// The header of an answer inside a transaction's, which says its revision and nothing else.
pub(crate) fn inner_header(revision: Revision) -> ResponseHeader {
    ResponseHeader {
        revision: revision.0,
        ..ResponseHeader::default()
    }
}

/// A key with its value. Shares the bytes.
pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version,
        value: kv.value,
        lease: kv.lease.0,
    }
}

/// Bytes that outlive their request. What was decoded is a slice of the connection's read buffer and would keep all of
/// it alive (B2), so whatever is stored or queued is copied out first.
pub(crate) fn detached(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b2_detached_bytes_leave_the_block_they_were_read_into() {
        let block = Bytes::from(vec![7_u8; 4096]);
        let slice = block.slice(8..12);
        let copy = detached(&slice);
        assert_eq!(copy, slice);
        drop(slice);
        assert!(block.is_unique());
    }
}
