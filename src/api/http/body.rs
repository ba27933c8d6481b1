//! Reads a request's body, bounded in bytes and in the time it may stand still.
//!
//! It never holds more than the limit, and refuses what is announced to be longer before it reads it.

use super::reply;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{HttpRequest, HttpResponse};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;

/// The bounds of a request's body.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    /// Bytes.
    pub(super) bytes_max: usize,
    /// How long it may stand still.
    pub(super) pause_max: Duration,
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
        }
    }

    /// The answer to a request that comes to nothing by it.
    pub(super) fn response(self) -> HttpResponse {
        let status = match self {
            Self::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::CutOff => StatusCode::BAD_REQUEST,
        };
        reply::error_with(status, &self.status())
    }
}

/// All of the body.
pub(super) async fn read(
    request: &HttpRequest,
    payload: &mut Payload,
    limits: BodyLimits,
) -> Result<Bytes, Unread> {
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
    loop {
        match timeout(pause_max, payload.next()).await {
            Err(_) => return Err(Unread::TooSlow),
            Ok(None) => return Ok(body.freeze()),
            Ok(Some(Err(_))) => return Err(Unread::CutOff),
            Ok(Some(Ok(piece))) if body.len() + piece.len() > bytes_max => {
                return Err(Unread::TooLong { bytes_max });
            }
            Ok(Some(Ok(piece))) => body.extend_from_slice(&piece),
        }
    }
}
