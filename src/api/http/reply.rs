//! Plain answers: JSON, text, and errors in the shape that etcd's gateway gives them.
//!
//! The one place that knows which HTTP status a gRPC code is.

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use tonic::{Code, Status};

/// The client went away before it was answered; HTTP has no number of its own for it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The HTTP status of a gRPC code.
pub(super) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => {
            StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// An error as JSON says it.
pub(super) fn error_value(status: &Status) -> Value {
    json!({"code": i32::from(status.code()), "message": status.message()})
}

/// An error as the answer to a call.
pub(super) fn error(status: &Status) -> HttpResponse {
    json_with(http_status(status.code()), &error_value(status))
}

/// An error whose HTTP status is not the one of its code.
pub(super) fn error_with(http_status: StatusCode, status: &Status) -> HttpResponse {
    json_with(http_status, &error_value(status))
}

/// A JSON document.
pub(super) fn json_with(status: StatusCode, value: &Value) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("application/json")
        .body(value.to_string())
}

/// Plain text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/plain; charset=utf-8")
        .body(text.into())
}

/// There is nothing at this path.
pub(super) fn not_found() -> HttpResponse {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// What is at this path can only be read.
pub(super) async fn only_get(_request: HttpRequest) -> HttpResponse {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    let get = HeaderValue::from_static("GET");
    response.headers_mut().insert(ALLOW, get);
    response
}
