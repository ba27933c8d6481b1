//! Watches for browsers and curl: server-sent events, or one answer when something has happened.
//!
//! The `id` of a message is a revision, and means that everything up to it was sent: whoever resumes from it loses
//! nothing and sees nothing twice. Events of one revision are one message.

use super::watch_query::WatchQuery;
use super::watching::{Watching, events, revisions};
use super::{Http, reply};
use crate::api::grpc::Served;
use crate::api::status;
use crate::api::stop::StopSignal;
use crate::backend::{Next, StreamItem, WatchRejection};
use crate::model::Revision;
use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::pending;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;

/// By which a browser says how far it has come.
const LAST_EVENT_ID: &str = "last-event-id";
/// Where the path of a watch ends and its key begins.
const PREFIX: &str = "/watch/";
/// A comment: it says only that somebody is there.
const ALIVE: &str = ":\n\n";

/// Answers a watch.
pub(super) async fn serve<B: Served>(
    http: web::Data<Http<B>>,
    request: HttpRequest,
) -> HttpResponse {
    let key = request.path().strip_prefix(PREFIX).unwrap_or_default();
    let last = request.headers().get(LAST_EVENT_ID);
    let last = last.map(|id| id.to_str().unwrap_or("not text"));
    let asked = match WatchQuery::read(key, request.query_string(), last) {
        Ok(asked) => asked,
        Err(why) => return reply::error(&Status::invalid_argument(format!("vigil: {why}"))),
    };
    let progress_interval = if asked.wait {
        asked.timeout
    } else {
        Some(http.clocks.keep_alive_interval)
    };
    let opened = Watching::open(
        http.backend(),
        asked.create(),
        progress_interval,
        &http.counts,
    );
    let mut watching = match opened {
        Ok(watching) => watching,
        Err(error) => return reply::error(&status::backend(&error)),
    };
    let stop = http.edge.stop().clone();
    let registered = match next(&mut watching, stop.clone()).await {
        Ok(StreamItem::Created { revision, .. }) => revision,
        Ok(StreamItem::Rejected { reason, .. }) => return refused(reason),
        Ok(_) => return reply::error(&Status::internal("vigil: a watch began with its end")),
        Err(status) => return reply::error(&status),
    };
    let since = asked.since.unwrap_or(registered.0);
    if asked.wait {
        let until = asked.timeout.map(|timeout| Instant::now() + timeout);
        return first(&http, watching, until, since).await;
    }
    sent(watching, stop, since, http.clocks.keep_alive_interval)
}

/// What the watch says next, or that it has ended.
async fn next(watching: &mut Watching, mut stop: StopSignal) -> Result<StreamItem, Status> {
    tokio::select! {
        biased;
        () = stop.stopped() => Err(status::stopped()),
        next = watching.next() => match next {
            Next::Item(item) => Ok(item),
            Next::End(end) => Err(status::stream_end(end)),
        },
    }
}

fn refused(reason: WatchRejection) -> HttpResponse {
    let text = status::rejection(&reason).into_owned();
    reply::error(&match reason {
        WatchRejection::TooManyWatches { .. } => Status::resource_exhausted(text),
        _ => Status::invalid_argument(text),
    })
}

fn compacted_value(compact_revision: Revision) -> Value {
    json!({
        "error": "compacted",
        "message": "the revisions that were asked for are compacted: read the keys, and watch from there",
        "compact_revision": compact_revision.0,
    })
}

/// Answers with the first that happens and the revision to go on with. When the time is over without anything, it
/// answers with how far the watch has come: the progress that was asked for then. There is none as long as the store has
/// not come past the revision that was seen last, which then is still the one to go on with.
async fn first<B: Served>(
    http: &Http<B>,
    mut watching: Watching,
    mut until: Option<Instant>,
    since: i64,
) -> HttpResponse {
    let stop = http.edge.stop().clone();
    loop {
        let said = tokio::select! {
            biased;
            said = next(&mut watching, stop.clone()) => said,
            () = reached(until) => {
                if http.backend().revision().0 <= since {
                    return happened(since, &[]);
                }
                until = None;
                continue;
            }
        };
        let (revision, events) = match said {
            Ok(StreamItem::Events { batch, room, .. }) => {
                let events = events(&batch);
                drop(room);
                (batch.last().0, events)
            }
            Ok(StreamItem::Progress { revision, .. }) => (revision.0.max(since), Vec::new()),
            Ok(StreamItem::Compacted {
                compact_revision, ..
            }) => return reply::json_with(StatusCode::GONE, &compacted_value(compact_revision)),
            Ok(_) => continue,
            Err(status) => return reply::error(&status),
        };
        return happened(revision, &events);
    }
}

fn happened(revision: i64, events: &[Value]) -> HttpResponse {
    let answer = json!({"revision": revision, "events": events});
    reply::json_with(StatusCode::OK, &answer)
}

/// Returns at this time, if there is one.
async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

/// Answers with all that happens, until the reader leaves.
fn sent(watching: Watching, stop: StopSignal, since: i64, keep_alive: Duration) -> HttpResponse {
    let messages = Messages {
        watching: Some(watching),
        stop,
        last: since,
        // Longer than the progress takes that is asked for in the same rhythm, and says more.
        silence_max: keep_alive + keep_alive / 2,
    };
    let opening = Bytes::from(format!("id: {since}\n\n"));
    let rest = stream::unfold(messages, |mut messages| async move {
        let message = messages.next().await?;
        Some((message, messages))
    });
    let body = stream::iter([opening]).chain(rest);
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body.map(Ok::<_, Infallible>))
}

/// A watch as server-sent events.
#[derive(Debug)]
struct Messages {
    /// `None` once it has ended.
    watching: Option<Watching>,
    stop: StopSignal,
    /// The id that was sent last.
    last: i64,
    silence_max: Duration,
}

impl Messages {
    /// The next piece of the body: all messages of one item, or a comment when nothing was to be said for long.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let watching = self.watching.as_mut()?;
            let next = next(watching, self.stop.clone());
            let Ok(next) = timeout(self.silence_max, next).await else {
                return Some(Bytes::from_static(ALIVE.as_bytes()));
            };
            if let Some(text) = self.text(next) {
                return Some(text.into());
            }
        }
    }

    fn text(&mut self, next: Result<StreamItem, Status>) -> Option<String> {
        let mut text = String::new();
        // A string takes everything.
        match next {
            Ok(StreamItem::Events { batch, .. }) => {
                for (revision, document) in revisions(&batch) {
                    let _ = write!(text, "id: {revision}\ndata: {document}\n\n");
                    self.last = revision;
                }
            }
            Ok(StreamItem::Progress { revision, .. }) if revision.0 > self.last => {
                self.last = revision.0;
                let _ = write!(text, "id: {}\n\n", self.last);
            }
            Ok(StreamItem::Progress { .. }) => text.push_str(ALIVE),
            Ok(StreamItem::Compacted {
                compact_revision, ..
            }) => {
                self.watching = None;
                let document = compacted_value(compact_revision);
                let _ = write!(text, "event: compacted\ndata: {document}\n\n");
            }
            Ok(_) => return None,
            // The reader comes back with the last id; there is nothing that it would do with the reason.
            Err(status) => {
                self.watching = None;
                let _ = write!(text, ": {}\n\n", status.message());
            }
        }
        Some(text)
    }
}
