//! A client that costs little: it writes whole requests, and of responses it reads what a measurement needs.
//!
//! It never decodes an event: it counts them and passes over them.

use std::io::Cursor;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, Streaming};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstEncoder;
use vigil::api::pb::etcdserverpb::kv_client::KvClient;
use vigil::api::pb::etcdserverpb::watch_request::RequestUnion;
use vigil::api::pb::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest};

use bytes::Buf;
use http::uri::PathAndQuery;
use prost::encoding::{WireType, decode_key, decode_varint};

/// Bytes of every value that is put.
pub(crate) const VALUE_BYTES: usize = 256;
/// Requests that may wait to be sent.
const REQUESTS_WAITING: usize = 64;

/// A connection.
pub(crate) async fn connect(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let channel = endpoint.tcp_nodelay(true).connect().await;
    channel.expect("the server answers")
}

/// What puts keys.
pub(crate) async fn writer(address: &str) -> KvClient<Channel> {
    KvClient::new(connect(address).await)
}

/// Puts a value; returns its revision when it is durable.
pub(crate) async fn put(client: &mut KvClient<Channel>, key: String) -> i64 {
    let request = PutRequest {
        key: key.into(),
        value: vec![b'v'; VALUE_BYTES].into(),
        ..PutRequest::default()
    };
    let answer = client.put(request).await.expect("a put succeeds");
    answer.into_inner().header.expect("a header").revision
}

/// What a measurement reads of one watch response.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) revision: i64,
    pub(crate) watch_id: i64,
    pub(crate) created: bool,
    pub(crate) canceled: bool,
    pub(crate) events: u64,
}

/// One watch stream.
pub(crate) struct Watching {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<Tally>,
}

impl Watching {
    /// Opens a stream on a connection of its own.
    pub(crate) async fn open(address: &str) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS_WAITING);
        let mut grpc = Grpc::new(connect(address).await);
        grpc.ready().await.expect("the server answers");
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let request = Request::new(ReceiverStream::new(receiver));
        let responses = grpc.streaming(request, path, TallyCodec).await;
        Self {
            requests,
            responses: responses.expect("a watch stream").into_inner(),
        }
    }

    /// The next response.
    pub(crate) async fn next(&mut self) -> Tally {
        let response = self.responses.message().await.expect("a response");
        let response = response.expect("the stream goes on");
        assert!(!response.canceled, "a watch was canceled: {response:?}");
        response
    }

    /// Creates watches, and returns when the server has said so of each. Nothing may happen meanwhile.
    pub(crate) async fn create(&mut self, watches: Vec<WatchCreateRequest>) {
        let wanted = watches.len();
        let requests = self.requests.clone();
        let sending = tokio::spawn(async move {
            for create in watches {
                let request_union = Some(RequestUnion::CreateRequest(create));
                let sent = requests.send(WatchRequest { request_union }).await;
                sent.expect("the stream goes on");
            }
        });
        for _ in 0..wanted {
            assert!(self.next().await.created);
        }
        sending.await.expect("all requests are sent");
    }
}

/// A watch of one key from now on.
pub(crate) fn watch_of(key: String) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        ..WatchCreateRequest::default()
    }
}

#[derive(Clone, Copy, Debug)]
struct TallyCodec;

#[derive(Clone, Copy, Debug)]
struct TallyDecoder;

impl Codec for TallyCodec {
    type Encode = WatchRequest;
    type Decode = Tally;
    type Encoder = ProstEncoder<WatchRequest>;
    type Decoder = TallyDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        TallyDecoder
    }
}

impl Decoder for TallyDecoder {
    type Item = Tally;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Tally>, Status> {
        // A message lies in one piece.
        let bytes = source.remaining();
        let tally = tally(source.chunk()).map_err(|error| Status::internal(error.to_string()))?;
        source.advance(bytes);
        Ok(Some(tally))
    }
}

fn tally(message: &[u8]) -> Result<Tally, prost::DecodeError> {
    let mut tally = Tally::default();
    let mut rest = Cursor::new(message);
    while rest.has_remaining() {
        let (field, wire) = decode_key(&mut rest)?;
        let number = decode_varint(&mut rest)?;
        match (field, wire) {
            (2, WireType::Varint) => tally.watch_id = number.cast_signed(),
            (3, WireType::Varint) => tally.created = number != 0,
            (4, WireType::Varint) => tally.canceled = number != 0,
            (1, WireType::LengthDelimited) => {
                let begin = rest.position() as usize;
                let end = begin + number as usize;
                tally.revision = header_revision(&message[begin..end])?;
                rest.set_position(end as u64);
            }
            (_, WireType::LengthDelimited) => {
                tally.events += u64::from(field == 11);
                rest.advance(number as usize);
            }
            _ => {}
        }
    }
    Ok(tally)
}

/// Field 3 of a header, all of whose fields are numbers.
fn header_revision(mut header: &[u8]) -> Result<i64, prost::DecodeError> {
    while header.has_remaining() {
        let (field, _) = decode_key(&mut header)?;
        let number = decode_varint(&mut header)?;
        if field == 3 {
            return Ok(number.cast_signed());
        }
    }
    Ok(0)
}
