//! A client of HTTP/1, or of HTTP/2 over TLS: one connection for each request.
//!
//! It sends what it is told and shows what came back; it knows no path and reads no JSON but as JSON.

use super::Peer;
use super::wait::within;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// A server, as somebody with curl sees it.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    endpoint: String,
    tls: Option<Arc<ClientConfig>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        let json = serde_json::from_str(&self.text);
        json.unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }
}

impl Http {
    /// Plain HTTP to a peer.
    pub(crate) fn to(peer: &Peer) -> Self {
        Self::at(peer.endpoint())
    }

    /// Plain HTTP to an address.
    pub(crate) fn at(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            tls: None,
        }
    }

    /// HTTP/2 over TLS, which is what browsers and curl choose there.
    pub(crate) fn over_tls(endpoint: &str, mut tls: ClientConfig) -> Self {
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            endpoint: endpoint.to_owned(),
            tls: Some(Arc::new(tls)),
        }
    }

    /// Sends a request and reads all of its answer.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let body = Full::new(Bytes::from(body.to_owned()));
        let asking = async {
            let (response, _connection) = self.send(method, path, headers, body).await;
            let (head, body) = response.into_parts();
            let bytes = body.collect().await.expect("a whole answer").to_bytes();
            Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                text: String::from_utf8(bytes.to_vec()).expect("text"),
            }
        };
        within(&format!("{method} {path}"), asking).await
    }

    /// Reads a path.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    /// Makes a JSON call.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[], body).await
    }

    /// Opens a stream whose request has no body.
    pub(crate) async fn lines(&self, path: &str, headers: &[(&str, &str)]) -> Lines {
        let opening = self.send("GET", path, headers, Full::<Bytes>::default());
        Lines::new(within(path, opening).await)
    }

    /// Opens a stream whose requests are all there.
    pub(crate) async fn stream(&self, path: &str, requests: &str) -> Lines {
        let body = Full::new(Bytes::from(requests.to_owned()));
        let opening = self.send("POST", path, &[], body);
        Lines::new(within(path, opening).await)
    }

    /// Opens a stream to which requests go while answers come.
    pub(crate) async fn exchange(&self, path: &str, first: &str) -> (mpsc::Sender<String>, Lines) {
        let (sender, receiver) = mpsc::channel(16);
        sender.send(first.to_owned()).await.expect("room");
        let pieces = stream::unfold(receiver, |mut receiver: mpsc::Receiver<String>| async {
            let text = receiver.recv().await?;
            let frame = Frame::data(Bytes::from(text));
            Some((Ok::<_, Infallible>(frame), receiver))
        });
        let body = StreamBody::new(Box::pin(pieces));
        let opening = self.send("POST", path, &[], body);
        (sender, Lines::new(within(path, opening).await))
    }

    async fn send<B>(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: B,
    ) -> (Response<Incoming>, Connection)
    where
        B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
    {
        let scheme = self.tls.as_ref().map_or("http", |_| "https");
        let uri = format!("{scheme}://{}{path}", self.endpoint);
        let mut request = Request::builder().method(method).uri(uri);
        if self.tls.is_none() {
            request = request.uri(path);
            if !headers.iter().any(|(name, _)| *name == "host") {
                request = request.header("host", &self.endpoint);
            }
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let socket = TcpStream::connect(&self.endpoint).await;
        let socket = socket.expect("the server takes a connection");
        let (response, connection) = match &self.tls {
            None => {
                let connecting = http1::handshake(TokioIo::new(socket)).await;
                let (mut sender, connection) = connecting.expect("HTTP/1");
                let connection = Connection::spawn(connection);
                (sender.send_request(request).await, connection)
            }
            Some(tls) => {
                let socket = encrypted(socket, tls).await.expect("a handshake");
                let io = TokioIo::new(socket);
                let connecting = http2::handshake(TokioExecutor::new(), io).await;
                let (mut sender, connection) = connecting.expect("HTTP/2");
                let connection = Connection::spawn(connection);
                (sender.send_request(request).await, connection)
            }
        };
        (response.expect("an answer"), connection)
    }
}

async fn encrypted(socket: TcpStream, tls: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::from(socket.peer_addr()?.ip());
    TlsConnector::from(Arc::clone(tls))
        .connect(name, socket)
        .await
}

/// The task of a connection, which ends with whoever uses it.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Connection {
    fn spawn(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Self {
        Self(tokio::spawn(async move {
            // How it ended is seen at the answer.
            let _ = connection.await;
        }))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer that comes line by line.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    text: String,
    _connection: Connection,
}

impl Lines {
    fn new((response, connection): (Response<Incoming>, Connection)) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            text: String::new(),
            _connection: connection,
        }
    }

    /// The next line; `None` at the end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        within("a line", async {
            loop {
                if let Some((line, rest)) = self.text.split_once('\n') {
                    let (line, rest) = (line.to_owned(), rest.to_owned());
                    self.text = rest;
                    return Some(line);
                }
                let frame = self.body.frame().await?.expect("the body goes on");
                let bytes = frame.into_data().unwrap_or_default();
                self.text
                    .push_str(std::str::from_utf8(&bytes).expect("text"));
            }
        })
        .await
    }

    /// The next line as JSON.
    pub(crate) async fn json(&mut self) -> Value {
        let line = self.line().await.expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The next message of an event stream that carries something: its id, its kind and its document.
    pub(crate) async fn event(&mut self) -> Event {
        let mut event = Event::default();
        loop {
            let line = self.line().await.expect("an event");
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut event.id);
            } else if let Some(kind) = line.strip_prefix("event: ") {
                kind.clone_into(&mut event.kind);
            } else if let Some(data) = line.strip_prefix("data: ") {
                event.data = serde_json::from_str(data).expect("JSON");
            } else if line.is_empty() && event.data != Value::Null {
                return event;
            }
        }
    }
}

/// A message of an event stream.
#[derive(Debug, Default)]
pub(crate) struct Event {
    /// Where to resume; also from messages without events before it.
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) data: Value,
}
