//! The JSON gateway: each path is a gRPC call, made inside the process through the edge that gRPC clients use.
//!
//! It knows no call: what a request means, and whether it is served at all, is said behind it.

use super::Http;
use super::body::{self, BodyLimits, Unread, Whole};
use super::call::{self, Answers, Requests};
use super::json_values::{JsonValues, Unusable};
use super::percent;
use super::reply;
use super::transcode::Method;
use crate::api::grpc::Served;
use crate::api::status;
use actix_web::dev::Payload;
use actix_web::http::Method as HttpMethod;
use actix_web::http::header::HeaderMap as ActixHeaders;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::sync::{SemaphorePermit, mpsc};
use tokio::task::AbortHandle;
use tonic::Status;

/// The paths of a version of the protocol that nobody speaks any more, but for its clients.
const BETA_PREFIX: &str = "/v3beta/";
/// What HTTP headers that are meant for the call begin with.
const METADATA_PREFIX: &str = "grpc-metadata-";
/// Requests of one stream that were read and not passed on.
const REQUESTS_AHEAD_MAX: usize = 4;

/// Answers one JSON call.
pub(super) async fn serve<B: Served>(
    http: web::Data<Http<B>>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    if !http.settings.grpc_gateway {
        return reply::not_found();
    }
    let path = percent::path(request.path()).and_then(|path| String::from_utf8(path).ok());
    let found = path.and_then(|path| match path.strip_prefix(BETA_PREFIX) {
        Some(rest) => Method::find(&format!("/v3/{rest}")),
        None => Method::find(&path),
    });
    let Some(method) = found else {
        return reply::error(&status::no_such_path());
    };
    if request.method() != HttpMethod::POST {
        return reply::error(&status::only_post());
    }
    let Some(streams) = method.streams() else {
        return reply::error(&status::path_not_served(method.grpc_path));
    };
    let mut payload = payload.into_inner();
    let metadata = metadata(request.headers());
    if streams.requests {
        return exchange(&http, method, metadata, payload).await;
    }
    // The place is kept until the call is answered.
    let (message, _place) = match read_request(&http, method, &request, &mut payload).await {
        Ok(read) => read,
        Err(response) => return response,
    };
    if streams.responses {
        let answers = call::one(&http.edge, method.grpc_path, metadata, &message).await;
        return lines(method, answers, None).await;
    }
    let answer = call::unary(&http.edge, method.grpc_path, metadata, &message).await;
    match answer.and_then(|answer| print(method, "", answer)) {
        Ok(json) => HttpResponse::Ok()
            .content_type("application/json")
            .body(json),
        Err(status) => reply::error(&status),
    }
}

/// The one request of a call, encoded, and its place if it is large.
async fn read_request<'a, B: Served>(
    http: &'a Http<B>,
    method: &Method,
    request: &HttpRequest,
    payload: &mut Payload,
) -> Result<(Bytes, Option<SemaphorePermit<'a>>), HttpResponse> {
    let Whole { bytes, place } = body::read(request, payload, http.body_limits(), &http.large)
        .await
        .map_err(Unread::response)?;
    let message = method
        .request(&bytes)
        .map_err(|why| reply::error(&Status::invalid_argument(why)))?;
    Ok((message, place))
}

/// A call with any number of requests: they are read while it is answered.
async fn exchange<B: Served>(
    http: &Http<B>,
    method: &'static Method,
    metadata: HeaderMap,
    payload: Payload,
) -> HttpResponse {
    let (sender, requests) = mpsc::channel(REQUESTS_AHEAD_MAX);
    let passing = pass_on(method, payload, sender, http.stream_limits());
    // The payload belongs to this thread, and a call's body may not.
    let reader = Reader(tokio::task::spawn_local(passing).abort_handle());
    let body = Requests(requests);
    let answers = call::start(&http.edge, method.grpc_path, metadata, body).await;
    lines(method, answers, Some(reader)).await
}

