//! The way to one upstream: a channel that connects when it is first used and again after each failure, and that can be cut.
//!
//! It decides nothing: who is used, and when one is given up, is said in `endpoints`.

use crate::tls::Target;
use futures_util::task::AtomicWaker;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tonic::transport::{Channel, Endpoint, Error};
use tower::service_fn;

/// How long a connection may take to be there, the handshake of TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An upstream that has gone without a word is noticed after these two; etcd minds pings more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(6);
/// What an upstream may send ahead on one call, in bytes.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for all calls together: as much as there can be. Each call has its own bound, and with a common one a few
/// readers that have stopped would stop all others.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// Cuts the connection of a channel, so that whoever waits for an answer on it hears that none will come.
#[derive(Clone, Debug, Default)]
pub(super) struct Shears(Arc<Mutex<Arc<Cut>>>);

/// Whether a connection has been cut.
#[derive(Debug, Default)]
struct Cut {
    is_cut: AtomicBool,
    reader: AtomicWaker,
}

impl Shears {
    /// Cuts the connection that there is now; the channel makes another one when it is used again.
    pub(super) fn cut(&self) {
        let cut = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cut.is_cut.store(true, Ordering::Release);
        cut.reader.wake();
    }

    /// The connection that there is now is another one.
    fn renew(&self) -> Arc<Cut> {
        let mut cut = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *cut = Arc::default();
        Arc::clone(&cut)
    }
}

/// A channel to `target`. Its connection lives on the runtime that this is called in.
pub(super) fn channel(
    target: &Target,
    tls: Option<Arc<ClientConfig>>,
) -> Result<(Channel, Shears), Error> {
    let authority = &target.authority;
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))?
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let endpoint = match Endpoint::from_shared(format!("https://{authority}")) {
        Ok(secret) if target.is_tls => endpoint.origin(secret.uri().clone()),
        _ => endpoint,
    };
    let shears = Shears::default();
    let (ours, target) = (shears.clone(), target.clone());
    let connector = service_fn(move |_| {
        let (shears, target, tls) = (ours.clone(), target.clone(), tls.clone());
        async move {
            let connecting = connect(&target, tls);
            let socket = timeout(CONNECT_TIMEOUT, connecting).await;
            let socket = socket.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            let cut = shears.renew();
            Ok::<_, io::Error>(TokioIo::new(Cuttable { socket, cut }))
        }
    });
    Ok((endpoint.connect_with_connector_lazy(connector), shears))
}

/// A connection, whatever is spoken on it.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

async fn connect(target: &Target, tls: Option<Arc<ClientConfig>>) -> io::Result<Box<dyn Socket>> {
    let socket = TcpStream::connect(&target.authority).await?;
    socket.set_nodelay(true)?;
    match tls {
        Some(tls) if target.is_tls => {
            let name = target.server_name().map_err(io::Error::other)?;
            let secret = TlsConnector::from(tls).connect(name, socket).await?;
            Ok(Box::new(secret))
        }
        _ => Ok(Box::new(socket)),
    }
}

/// A connection that can be cut.
struct Cuttable {
    socket: Box<dyn Socket>,
    cut: Arc<Cut>,
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever has a connection reads on it all the time, so it is enough to say it here. First the waker: a cut between
        // the two is seen.
        self.cut.reader.register(cx.waker());
        if self.cut.is_cut.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
