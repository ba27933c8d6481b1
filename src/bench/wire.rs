//! gRPC with as little as it takes: whole messages over HTTP/2, no middle layers.
//!
//! The generator shares the processor with the server, so what it costs is missing there. Nothing is retried.

use super::BenchError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request};
use prost::Message;
use tokio::net::TcpStream;

/// A message's flag and length.
const PREFIX_BYTES: usize = 5;
/// What may be on its way to us on one stream, and on one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    stream_bytes: u32,
    connection_bytes: u32,
}

impl Windows {
    /// So wide that they never hold anything up.
    pub(super) const WIDE: Self = Self {
        stream_bytes: 1 << 20,
        connection_bytes: 16 << 20,
    };
    /// What a client has that asks for nothing else: a stream that is not read is soon felt, and its connection with it.
    pub(super) const USUAL: Self = Self {
        stream_bytes: 65_535,
        connection_bytes: 65_535,
    };
}

/// Largest frame that we take.
const FRAME_BYTES_MAX: u32 = 1 << 18;

/// A connection that any number of calls share.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    endpoint: String,
}

impl Connection {
    /// Connects to `HOST:PORT`.
    pub(super) async fn open(endpoint: &str) -> Result<Self, BenchError> {
        Self::open_with(endpoint, Windows::WIDE).await
    }

    /// Connects with windows of one's own choice.
    pub(super) async fn open_with(endpoint: &str, windows: Windows) -> Result<Self, BenchError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| BenchError::Connection {
            endpoint: endpoint.to_owned(),
            source,
        };
        let socket = TcpStream::connect(endpoint)
            .await
            .map_err(|error| failed(error.into()))?;
        socket
            .set_nodelay(true)
            .map_err(|error| failed(error.into()))?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(windows.stream_bytes)
            .initial_connection_window_size(windows.connection_bytes)
            .max_frame_size(FRAME_BYTES_MAX)
            .handshake(socket)
            .await
            .map_err(|error| failed(error.into()))?;
        // Its end is the end of every call on it, and each of them says so.
        tokio::task::spawn_local(connection);
        Ok(Self {
            requests,
            endpoint: endpoint.to_owned(),
        })
    }

    fn failed(&self, error: h2::Error) -> BenchError {
        BenchError::Connection {
            endpoint: self.endpoint.clone(),
            source: error.into(),
        }
    }

    fn request(&self, path: &str) -> Result<Request<()>, BenchError> {
        Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", self.endpoint))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|error| BenchError::Connection {
                endpoint: self.endpoint.clone(),
                source: error.into(),
            })
    }

    /// Begins a call.
    async fn begin(
        &self,
        path: &str,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), BenchError> {
        let request = self.request(path)?;
        let mut requests = self.requests.clone();
        requests = requests.ready().await.map_err(|error| self.failed(error))?;
        requests
            .send_request(request, false)
            .map_err(|error| self.failed(error))
    }

    /// One request, one answer.
    pub(super) async fn unary(
        &self,
        path: &str,
        message: &impl Message,
    ) -> Result<Bytes, BenchError> {
        let (response, mut sender) = self.begin(path).await?;
        sender
            .send_data(framed(message), true)
            .map_err(|error| self.failed(error))?;
        let response = response.await.map_err(|error| self.failed(error))?;
        check_status(response.headers())?;
        let mut answers = Answers::of(self, response.into_body());
        let answer = answers.next().await?;
        // Behind the only message stands the status.
        match answers.next().await? {
            None => answer.ok_or_else(|| BenchError::wrong(format!("{path} has no answer"))),
            Some(_) => Err(BenchError::wrong(format!("{path} has two answers"))),
        }
    }

    /// A call whose requests and answers come and go as they like.
    pub(super) async fn stream(&self, path: &str) -> Result<(Asks, Unanswered), BenchError> {
        let (response, sender) = self.begin(path).await?;
        let asks = Asks {
            sender,
            connection: self.clone(),
        };
        let unanswered = Unanswered {
            response,
            connection: self.clone(),
        };
        Ok((asks, unanswered))
    }
}

/// The requests of a stream.
#[derive(Debug)]
pub(super) struct Asks {
    sender: SendStream<Bytes>,
    connection: Connection,
}

impl Asks {
    /// Sends a request; what the server does not take yet waits in memory.
    pub(super) fn send(&mut self, message: &impl Message) -> Result<(), BenchError> {
        self.sender
            .send_data(framed(message), false)
            .map_err(|error| self.connection.failed(error))
    }
}

/// A stream whose server has said nothing yet: some servers say nothing before the first request.
#[derive(Debug)]
pub(super) struct Unanswered {
    response: h2::client::ResponseFuture,
    connection: Connection,
}

impl Unanswered {
    /// Waits for the server's first word.
    pub(super) async fn answers(self) -> Result<Answers, BenchError> {
        let response = self
            .response
            .await
            .map_err(|error| self.connection.failed(error))?;
        check_status(response.headers())?;
        Ok(Answers::of(&self.connection, response.into_body()))
    }
}

/// The messages of one answer.
#[derive(Debug)]
pub(super) struct Answers {
    body: RecvStream,
    buffer: BytesMut,
    connection: Connection,
}

impl Answers {
    fn of(connection: &Connection, body: RecvStream) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            connection: connection.clone(),
        }
    }

    /// The next message, or nothing at the end of a call that succeeded.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BenchError> {
        loop {
            if let Some(message) = self.buffered() {
                return Ok(Some(message));
            }
            let Some(data) = self.body.data().await else {
                let trailers = self.body.trailers().await;
                let trailers = trailers.map_err(|error| self.connection.failed(error))?;
                check_status(&trailers.unwrap_or_default())?;
                return Ok(None);
            };
            let data = data.map_err(|error| self.connection.failed(error))?;
            // What was taken makes room for as much.
            let released = self.body.flow_control().release_capacity(data.len());
            released.map_err(|error| self.connection.failed(error))?;
            self.buffer.extend_from_slice(&data);
        }
    }

    fn buffered(&mut self) -> Option<Bytes> {
        let prefix = self.buffer.get(1..PREFIX_BYTES)?.try_into().ok()?;
        let bytes = u32::from_be_bytes(prefix) as usize;
        if self.buffer.len() < PREFIX_BYTES + bytes {
            self.buffer
                .reserve(PREFIX_BYTES + bytes - self.buffer.len());
            return None;
        }
        self.buffer.advance(PREFIX_BYTES);
        Some(self.buffer.split_to(bytes).freeze())
    }
}

fn framed(message: &impl Message) -> Bytes {
    let bytes = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    frame.put_u8(0);
    frame.put_u32(bytes as u32);
    // There is as much room as it asked for.
    let encoded = message.encode(&mut frame);
    debug_assert!(encoded.is_ok());
    frame.freeze()
}

/// Anything but success is an error; a head without a status is the beginning of an answer.
fn check_status(headers: &HeaderMap) -> Result<(), BenchError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(code) => Err(BenchError::Refused {
            code: code.parse().unwrap_or(-1),
            message: text("grpc-message").unwrap_or_default().to_owned(),
        }),
    }
}