/// The task that reads a stream's requests; it ends with the response.
#[derive(Debug)]
struct Reader(AbortHandle);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Passes requests on as they come, until there are no more, one is wrong, or nobody wants them.
async fn pass_on(
    method: &'static Method,
    mut payload: Payload,
    sender: mpsc::Sender<Result<Bytes, Status>>,
    limits: BodyLimits,
) {
    let mut values = JsonValues::new(limits.bytes_max);
    loop {
        match values.take() {
            Ok(Some(value)) => {
                let message = method.request(&value).map_err(Status::invalid_argument);
                let is_last = message.is_err();
                let framed = message.map(|message| call::frame(&message));
                if sender.send(framed).await.is_err() || is_last {
                    return;
                }
                continue;
            }
            Ok(None) => {}
            Err(why) => {
                let status = match why {
                    Unusable::NotAnObject => {
                        Status::invalid_argument("vigil: a JSON object is needed")
                    }
                    Unusable::TooLong => {
                        let bytes_max = limits.bytes_max;
                        Unread::TooLong { bytes_max }.status()
                    }
                };
                return drop(sender.send(Err(status)).await);
            }
        }
        match payload.next().await {
            Some(Ok(bytes)) => values.push(&bytes),
            None if !values.is_inside() => return,
            None | Some(Err(_)) => {
                return drop(sender.send(Err(Unread::CutOff.status())).await);
            }
        }
    }
}

/// A stream of responses, each on a line of its own. The head waits for the first, so that a call which fails at once
/// says so in its status.
async fn lines(
    method: &'static Method,
    answers: Result<Answers, Status>,
    reader: Option<Reader>,
) -> HttpResponse {
    let mut lines = match answers {
        Ok(answers) => Lines {
            method,
            answers: Some(answers),
            _reader: reader,
        },
        Err(status) => return failed_at_once(&status),
    };
    let first = match lines.read().await {
        Ok(first) => first,
        Err(status) => return failed_at_once(&status),
    };
    let rest = stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    HttpResponse::Ok()
        .content_type("application/json")
        .streaming(stream::iter(first.map(Ok)).chain(rest))
}

/// The responses of a call as lines.
#[derive(Debug)]
struct Lines {
    method: &'static Method,
    /// `None` once the call has ended.
    answers: Option<Answers>,
    _reader: Option<Reader>,
}

impl Lines {
    /// The next response, or how the call ended.
    async fn read(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(answers) = &mut self.answers else {
            return Ok(None);
        };
        match answers.next().await? {
            Some(answer) => {
                let mut line = print(self.method, "{\"result\":", answer)?;
                line.extend_from_slice(b"}\n");
                Ok(Some(line.into()))
            }
            None => Ok(None),
        }
    }

    /// The next line; the last one says why there are no more, if that is a failure.
    async fn next(&mut self) -> Option<Bytes> {
        match self.read().await {
            Ok(Some(line)) => Some(line),
            Ok(None) => None,
            Err(status) => {
                self.answers = None;
                Some(format!("{}\n", failure(&status)).into())
            }
        }
    }
}

fn failure(status: &Status) -> Value {
    json!({"error": reply::error_value(status)})
}

fn failed_at_once(status: &Status) -> HttpResponse {
    reply::json_with(reply::http_status(status.code()), &failure(status))
}

/// A response as JSON. That one of our own cannot be printed is a fault of ours.
fn print(method: &Method, before: &str, answer: Bytes) -> Result<Vec<u8>, Status> {
    method.print(before, answer).map_err(Status::internal)
}

/// What of the HTTP headers is meant for the call. Those of gRPC itself are the edge's own.
fn metadata(headers: &ActixHeaders) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let name = match name.as_str().strip_prefix(METADATA_PREFIX) {
            Some(name) if name.starts_with("grpc-") || name == "content-type" => continue,
            Some(name) => name,
            None if name.as_str() == AUTHORIZATION.as_str() => AUTHORIZATION.as_str(),
            None => continue,
        };
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            metadata.append(name, value);
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName as ActixName, HeaderValue as ActixValue};

    #[test]
    fn tokens_and_metadata_go_to_the_call_and_no_other_header_does() {
        let mut headers = ActixHeaders::new();
        for (name, value) in [
            ("authorization", "token"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-grpc-encoding", "gzip"),
            ("grpc-metadata-content-type", "text/html"),
            ("grpc-metadata-", "nothing"),
            ("grpc-encoding", "gzip"),
            ("x-other", "1"),
        ] {
            headers.append(ActixName::from_static(name), ActixValue::from_static(value));
        }
        let metadata = metadata(&headers);
        assert_eq!(metadata.len(), 2);
        assert_eq!(metadata.get("authorization").unwrap(), "token");
        assert_eq!(metadata.get("hasleader").unwrap(), "true");
    }
}
