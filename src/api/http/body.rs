//! Reads a request's body, bounded in bytes and in the time it may stand still.
//!
//! It never holds more than the limit, and refuses what is announced to be longer before it reads it. Of large bodies it reads a
//! few at a time: the others wait with their clients.

use super::reply;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{HttpRequest, HttpResponse};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Status;

/// The bounds of a request's body.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    /// Bytes.
    pub(super) bytes_max: usize,
    /// How long it may stand still.
    pub(super) pause_max: Duration,
}

/// The places of bodies that are large.
#[derive(Debug)]
pub(super) struct Large {
    /// Bytes of the longest body that needs none.
    pub(super) small_bytes_max: usize,
    /// Those that are free.
    pub(super) places: Semaphore,
}

/// A body that was read, and its place if it is large: whoever has it holds what it is made into, too.
#[derive(Debug)]
pub(super) struct Whole<'a> {
    /// All of it.
    pub(super) bytes: Bytes,
    /// For as long as anything of it is held.
    pub(super) place: Option<SemaphorePermit<'a>>,
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is longer than the limit.
    TooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// It stood still for too long.
    TooSlow,
    /// Its end did not come.
    CutOff,
    /// It is large, and no place has become free.
    Crowded,
}

impl Unread {
    /// What to say of it.
    pub(super) fn status(self) -> Status {
        match self {
            Self::TooLong { bytes_max } => Status::resource_exhausted(format!(
                "vigil: the body is longer than the limit of {bytes_max} bytes"
            )),
            Self::TooSlow => Status::deadline_exceeded("vigil: the body does not come"),
            Self::CutOff => Status::invalid_argument("vigil: the body was cut off"),
            Self::Crowded => Status::unavailable("vigil: too many large bodies at a time"),
        }
    }

    /// The answer to a request that comes to nothing by it.
    pub(super) fn response(self) -> HttpResponse {
        let status = match self {
            Self::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::CutOff => StatusCode::BAD_REQUEST,
            Self::Crowded => StatusCode::SERVICE_UNAVAILABLE,
        };
        reply::error_with(status, &self.status())
    }
}

/// All of the body.
pub(super) async fn read<'a>(
    request: &HttpRequest,
    payload: &mut Payload,
    limits: BodyLimits,
    large: &'a Large,
) -> Result<Whole<'a>, Unread> {
    let BodyLimits {
        bytes_max,
        pause_max,
    } = limits;
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(Unread::TooLong { bytes_max });
    }
    let mut body = BytesMut::new();
    let mut place = None;
    let mut within = Instant::now() + pause_max;
    loop {
        let piece = match timeout_at(within, payload.next()).await {
            Err(_) => return Err(Unread::TooSlow),
            Ok(None) => {
                let bytes = body.freeze();
                return Ok(Whole { bytes, place });
            }
            Ok(Some(Err(_))) => return Err(Unread::CutOff),
            Ok(Some(Ok(piece))) => piece,
        };
        let bytes = body.len() + piece.len();
        if bytes > bytes_max {
            return Err(Unread::TooLong { bytes_max });
        }
        if place.is_none() {
            if bytes > large.small_bytes_max {
                // Nothing more is read meanwhile, so the client stops to send.
                let free = timeout(pause_max, large.places.acquire()).await;
                place = Some(free.ok().and_then(Result::ok).ok_or(Unread::Crowded)?);
            }
            // Who has a place keeps others from it, so his time does not begin again.
            within = Instant::now() + pause_max;
        }
        body.extend_from_slice(&piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;
    use futures_util::stream;

    fn payload(bytes: usize) -> Payload {
        let pieces = stream::iter((0..bytes).map(|_| Ok(Bytes::from_static(b"x"))));
        Payload::Stream {
            payload: Box::pin(pieces),
        }
    }

    /// Bodies of 20 bytes, one of more than 10 at a time.
    fn of_one_place() -> (BodyLimits, Large) {
        let limits = BodyLimits {
            bytes_max: 20,
            pause_max: Duration::from_secs(1),
        };
        let large = Large {
            small_bytes_max: 10,
            places: Semaphore::new(1),
        };
        (limits, large)
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_waits_for_a_place_and_a_small_one_needs_none() {
        let (limits, large) = of_one_place();
        let request = TestRequest::default().to_http_request();
        let read = async |bytes| read(&request, &mut payload(bytes), limits, &large).await;
        let first = read(11).await.unwrap();
        assert!(first.bytes.len() == 11 && first.place.is_some());
        assert!(read(10).await.unwrap().place.is_none());
        assert_eq!(read(20).await.err(), Some(Unread::Crowded));
        drop(first);
        assert_eq!(read(20).await.unwrap().bytes.len(), 20);
        let too_long = Unread::TooLong { bytes_max: 20 };
        assert_eq!(read(21).await.err(), Some(too_long));
    }

    // Four clients that send a byte now and then would keep all others from the places.
    #[tokio::test(start_paused = true)]
    async fn a_large_body_that_trickles_loses_its_place_and_a_small_one_may_take_its_time() {
        let (limits, large) = of_one_place();
        let request = TestRequest::default().to_http_request();
        let trickle = async |bytes: usize| {
            let pieces = stream::iter(0..bytes).then(|_| async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(Bytes::from_static(b"x"))
            });
            let mut payload = Payload::Stream {
                payload: pieces.boxed_local(),
            };
            let read = read(&request, &mut payload, limits, &large).await;
            read.map(|whole| whole.bytes.len())
        };
        assert_eq!(trickle(10).await, Ok(10));
        assert_eq!(trickle(20).await, Err(Unread::TooSlow));
        assert_eq!(large.places.available_permits(), 1);
    }
}
