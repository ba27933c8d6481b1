//! A bare gRPC stream: a server that knows nothing but to send, for the same client that listens to the others.
//!
//! It answers creates, and then sends messages as large as the measured ones, for each watcher in its turn, as fast as
//! hyper and the client take them. Events are encoded once for all watchers. There is no store, no actor and no put: puts
//! are never answered.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use clap::Args;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpListener;
use vigil::api::pb::etcdserverpb::{ResponseHeader, WatchResponse};
use vigil::api::pb::mvccpb::{Event, KeyValue};

const WATCH_PATH: &str = "/etcdserverpb.Watch/Watch";
/// A gRPC message's flag and length.
const PREFIX_BYTES: usize = 5;
/// What one piece of the body carries, as in Vigil.
const PIECE_BYTES: usize = 32 << 10;
/// What one stream may have on its way to the socket, as in Vigil.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// A bare gRPC stream that sends without end.
#[derive(Debug, Args)]
pub(crate) struct RawStream {
    #[arg(long)]
    listen: SocketAddr,
    /// How many watchers a stream has before it begins.
    #[arg(long)]
    watchers: usize,
    /// How many events each message has.
    #[arg(long)]
    events: usize,
    /// Size of a value, in bytes.
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
}

/// Serves until it is killed.
pub(crate) fn serve(args: &RawStream) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await.expect("the port");
        loop {
            let (socket, _) = listener.accept().await.expect("a client");
            socket.set_nodelay(true).expect("a socket");
            let (watchers, events, value_bytes) = (args.watchers, args.events, args.value_bytes);
            let answer = service_fn(move |request: Request<Incoming>| async move {
                if request.uri().path() != WATCH_PATH {
                    std::future::pending::<()>().await;
                }
                let body = Flood::new(request.into_body(), watchers, events, value_bytes);
                let response = Response::builder().header("content-type", "application/grpc");
                Ok::<_, Infallible>(response.body(body).expect("a response"))
            });
            let connection = http2::Builder::new(TokioExecutor::new())
                .max_send_buf_size(SEND_BUFFER_BYTES)
                .serve_connection(TokioIo::new(socket), answer);
            tokio::spawn(connection);
        }
    });
}

/// What the client is sent.
struct Flood {
    asks: Incoming,
    asked: BytesMut,
    created: usize,
    watchers: usize,
    events: usize,
    value_bytes: usize,
    /// The last revision that was sent.
    revision: i64,
    /// The events of this turn, encoded, and what stands before the watch's id.
    encoded: Bytes,
    header: ResponseHeader,
    /// Who is next; behind the last a new turn begins.
    next: usize,
}

impl Flood {
    fn new(asks: Incoming, watchers: usize, events: usize, value_bytes: usize) -> Self {
        Self {
            asks,
            asked: BytesMut::new(),
            created: 0,
            watchers,
            events,
            value_bytes,
            revision: 1,
            encoded: Bytes::new(),
            header: ResponseHeader::default(),
            next: watchers,
        }
    }

    /// Answers the creates that have arrived.
    fn answer_creates(&mut self) -> Bytes {
        let mut piece = BytesMut::new();
        while let Some(prefix) = self.asked.get(1..PREFIX_BYTES) {
            let bytes = u32::from_be_bytes(prefix.try_into().expect("four")) as usize;
            if self.asked.len() < PREFIX_BYTES + bytes {
                break;
            }
            self.asked.advance(PREFIX_BYTES + bytes);
            self.created += 1;
            let response = WatchResponse {
                header: Some(self.header),
                // The client numbers its watches from 1 on.
                watch_id: self.created as i64,
                created: true,
                ..WatchResponse::default()
            };
            put_message(&mut piece, &response, &[]);
        }
        piece.freeze()
    }

    /// Messages for the next watchers.
    fn piece(&mut self) -> Bytes {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES + self.encoded.len() + 64);
        while piece.len() < PIECE_BYTES {
            if self.next == self.watchers {
                self.begin_turn();
            }
            self.next += 1;
            let response = WatchResponse {
                header: Some(self.header),
                watch_id: self.next as i64,
                ..WatchResponse::default()
            };
            put_message(&mut piece, &response, &self.encoded);
        }
        piece.freeze()
    }

    fn begin_turn(&mut self) {
        let events = (1..).take(self.events).map(|number| Event {
            kv: Some(KeyValue {
                key: "bench/000000000".into(),
                create_revision: 2,
                mod_revision: self.revision + number,
                version: self.revision + number,
                value: vec![0; self.value_bytes].into(),
                lease: 0,
            }),
            ..Event::default()
        });
        let message = WatchResponse {
            events: events.collect(),
            ..WatchResponse::default()
        };
        self.encoded = message.encode_to_vec().into();
        self.revision += self.events as i64;
        self.header = ResponseHeader {
            cluster_id: u64::MAX / 3,
            member_id: u64::MAX / 5,
            revision: self.revision,
            raft_term: 2,
        };
        self.next = 0;
    }
}

/// Writes a message and behind it what is already encoded of it.
fn put_message(piece: &mut BytesMut, head: &WatchResponse, rest: &[u8]) {
    piece.put_u8(0);
    let bytes = head.encoded_len() + rest.len();
    piece.put_u32(u32::try_from(bytes).expect("a message of less than 4 GiB"));
    head.encode(piece).expect("room");
    piece.put_slice(rest);
}

impl Body for Flood {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.created < self.watchers {
            match Pin::new(&mut self.asks).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    let data = frame.into_data().unwrap_or_default();
                    self.asked.extend_from_slice(&data);
                    let answers = self.answer_creates();
                    if !answers.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(answers))));
                    }
                }
                // Whoever asks for no more watches has gone.
                Poll::Ready(_) => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.piece()))))
    }
}
