//! `put`, `get`, `del` and `compact`: flags to requests, and the calls.
//!
//! Nothing is printed here.

use super::{VerbError, within};
use crate::api::pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, ResponseHeader,
    kv_client::KvClient,
    range_request::{SortOrder, SortTarget},
};
use crate::cli::{ClientArgs, CompactArgs, DelArgs, GetArgs, Order, PutArgs, RangeArgs, SortBy};
use crate::model::{KeyRange, RangeEnd};
use bytes::Bytes;
use std::ffi::OsString;
use std::io::Read;
use tonic::Status;
use tonic::transport::Channel;

/// On the wire, the smallest key there can be; as the end of a range, "no end".
const ZERO: Bytes = Bytes::from_static(b"\0");

/// A put; the value comes from `stdin` when the command line has none.
pub(super) fn put_request(args: &PutArgs, mut stdin: impl Read) -> Result<PutRequest, VerbError> {
    let mut value = Vec::new();
    match &args.value {
        Some(given) => value.extend_from_slice(given.as_encoded_bytes()),
        None if args.ignore_value => {}
        None => {
            stdin.read_to_end(&mut value).map_err(VerbError::Input)?;
        }
    }
    Ok(PutRequest {
        key: raw(&args.key),
        value: value.into(),
        prev_kv: args.prev_kv,
        ignore_value: args.ignore_value,
        ..PutRequest::default()
    })
}

/// A read.
pub(super) fn range_request(args: &GetArgs) -> RangeRequest {
    let (key, range_end) = wire_range(&args.range);
    let order = match args.order {
        None => SortOrder::None,
        Some(Order::Ascend) => SortOrder::Ascend,
        Some(Order::Descend) => SortOrder::Descend,
    };
    let target = match args.sort_by {
        None | Some(SortBy::Key) => SortTarget::Key,
        Some(SortBy::Create) => SortTarget::Create,
        Some(SortBy::Modify) => SortTarget::Mod,
        Some(SortBy::Value) => SortTarget::Value,
        Some(SortBy::Version) => SortTarget::Version,
    };
    RangeRequest {
        key,
        range_end,
        limit: args.limit,
        revision: args.rev,
        sort_order: order.into(),
        sort_target: target.into(),
        keys_only: args.keys_only,
        count_only: args.count_only,
        ..RangeRequest::default()
    }
}

/// A delete.
pub(super) fn delete_request(args: &DelArgs) -> DeleteRangeRequest {
    let (key, range_end) = wire_range(&args.range);
    DeleteRangeRequest {
        key,
        range_end,
        prev_kv: args.prev_kv,
    }
}

/// A compaction.
pub(super) fn compaction_request(args: &CompactArgs) -> CompactionRequest {
    CompactionRequest {
        revision: args.revision,
        physical: args.physical,
    }
}

/// The protocol's `key` and `range_end` for what the flags say.
pub(super) fn wire_range(args: &RangeArgs) -> (Bytes, Bytes) {
    let key = raw(&args.key);
    let range = if args.prefix {
        KeyRange::prefix(key)
    } else if args.from_key {
        KeyRange {
            start: key,
            end: RangeEnd::Open,
        }
    } else {
        let end = args.range_end.as_ref().map(raw);
        KeyRange::from_wire(key, end.unwrap_or_default())
    };
    wire(range)
}

/// The protocol's `key` and `range_end` of a range.
pub(super) fn wire(range: KeyRange) -> (Bytes, Bytes) {
    let end = match range.end {
        RangeEnd::Single => return (range.start, Bytes::new()),
        RangeEnd::Open => ZERO,
        RangeEnd::Until(end) => end,
    };
    // An empty key is refused on the wire, so a range from the very first key starts at the smallest there can be.
    let start = if range.start.is_empty() {
        ZERO
    } else {
        range.start
    };
    (start, end)
}

/// Keys and values are bytes; the command line's own are taken as they are.
fn raw(text: &OsString) -> Bytes {
    Bytes::copy_from_slice(text.as_encoded_bytes())
}

/// Answers can be as large as the server lets them be.
pub(super) fn client(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// Which server it is, and its revision.
pub(super) async fn header(
    channel: &Channel,
    args: &ClientArgs,
) -> Result<ResponseHeader, VerbError> {
    let request = RangeRequest {
        key: ZERO,
        count_only: true,
        ..RangeRequest::default()
    };
    let call = range(channel.clone(), request);
    let answer = within(args, async { Ok(call.await?) }).await?;
    Ok(answer.header.unwrap_or_default())
}

pub(super) async fn put(channel: Channel, request: PutRequest) -> Result<PutResponse, Status> {
    Ok(client(channel).put(request).await?.into_inner())
}

pub(super) async fn range(
    channel: Channel,
    request: RangeRequest,
) -> Result<RangeResponse, Status> {
    Ok(client(channel).range(request).await?.into_inner())
}

pub(super) async fn delete(
    channel: Channel,
    request: DeleteRangeRequest,
) -> Result<DeleteRangeResponse, Status> {
    Ok(client(channel).delete_range(request).await?.into_inner())
}

pub(super) async fn compact(
    channel: Channel,
    request: CompactionRequest,
) -> Result<CompactionResponse, Status> {
    Ok(client(channel).compact(request).await?.into_inner())
}
