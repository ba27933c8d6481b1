//! The socket under a connection, whatever kind it is.
//!
//! It passes bytes on and knows nothing of what they mean. A connection that has more to say than its reader takes at once
//! gives the thread to the others before it goes on, those included that do what it has asked for.

use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// The socket of one connection.
#[derive(Debug)]
pub(super) struct Io {
    socket: Socket,
    /// The last read took all that its buffer could hold.
    filled: bool,
    /// Read already and given back; it comes before what the socket has.
    ahead: Bytes,
}

/// A socket, plain or secret.
#[derive(Debug)]
enum Socket {
    /// TCP and nothing more.
    Plain(TcpStream),
    /// TLS over TCP, after the handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    /// TCP and nothing more.
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self::of(Socket::Plain(socket))
    }

    /// TLS over TCP, after the handshake.
    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::of(Socket::Tls(Box::new(stream)))
    }

    fn of(socket: Socket) -> Self {
        Self {
            socket,
            filled: false,
            ahead: Bytes::new(),
        }
    }

    /// The connection under it.
    pub(super) fn tcp(&self) -> &TcpStream {
        match &self.socket {
            Socket::Plain(socket) => socket,
            Socket::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Takes back what was read only to be looked at; the next reads begin with it.
    pub(super) fn give_back(&mut self, bytes: &[u8]) {
        self.ahead = [bytes, &self.ahead].concat().into();
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.filled) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !this.ahead.is_empty() {
            let bytes = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead.split_to(bytes));
            return Poll::Ready(Ok(()));
        }
        let read = match &mut this.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        this.filled = buffer.remaining() == 0;
        read
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(socket) => socket.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
