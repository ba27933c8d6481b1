//! A range, answered in one message that is encoded straight from what the store shares.
//!
//! An answer of many keys would otherwise be copied key by key into protobuf's own structs first, which touches the counts of
//! every shared key and value twice. Written by hand is only the order of the fields; a test holds it to prost's bytes.

use crate::api::codec::{Encodable, RoomyCodec};
use crate::api::convert;
use crate::api::pb::etcdserverpb::{RangeRequest, ResponseHeader};
use crate::api::status;
use crate::backend::StoreBackend;
use crate::model::{KeyValue, RangeAnswer};
use bytes::{BufMut, Bytes};
use http::Request as HttpRequest;
use prost::encoding::{
    self, WireType, encode_key, encode_varint, encoded_len_varint, key_len, message,
};
use std::convert::Infallible;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};

/// The field of a range response that holds its keys.
const KVS: u32 = 2;

/// Answers one Range call.
pub(super) fn serve<B, R>(
    backend: B,
    request: HttpRequest<R>,
    frame_bytes: usize,
) -> BoxFuture<http::Response<Body>, Infallible>
where
    B: StoreBackend,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<super::BoxError> + Send,
{
    Box::pin(async move {
        let codec = RoomyCodec::<RangeMessage, RangeRequest>::default();
        let mut grpc = Grpc::new(codec).apply_max_message_size_config(Some(frame_bytes), None);
        Ok(grpc.unary(Ranges(backend), request).await)
    })
}

/// The call as tonic wants it.
struct Ranges<B>(B);

impl<B: StoreBackend> UnaryService<RangeRequest> for Ranges<B> {
    type Response = RangeMessage;
    type Future = BoxFuture<Response<RangeMessage>, Status>;

    fn call(&mut self, request: Request<RangeRequest>) -> Self::Future {
        let backend = self.0.clone();
        Box::pin(async move {
            let query = convert::query(request.into_inner());
            let query = query.map_err(|reason| status::refusal(&reason))?;
            let answer = backend.range(query).await;
            let (revision, answer) = answer.map_err(|error| status::backend(&error))?;
            let header = convert::header(backend.identity(), revision);
            Ok(Response::new(RangeMessage { header, answer }))
        })
    }
}

/// A range response.
struct RangeMessage {
    header: ResponseHeader,
    answer: RangeAnswer,
}

impl Encodable for RangeMessage {
    fn bytes(&self) -> usize {
        let keys = self.answer.kvs.iter().map(|kv| {
            let bytes = key_value_bytes(kv);
            key_len(KVS) + encoded_len_varint(bytes as u64) + bytes
        });
        message::encoded_len(1, &self.header)
            + keys.sum::<usize>()
            + if self.answer.more {
                encoding::bool::encoded_len(3, &true)
            } else {
                0
            }
            + number_bytes(4, self.answer.count)
    }

    fn write(&self, buffer: &mut impl BufMut) {
        message::encode(1, &self.header, buffer);
        for kv in &self.answer.kvs {
            encode_key(KVS, WireType::LengthDelimited, buffer);
            encode_varint(key_value_bytes(kv) as u64, buffer);
            put_key_value(kv, buffer);
        }
        if self.answer.more {
            encoding::bool::encode(3, &true, buffer);
        }
        put_number(4, self.answer.count, buffer);
    }
}

fn key_value_bytes(kv: &KeyValue) -> usize {
    blob_bytes(1, &kv.key)
        + number_bytes(2, kv.create_revision.0)
        + number_bytes(3, kv.mod_revision.0)
        + number_bytes(4, kv.version)
        + blob_bytes(5, &kv.value)
        + number_bytes(6, kv.lease.0)
}

fn put_key_value(kv: &KeyValue, buffer: &mut impl BufMut) {
    put_blob(1, &kv.key, buffer);
    put_number(2, kv.create_revision.0, buffer);
    put_number(3, kv.mod_revision.0, buffer);
    put_number(4, kv.version, buffer);
    put_blob(5, &kv.value, buffer);
    put_number(6, kv.lease.0, buffer);
}

/// What has its default is not written.
fn number_bytes(tag: u32, value: i64) -> usize {
    if value == 0 {
        return 0;
    }
    encoding::int64::encoded_len(tag, &value)
}

fn put_number(tag: u32, value: i64, buffer: &mut impl BufMut) {
    if value != 0 {
        encoding::int64::encode(tag, &value, buffer);
    }
}

fn blob_bytes(tag: u32, value: &Bytes) -> usize {
    if value.is_empty() {
        return 0;
    }
    key_len(tag) + encoded_len_varint(value.len() as u64) + value.len()
}

fn put_blob(tag: u32, value: &Bytes, buffer: &mut impl BufMut) {
    if !value.is_empty() {
        encode_key(tag, WireType::LengthDelimited, buffer);
        encode_varint(value.len() as u64, buffer);
        buffer.put_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::convert::RangeParts;
    use crate::model::{LeaseId, Revision};
    use prost::Message;
    use std::sync::Arc;

    fn check(answer: RangeAnswer) {
        let header = ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 1,
            revision: 300,
            raft_term: 2,
        };
        let expected = convert::range_response(Some(header), answer.clone(), RangeParts::All);
        let message = RangeMessage { header, answer };
        let mut written = Vec::new();
        message.write(&mut written);
        assert_eq!(written, expected.encode_to_vec());
        assert_eq!(message.bytes(), written.len());
    }

    #[test]
    fn the_bytes_are_those_that_prost_would_write() {
        check(RangeAnswer::default());
        let empty = KeyValue::default();
        let full = KeyValue {
            key: "k".into(),
            create_revision: Revision(2),
            mod_revision: Revision(i64::MAX),
            version: 128,
            value: vec![b'v'; 300].into(),
            lease: LeaseId(-1),
        };
        check(RangeAnswer {
            kvs: [empty, full].map(Arc::new).to_vec(),
            more: true,
            count: 1 << 40,
        });
    }
}
