//! A request body that refuses a message which is too long as soon as its length is known.
//!
//! tonic would answer such a message with `OutOfRange`, where the protocol's answer is `ResourceExhausted`. Nothing here
//! looks past the length of a message.

use super::BoxError;
use crate::api::status;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::Status;

/// The flag and the length before each message.
const FRAME_HEADER_BYTES: usize = 5;

/// A body of gRPC messages, none of them longer than a limit.
#[derive(Debug)]
pub(super) struct FrameLimit<B> {
    body: B,
    scan: Scan,
}

impl<B> FrameLimit<B> {
    /// `body`, with messages of at most `bytes_max`.
    pub(super) fn new(body: B, bytes_max: usize) -> Self {
        Self {
            body,
            scan: Scan {
                bytes_max: bytes_max as u64,
                message_left: 0,
                header_bytes: 0,
                length: 0,
            },
        }
    }
}

impl<B> Body for FrameLimit<B>
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
        let this = self.get_mut();
        let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(Into::into)?;
        if let Some(data) = frame.data_ref() {
            this.scan.check(data)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where in the sequence of messages the bytes read so far end.
#[derive(Debug)]
struct Scan {
    bytes_max: u64,
    /// Bytes of the current message still to come.
    message_left: u64,
    /// Bytes of the next header that were read.
    header_bytes: usize,
    /// The length in it, as far as read.
    length: u64,
}

impl Scan {
    fn check(&mut self, mut data: &[u8]) -> Result<(), Status> {
        loop {
            let skipped = usize::try_from(self.message_left)
                .unwrap_or(usize::MAX)
                .min(data.len());
            self.message_left -= skipped as u64;
            data = data.get(skipped..).unwrap_or_default();
            let Some((byte, rest)) = data.split_first() else {
                return Ok(());
            };
            data = rest;
            // The first byte is the flag, the other four are the length, most significant first.
            if self.header_bytes > 0 {
                self.length = self.length << 8 | u64::from(*byte);
            }
            self.header_bytes += 1;
            if self.header_bytes == FRAME_HEADER_BYTES {
                if self.length > self.bytes_max {
                    return Err(status::message_too_large(self.length, self.bytes_max));
                }
                self.message_left = self.length;
                self.header_bytes = 0;
                self.length = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};

    fn message(bytes: u32) -> Vec<u8> {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(bytes);
        frame.put_bytes(0xff, bytes as usize);
        frame.to_vec()
    }

    fn scan(bytes_max: u64) -> Scan {
        Scan {
            bytes_max,
            message_left: 0,
            header_bytes: 0,
            length: 0,
        }
    }

    #[test]
    fn lengths_are_found_however_the_bytes_are_cut() {
        let wire = [message(300), message(0), message(301)].concat();
        for cut in 1..wire.len() {
            let mut scan = scan(301);
            let parts: Vec<_> = wire.chunks(cut).map(|part| scan.check(part)).collect();
            assert!(parts.iter().all(Result::is_ok), "cut at {cut}");
            assert_eq!((scan.message_left, scan.header_bytes), (0, 0));
        }
    }

    #[test]
    fn a_message_too_long_is_refused_at_its_header() {
        let mut scan = scan(300);
        scan.check(&message(300)).unwrap();
        let header = message(301)[..5].to_vec();
        let status = scan.check(&header).unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    }
}
