//! Changes on their way to a server, in transactions as large as it takes.
//!
//! A change that is alone is never too large here: whether it is, the server says.

use crate::api::pb::etcdserverpb::request_op::Request;
use crate::api::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use crate::cli::ClientArgs;
use crate::verbs::{VerbError, kv, within};
use bytes::Bytes;
use std::collections::HashSet;
use tonic::transport::Channel;

/// Bytes of one transaction: below what servers take as one request, with room for what surrounds keys and values.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// What surrounds the key and the value of one change.
const CHANGE_BYTES: usize = 32;

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has this value, and no lease.
    Put(Bytes, Bytes),
    /// It is gone.
    Delete(Bytes),
}

impl Change {
    fn key(&self) -> &Bytes {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }

    fn bytes(&self) -> usize {
        let value = match self {
            Self::Put(_, value) => value.len(),
            Self::Delete(_) => 0,
        };
        self.key().len() + value + CHANGE_BYTES
    }

    fn into_op(self) -> RequestOp {
        let request = match self {
            Self::Put(key, value) => Request::RequestPut(PutRequest {
                key,
                value,
                ..PutRequest::default()
            }),
            Self::Delete(key) => Request::RequestDeleteRange(DeleteRangeRequest {
                key,
                ..DeleteRangeRequest::default()
            }),
        };
        RequestOp {
            request: Some(request),
        }
    }
}

/// Changes that become one transaction.
#[derive(Debug)]
pub(super) struct Batch {
    changes: Vec<Change>,
    /// A transaction changes a key once.
    keys: HashSet<Bytes>,
    bytes: usize,
    ops_max: usize,
}

impl Batch {
    pub(super) fn new(ops_max: usize) -> Self {
        Self {
            changes: Vec::new(),
            keys: HashSet::new(),
            bytes: 0,
            ops_max,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// True when these changes can be in one transaction with those that are there.
    pub(super) fn has_room_for(&self, changes: &[Change]) -> bool {
        if self.is_empty() && changes.len() <= 1 {
            return true;
        }
        let bytes: usize = changes.iter().map(Change::bytes).sum();
        let keys: HashSet<_> = changes.iter().map(Change::key).collect();
        self.changes.len() + changes.len() <= self.ops_max
            && self.bytes + bytes <= BATCH_BYTES_MAX
            && keys.len() == changes.len()
            && !keys.into_iter().any(|key| self.keys.contains(key))
    }

    pub(super) fn add(&mut self, change: Change) {
        self.bytes += change.bytes();
        self.keys.insert(change.key().clone());
        self.changes.push(change);
    }

    /// Makes the changes at the server, all or none. On an error nobody may know which, and they are gone from here.
    pub(super) async fn apply(
        &mut self,
        client: &ClientArgs,
        channel: &Channel,
    ) -> Result<(), VerbError> {
        let batch = std::mem::replace(self, Self::new(self.ops_max));
        if batch.is_empty() {
            return Ok(());
        }
        let request = TxnRequest {
            success: batch.changes.into_iter().map(Change::into_op).collect(),
            ..TxnRequest::default()
        };
        let mut server = kv::client(channel.clone());
        within(client, async { Ok(server.txn(request).await?) }).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value_bytes: usize) -> Change {
        Change::Put(key.into(), vec![b'v'; value_bytes].into())
    }

    #[test]
    fn a_batch_is_as_large_as_a_transaction_may_be() {
        let mut batch = Batch::new(3);
        assert!(
            batch.has_room_for(&[put("a", 2 * BATCH_BYTES_MAX)]),
            "alone"
        );
        assert!(!batch.has_room_for(&[put("a", BATCH_BYTES_MAX), put("b", 1)]));
        assert!(
            !batch.has_room_for(&[put("a", 1), Change::Delete("a".into())]),
            "one key twice"
        );
        assert!(batch.has_room_for(&[put("a", 1), put("b", 1), put("c", 1)]));
        batch.add(put("a", 1));
        assert!(!batch.has_room_for(&[put("a", 1)]), "one key twice");
        assert!(!batch.has_room_for(&[put("b", BATCH_BYTES_MAX)]));
        batch.add(Change::Delete("b".into()));
        batch.add(put("c", 1));
        assert_eq!(batch.len(), 3);
        assert!(!batch.has_room_for(&[put("d", 1)]), "operations");
    }
}
