//! A gRPC call as bytes: what is compared is what was on the wire, fields that nobody here knows included.
//!
//! It knows no message.

use crate::support::within;
use bytes::{Buf, BufMut, Bytes};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Takes messages as they are.
#[derive(Debug, Default)]
struct AsBytes;

impl Codec for AsBytes {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// How a call ended: its message, or its code, text and details.
pub(super) type Answer = Result<Bytes, (tonic::Code, String, Bytes)>;

/// Makes a call with metadata.
pub(super) async fn call_with(
    channel: Channel,
    path: &'static str,
    message: impl Into<Bytes>,
    metadata: &[(&'static str, &str)],
) -> Answer {
    let mut request = Request::new(message.into());
    *request.metadata_mut() = of(metadata);
    let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    let calling = async {
        grpc.ready()
            .await
            .map_err(|error| Status::from_error(error.into()))?;
        let path = PathAndQuery::from_static(path);
        grpc.unary(request, path, AsBytes).await
    };
    match within(path, calling).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => {
            let details = Bytes::copy_from_slice(status.details());
            Err((status.code(), status.message().to_owned(), details))
        }
    }
}

/// Makes a call.
pub(super) async fn call(
    channel: Channel,
    path: &'static str,
    message: impl Into<Bytes>,
) -> Answer {
    call_with(channel, path, message, &[]).await
}

fn of(pairs: &[(&'static str, &str)]) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (name, value) in pairs {
        metadata.insert(*name, value.parse().expect("a value"));
    }
    metadata
}
