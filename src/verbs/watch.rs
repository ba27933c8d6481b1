//! `watch`: one watch that survives its connections.
//!
//! Where it stands is one number, the first revision not yet printed; a new connection watches from there, so that no
//! event is lost and none is printed twice. It is moved on by what was printed and by nothing else.

use super::print::Printer;
use super::{VerbError, connect, kv, within};
use crate::api::pb::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_client::WatchClient,
    watch_request::RequestUnion,
};
use crate::cli::{ClientArgs, WatchArgs};
use futures_util::StreamExt;
use std::io::{Write, stderr};
use std::time::Duration;
use tonic::Streaming;

pub(super) const RETRY_AFTER_MIN: Duration = Duration::from_millis(50);
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(2);

/// Watches until the server says that it cannot go on. A server that cannot be reached at the start is an error; one
/// that goes away later is waited for.
pub(super) async fn watch<W: Write>(
    args: &WatchArgs,
    mut printer: Printer<W>,
) -> Result<(), VerbError> {
    let mut position = Position::new(args.rev);
    let mut answers = open_at(args, &mut position).await?;
    loop {
        let lost = match follow(&mut answers, &mut position, &mut printer).await {
            Ok(()) => "the server ended the stream".to_owned(),
            Err(error) if error.is_connection() => error.to_string(),
            Err(error) => return Err(error),
        };
        notice(&format!(
            "connection to {} lost ({lost}); watching again from revision {}",
            args.client.endpoint, position.next
        ));
        answers = reopen(args, &mut position).await?;
    }
}

/// Tells the person at the terminal; with standard error closed there is just nobody to tell.
pub(super) fn notice(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// Opens the watch again, however long that takes.
async fn reopen(
    args: &WatchArgs,
    position: &mut Position,
) -> Result<Streaming<WatchResponse>, VerbError> {
    let mut delay = RETRY_AFTER_MIN;
    loop {
        tokio::time::sleep(delay).await;
        match open_at(args, position).await {
            Err(error) if error.is_connection() => delay = (delay * 2).min(RETRY_AFTER_MAX),
            outcome => return outcome,
        }
    }
}

async fn open_at(
    args: &WatchArgs,
    position: &mut Position,
) -> Result<Streaming<WatchResponse>, VerbError> {
    open(&args.client, create_request(args, position.next), position).await
}

/// Connects and creates a watch; done when the server has said that it exists.
pub(super) async fn open(
    client: &ClientArgs,
    request: WatchCreateRequest,
    position: &mut Position,
) -> Result<Streaming<WatchResponse>, VerbError> {
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(request)),
    };
    within(client, async {
        let channel = connect(client).await?;
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        // The stream of requests stays open behind its only one: its end would be the end of the watch.
        let requests = futures_util::stream::iter([request]).chain(futures_util::stream::pending());
        let mut answers = client.watch(requests).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            check(&answer)?;
            if answer.created {
                position.created(&answer);
                break;
            }
        }
        Ok(answers)
    })
    .await
}

/// Prints what comes until the stream ends.
async fn follow<W: Write>(
    answers: &mut Streaming<WatchResponse>,
    position: &mut Position,
    printer: &mut Printer<W>,
) -> Result<(), VerbError> {
    while let Some(answer) = answers.message().await? {
        check(&answer)?;
        if answer.events.is_empty() {
            printer.progress(&answer)?;
        } else {
            printer.events(&answer)?;
        }
        position.printed(&answer);
    }
    Ok(())
}

/// A watch that the server canceled is over, and the server has said why.
pub(super) fn check(answer: &WatchResponse) -> Result<(), VerbError> {
    if answer.compact_revision != 0 {
        return Err(VerbError::WatchCompacted {
            compact_revision: answer.compact_revision,
        });
    }
    if answer.canceled {
        let reason = match answer.cancel_reason.as_str() {
            "" => "the server gave no reason",
            reason => reason,
        };
        return Err(VerbError::WatchCanceled {
            reason: reason.to_owned(),
        });
    }
    Ok(())
}

fn create_request(args: &WatchArgs, start_revision: i64) -> WatchCreateRequest {
    let (key, range_end) = kv::wire_range(&args.range);
    WatchCreateRequest {
        key,
        range_end,
        start_revision,
        progress_notify: args.progress_notify,
        prev_kv: args.prev_kv,
        ..WatchCreateRequest::default()
    }
}

/// How far a watch has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The first revision not yet printed; 0 while nobody has said what "now" is.
    pub(super) next: i64,
}

impl Position {
    pub(super) fn new(start: i64) -> Self {
        Self { next: start }
    }

    /// A watch from now on begins behind the revision at which it was registered.
    fn created(&mut self, answer: &WatchResponse) {
        if self.next == 0 {
            self.reach(header_revision(answer));
        }
    }

    /// Events count by their own revisions, progress by its header: an events answer may carry a later revision there
    /// than it has events of.
    pub(super) fn printed(&mut self, answer: &WatchResponse) {
        let revisions = answer.events.iter().flat_map(|event| &event.kv);
        match revisions.map(|kv| kv.mod_revision).max() {
            Some(last) => self.reach(last),
            None => self.reach(header_revision(answer)),
        }
    }

    pub(super) fn reach(&mut self, revision: i64) {
        self.next = self.next.max(revision.saturating_add(1));
    }
}

fn header_revision(answer: &WatchResponse) -> i64 {
    answer.header.unwrap_or_default().revision
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb::etcdserverpb::ResponseHeader;
    use crate::api::pb::mvccpb::{Event, KeyValue};

    fn answer(header_revision: i64, event_revisions: &[i64]) -> WatchResponse {
        let event = |revision: &i64| Event {
            kv: Some(KeyValue {
                mod_revision: *revision,
                ..KeyValue::default()
            }),
            ..Event::default()
        };
        WatchResponse {
            header: Some(ResponseHeader {
                revision: header_revision,
                ..ResponseHeader::default()
            }),
            events: event_revisions.iter().map(event).collect(),
            ..WatchResponse::default()
        }
    }

    #[test]
    fn a_watch_resumes_behind_what_it_has_printed() {
        let mut position = Position::new(0);
        position.created(&answer(7, &[]));
        assert_eq!(position.next, 8);
        position.printed(&answer(20, &[9, 10]));
        assert_eq!(position.next, 11, "the header is ahead of the events");
        position.printed(&answer(15, &[]));
        assert_eq!(
            position.next, 16,
            "progress covers everything up to its revision"
        );
        position.printed(&answer(15, &[]));
        assert_eq!(position.next, 16, "a position never goes back");
    }

    #[test]
    fn a_watch_from_a_revision_resumes_there_until_it_has_printed() {
        let mut position = Position::new(100);
        position.created(&answer(7, &[]));
        assert_eq!(position.next, 100);
        position.printed(&answer(7, &[]));
        assert_eq!(position.next, 100, "progress below the start moves nothing");
    }

    #[test]
    fn the_servers_reason_is_passed_on() {
        let mut canceled = answer(0, &[]);
        canceled.canceled = true;
        assert!(
            check(&canceled)
                .unwrap_err()
                .to_string()
                .contains("no reason")
        );
        canceled.cancel_reason = "mvcc: watcher range is empty".to_owned();
        assert!(
            check(&canceled)
                .unwrap_err()
                .to_string()
                .ends_with("range is empty")
        );
        canceled.compact_revision = 12;
        assert!(check(&canceled).unwrap_err().to_string().contains("12"));
    }
}
