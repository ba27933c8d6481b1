//! A request body that can be read before its messages are wanted, so that what a client sends does not wait in the
//! connection.
//!
//! The HTTP/2 library keeps a place of 240 bytes for every frame that waits in a connection, for as long as the connection
//! lives, and a client that asks for a thousand watches in one go sends a thousand frames. It never looks into the
//! bytes, and never holds more than [`AHEAD_BYTES_MAX`] and a frame: what is beyond that stays in the connection, whose
//! window makes the client wait.

use super::BoxError;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// Bytes that are taken from the connection before anybody wants them.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes that are handed on in one piece, since whoever puts messages together keeps room for the largest piece that it ever
/// got.
const PIECE_BYTES_MAX: usize = 2 << 10;

/// A body, in the hands of whoever reads its messages.
#[derive(Debug)]
pub(super) struct ReadAhead<B> {
    shared: Arc<Mutex<Ahead<B>>>,
}

/// The way to read it ahead, in the hands of whoever is busy with a message. To be used by the same task.
#[derive(Debug)]
pub(super) struct Reader<B> {
    shared: Arc<Mutex<Ahead<B>>>,
}

#[derive(Debug)]
struct Ahead<B> {
    body: B,
    ready: BytesMut,
    /// How the body ended, behind what is ready.
    end: Option<Result<(), BoxError>>,
}

impl<B> ReadAhead<B> {
    /// Nothing is read before somebody asks.
    pub(super) fn new(body: B) -> (Self, Reader<B>) {
        let shared = Arc::new(Mutex::new(Ahead {
            body,
            ready: BytesMut::new(),
            end: None,
        }));
        let reader = Reader {
            shared: Arc::clone(&shared),
        };
        (Self { shared }, reader)
    }
}

impl<B> Reader<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Reads on while something else is done; answers what that answers.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let read = poll_fn(|cx| {
            lock(&self.shared).fill(cx);
            Poll::<T>::Pending
        });
        tokio::select! {
            biased;
            done = work => done,
            done = read => done,
        }
    }
}

impl<B> Ahead<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Takes what has arrived.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while self.end.is_none() && self.ready.len() < AHEAD_BYTES_MAX {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        self.ready.extend_from_slice(data);
                    }
                }
                Poll::Ready(Some(Err(error))) => self.end = Some(Err(error.into())),
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Pending => return,
            }
        }
    }
}

impl<B> Body for ReadAhead<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut ahead = lock(&self.shared);
        ahead.fill(cx);
        if !ahead.ready.is_empty() {
            let piece = if ahead.ready.len() > PIECE_BYTES_MAX {
                ahead.ready.split_to(PIECE_BYTES_MAX)
            } else {
                mem::take(&mut ahead.ready)
            };
            return Poll::Ready(Some(Ok(Frame::data(piece.freeze()))));
        }
        match &mut ahead.end {
            None => Poll::Pending,
            Some(end) => Poll::Ready(mem::replace(end, Ok(())).err().map(Err)),
        }
    }
}

fn lock<B>(shared: &Mutex<Ahead<B>>) -> MutexGuard<'_, Ahead<B>> {
    // Its parts are consistent between any two statements.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::task::yield_now;

    type Frames = Vec<Result<Frame<Bytes>, BoxError>>;

    /// A body of these frames that counts how many were taken.
    fn body(
        frames: Frames,
    ) -> (
        impl Body<Data = Bytes, Error = BoxError> + Unpin,
        Arc<AtomicUsize>,
    ) {
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        let frames = frames.into_iter().inspect(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let body = StreamBody::new(futures_util::stream::iter(frames));
        (body, taken)
    }

    fn frame(bytes: &'static [u8]) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(bytes))
    }

    #[tokio::test]
    async fn what_arrives_while_other_work_is_done_is_taken_and_kept_in_order() {
        let (body, taken) = body(vec![Ok(frame(b"a")), Ok(frame(b"b")), Ok(frame(b"c"))]);
        let (mut ahead, reader) = ReadAhead::new(body);
        assert_eq!(taken.load(Ordering::Relaxed), 0);
        let done = reader.during(async {
            yield_now().await;
            "done"
        });
        assert_eq!(done.await, "done");
        assert_eq!(taken.load(Ordering::Relaxed), 3);
        let data = ahead.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data, "abc");
        assert!(ahead.frame().await.is_none());
        assert!(ahead.frame().await.is_none());
    }

    #[tokio::test]
    async fn an_error_comes_behind_what_came_before_it() {
        let (body, _) = body(vec![Ok(frame(b"a")), Err("broken".into())]);
        let (mut ahead, _reader) = ReadAhead::new(body);
        assert_eq!(
            ahead.frame().await.unwrap().unwrap().into_data().unwrap(),
            "a"
        );
        assert_eq!(
            ahead.frame().await.unwrap().unwrap_err().to_string(),
            "broken"
        );
        assert!(ahead.frame().await.is_none());
    }

    #[tokio::test]
    async fn b2_no_more_than_its_share_is_taken_before_it_is_wanted() {
        static FRAME: [u8; 1 << 10] = [0; 1 << 10];
        let frames = (AHEAD_BYTES_MAX >> 10) + 10;
        let (body, taken) = body((0..frames).map(|_| Ok(frame(&FRAME))).collect());
        let (mut ahead, reader) = ReadAhead::new(body);
        reader.during(yield_now()).await;
        assert_eq!(taken.load(Ordering::Relaxed), AHEAD_BYTES_MAX >> 10);
        for _ in 0..AHEAD_BYTES_MAX / PIECE_BYTES_MAX {
            let data = ahead.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(data.len(), PIECE_BYTES_MAX);
        }
        reader.during(yield_now()).await;
        assert_eq!(taken.load(Ordering::Relaxed), frames);
    }
}
