//! Answers as JSON documents, field for field as etcd's own client writes them.
//!
//! Numbers are numbers, bytes are base64, and what is zero or empty is left out. A watch answer alone has capital names
//! and leaves nothing out, because that is what scripts written for etcd's client read.

use super::base64;
use crate::api::pb::{etcdserverpb as rpc, mvccpb};
use crate::storage::SnapshotInfo;
use serde::Serialize;

/// True for what is left out.
fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What was saved.
#[derive(Serialize)]
pub(super) struct Saved {
    pub(super) file: String,
    pub(super) size: u64,
}

/// What is in a snapshot, by the names of etcd's own tool, and one more.
#[derive(Serialize)]
pub(super) struct Snapshot {
    hash: u32,
    revision: i64,
    #[serde(rename = "compactRevision")]
    compact_revision: i64,
    #[serde(rename = "totalKey")]
    total_key: u64,
    #[serde(rename = "totalSize")]
    total_size: u64,
}

impl From<&SnapshotInfo> for Snapshot {
    fn from(info: &SnapshotInfo) -> Self {
        Self {
            hash: info.hash,
            revision: info.revision.0,
            compact_revision: info.compact_revision.0,
            total_key: info.records,
            total_size: info.bytes,
        }
    }
}

/// `header`.
#[derive(Serialize)]
pub(super) struct Header {
    #[serde(skip_serializing_if = "is_zero")]
    cluster_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    member_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    raft_term: u64,
}

/// A key with its value and numbers.
#[derive(Serialize)]
pub(super) struct KeyValue {
    #[serde(skip_serializing_if = "is_zero")]
    key: String,
    #[serde(skip_serializing_if = "is_zero")]
    create_revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    mod_revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    version: i64,
    #[serde(skip_serializing_if = "is_zero")]
    value: String,
    #[serde(skip_serializing_if = "is_zero")]
    lease: i64,
}

/// The answer to a put.
#[derive(Serialize)]
pub(super) struct Put {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<KeyValue>,
}

/// The answer to a get.
#[derive(Serialize)]
pub(super) struct Range {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kvs: Vec<KeyValue>,
    #[serde(skip_serializing_if = "is_zero")]
    more: bool,
    #[serde(skip_serializing_if = "is_zero")]
    count: i64,
}

/// The answer to a del.
#[derive(Serialize)]
pub(super) struct Delete {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "is_zero")]
    deleted: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prev_kvs: Vec<KeyValue>,
}

/// The answer to a compact.
#[derive(Serialize)]
pub(super) struct Compaction {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
}

/// One answer of a watch.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Watch {
    header: Option<Header>,
    events: Vec<Event>,
    compact_revision: i64,
    canceled: bool,
    created: bool,
}

/// One event; the type of a put is zero and so left out.
#[derive(Serialize)]
pub(super) struct Event {
    #[serde(rename = "type", skip_serializing_if = "is_zero")]
    kind: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv: Option<KeyValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<KeyValue>,
}

/// What one server says of itself, and which server that is.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EndpointStatus {
    endpoint: String,
    status: Status,
}

/// What a server says of itself.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "is_zero")]
    version: String,
    #[serde(skip_serializing_if = "is_zero")]
    db_size: i64,
    #[serde(skip_serializing_if = "is_zero")]
    leader: u64,
    #[serde(skip_serializing_if = "is_zero")]
    raft_index: u64,
    #[serde(skip_serializing_if = "is_zero")]
    raft_term: u64,
    #[serde(skip_serializing_if = "is_zero")]
    raft_applied_index: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    db_size_in_use: i64,
    #[serde(skip_serializing_if = "is_zero")]
    is_learner: bool,
    #[serde(skip_serializing_if = "is_zero")]
    storage_version: String,
    #[serde(skip_serializing_if = "is_zero")]
    db_size_quota: i64,
}

impl From<&rpc::ResponseHeader> for Header {
    fn from(header: &rpc::ResponseHeader) -> Self {
        Self {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            revision: header.revision,
            raft_term: header.raft_term,
        }
    }
}

impl From<&mvccpb::KeyValue> for KeyValue {
    fn from(kv: &mvccpb::KeyValue) -> Self {
        Self {
            key: base64::encode(&kv.key),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            value: base64::encode(&kv.value),
            lease: kv.lease,
        }
    }
}

impl From<&rpc::PutResponse> for Put {
    fn from(answer: &rpc::PutResponse) -> Self {
        Self {
            header: answer.header.as_ref().map(Into::into),
            prev_kv: answer.prev_kv.as_ref().map(Into::into),
        }
    }
}

impl From<&rpc::RangeResponse> for Range {
    fn from(answer: &rpc::RangeResponse) -> Self {
        Self {
            header: answer.header.as_ref().map(Into::into),
            kvs: answer.kvs.iter().map(Into::into).collect(),
            more: answer.more,
            count: answer.count,
        }
    }
}

impl From<&rpc::DeleteRangeResponse> for Delete {
    fn from(answer: &rpc::DeleteRangeResponse) -> Self {
        Self {
            header: answer.header.as_ref().map(Into::into),
            deleted: answer.deleted,
            prev_kvs: answer.prev_kvs.iter().map(Into::into).collect(),
        }
    }
}

impl From<&rpc::CompactionResponse> for Compaction {
    fn from(answer: &rpc::CompactionResponse) -> Self {
        Self {
            header: answer.header.as_ref().map(Into::into),
        }
    }
}

impl From<&rpc::WatchResponse> for Watch {
    fn from(answer: &rpc::WatchResponse) -> Self {
        Self {
            header: answer.header.as_ref().map(Into::into),
            events: answer.events.iter().map(Into::into).collect(),
            compact_revision: answer.compact_revision,
            canceled: answer.canceled,
            created: answer.created,
        }
    }
}

impl From<&mvccpb::Event> for Event {
    fn from(event: &mvccpb::Event) -> Self {
        Self {
            kind: event.r#type,
            kv: event.kv.as_ref().map(Into::into),
            prev_kv: event.prev_kv.as_ref().map(Into::into),
        }
    }
}

impl EndpointStatus {
    /// What the server at `endpoint` says of itself.
    pub(super) fn new(endpoint: &str, answer: &rpc::StatusResponse) -> Self {
        let status = Status {
            header: answer.header.as_ref().map(Into::into),
            version: answer.version.clone(),
            db_size: answer.db_size,
            leader: answer.leader,
            raft_index: answer.raft_index,
            raft_term: answer.raft_term,
            raft_applied_index: answer.raft_applied_index,
            errors: answer.errors.clone(),
            db_size_in_use: answer.db_size_in_use,
            is_learner: answer.is_learner,
            storage_version: answer.storage_version.clone(),
            db_size_quota: answer.db_size_quota,
        };
        Self {
            endpoint: endpoint.to_owned(),
            status,
        }
    }
}
