//! The socket under a connection, whatever kind it is.
//!
//! It passes bytes on and knows nothing of what they mean. A connection that has more to say than its reader takes at once
//! gives the thread to the others before it goes on, those included that do what it has asked for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The socket of one connection.
#[derive(Debug)]
pub(super) struct Io {
    socket: Socket,
    /// The last read took all that its buffer could hold.
    filled: bool,
}

/// A socket: plain today, and encrypted when that comes.
#[derive(Debug)]
enum Socket {
    /// TCP and nothing more.
    Plain(TcpStream),
}

impl Io {
    /// TCP and nothing more.
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self {
            socket: Socket::Plain(socket),
            filled: false,
        }
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
        let read = match &mut this.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
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
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Plain(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(socket) => socket.is_write_vectored(),
        }
    }
}
