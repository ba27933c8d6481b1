//! The two bodies of a call that is passed on: the client's on its way up, and the answer on its way down.
//!
//! Frames go through as they are, one at a time, each when it is asked for; nothing is kept but what was read to be looked at
//! before, and no message is looked at here.

use super::endpoints::{Endpoints, root_cause};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Frame, SizeHint};
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tonic::Status;
use tonic::body::Body;

/// A request's body, which is lent to one upstream after the other until one has begun to take it.
#[derive(Clone, Debug)]
pub(super) struct Lender(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    /// As long as nobody has begun to read it.
    body: Option<Body>,
    /// What is wrong with it.
    refused: Option<Status>,
}

impl Lender {
    /// Keeps `body`.
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            body: Some(body),
            refused: None,
        })))
    }

    /// The body, for one try.
    pub(super) fn lend(&self) -> Lent {
        Lent {
            lender: self.clone(),
            body: None,
        }
    }

    /// True when nobody has begun to read it: then no upstream has anything to carry out.
    pub(super) fn is_untouched(&self) -> bool {
        self.kept().body.is_some()
    }

    /// What was wrong with it, if that is why a call has failed.
    pub(super) fn refused(&self) -> Option<Status> {
        self.kept().refused.take()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body of which the beginning was read.
#[derive(Debug)]
pub(super) struct Begun<B> {
    begun: Bytes,
    rest: B,
}

impl<B> Begun<B> {
    /// `begun`, and then what is left.
    pub(super) fn new(begun: Bytes, rest: B) -> Self {
        Self { begun, rest }
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Begun<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if this.begun.is_empty() {
            return Pin::new(&mut this.rest).poll_frame(cx);
        }
        let begun = std::mem::take(&mut this.begun);
        Poll::Ready(Some(Ok(Frame::data(begun))))
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_empty() && self.rest.is_end_stream()
    }
}

/// A body that is lent.
#[derive(Debug)]
pub(super) struct Lent {
    lender: Lender,
    /// Once it is read.
    body: Option<Body>,
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.body.is_none() {
            this.body = this.lender.kept().body.take();
        }
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if let Some(Err(status)) = &frame {
            this.lender.kept().refused = Some(status.clone());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        if let Some(body) = &self.body {
            return body.is_end_stream();
        }
        let kept = self.lender.kept();
        kept.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        if let Some(body) = &self.body {
            return body.size_hint();
        }
        let kept = self.lender.kept();
        kept.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

/// An answer's body. When it breaks off, the client is told so in trailers, as after any other call.
pub(super) struct Passing {
    pub(super) body: Body,
    pub(super) lender: Lender,
    pub(super) endpoints: Endpoints,
    pub(super) generation: u64,
    pub(super) name: Arc<str>,
    /// Comes when the server stops, for a call that would never end.
    pub(super) stopped: Option<BoxFuture<'static, ()>>,
    pub(super) is_over: bool,
}

impl Passing {
    /// What is said to the client of a call that has broken off.
    fn broken(&self, error: &Status) -> Status {
        if let Some(refused) = self.lender.refused() {
            return refused;
        }
        self.endpoints.doubt(self.generation);
        broken_off(&self.name, error)
    }

    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.is_over = true;
        self.body = Body::empty();
        let mut trailers = http::HeaderMap::new();
        // A status whose words are no header is still one by its code.
        let _ = status.add_header(&mut trailers);
        Frame::trailers(trailers)
    }
}

impl http_body::Body for Passing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        if let Some(stopped) = &mut this.stopped
            && stopped.as_mut().poll(cx).is_ready()
        {
            let status = Status::unavailable("vigil: the relay is stopping");
            return Poll::Ready(Some(Ok(this.end(&status))));
        }
        match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Err(error)) => {
                let status = this.broken(&error);
                Poll::Ready(Some(Ok(this.end(&status))))
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A call has broken off on its way; whether it was carried out is not known.
pub(super) fn broken_off(name: &str, error: &(dyn Error + 'static)) -> Status {
    let cause = root_cause(error);
    Status::unavailable(format!("vigil: the connection to {name} is gone: {cause}"))
}
