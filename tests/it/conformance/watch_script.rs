//! Runs a script of requests to one watch stream, and of writes beside it, on both servers, and holds the answers together.
//!
//! The stream is gRPC and its responses are compared field by field. It knows when a server has said all that a step makes
//! it say without knowing how much that is, so a response too many is seen as well as one too few.

use super::calls::Call;
use super::{answered, as_compared};
use crate::support::pb::{WatchCreateRequest, WatchRequest, WatchResponse};
use crate::support::stream::{is_progress, revision_of, revisions_in};
use crate::support::{Http, Peer, PeerKind, Setup, WatchStream, within};
use std::time::Duration;

/// How long a stream may be silent before it is asked for progress again: etcd drops a request while a watch catches up,
/// and looks after those ten times a second.
const ASK_AGAIN: Duration = Duration::from_millis(60);

/// One exchange.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Asks for a watch.
    Create(WatchCreateRequest),
    /// Asks for the end of a watch.
    Cancel(i64),
    /// Asks how far the stream has come.
    Progress,
    /// A request that asks for nothing.
    Nothing,
    /// A call of the JSON gateway, whose answer is compared too.
    Call(Call),
    /// The same, while a watch waits for the future: then etcd answers no request for progress, so the number of
    /// responses is given.
    Counted(Box<Step>, usize),
}

/// A script and its name.
pub(super) type Script = (&'static str, Vec<Step>);

/// A server with one watch stream.
struct Side {
    http: Http,
    stream: WatchStream,
    /// The store's revision after the last step.
    revision: i64,
    peer: Peer,
}

impl Side {
    async fn start(kind: PeerKind) -> Self {
        // Nobody is told of progress by the clock.
        let setup = Setup::new(kind);
        let setup = match kind {
            PeerKind::Etcd => setup.flag("--experimental-watch-progress-notify-interval", "1h"),
            PeerKind::Vigil => setup.flag("--progress-notify-interval-ms", "3600000"),
        };
        let peer = setup.start().await;
        Self {
            http: Http::to(&peer),
            stream: peer.watch(),
            revision: 1,
            peer,
        }
    }

    /// Makes a step: what the call was answered, and what the stream said.
    async fn step(&mut self, step: &Step) -> (String, Vec<WatchResponse>) {
        let (step, count) = match step {
            Step::Counted(step, count) => (&**step, Some(*count)),
            step => (step, None),
        };
        let mut answer = String::new();
        match step {
            Step::Create(create) => self.stream.create(create.clone()),
            Step::Cancel(id) => self.stream.cancel(*id),
            // Asked below, for every step.
            Step::Progress | Step::Counted(..) => {}
            Step::Nothing => self.stream.send(WatchRequest {
                request_union: None,
            }),
            Step::Call(call) => {
                let said = self.http.post(&call.path, &call.body).await;
                answer = format!("{} {:?}", said.status, as_compared(call, &said.text));
                self.revision = self.peer.client().revision().await;
            }
        }
        let mut told = match count {
            Some(count) => self.next(count).await,
            None => self.settled(step).await,
        };
        for response in &mut told {
            self.check_revision(response);
            let header = response.header.as_mut().expect("a header");
            (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
        }
        // Nothing orders the responses of one watch and those of another.
        told.sort_by_key(|response| response.watch_id);
        (answer, told)
    }

    async fn next(&mut self, count: usize) -> Vec<WatchResponse> {
        let mut told = Vec::new();
        while told.len() < count {
            told.push(self.stream.next().await);
        }
        told
    }

    /// All that the stream says until it has answered every request and has told all events.
    async fn settled(&mut self, step: &Step) -> Vec<WatchResponse> {
        let mut told = self.stream.fence().await;
        let asked = async {
            loop {
                self.stream.progress();
                while let Ok(response) =
                    tokio::time::timeout(ASK_AGAIN, self.stream.receive()).await
                {
                    let response = response.expect("the stream lives").expect("it goes on");
                    let is_answer = response.watch_id == -1 && is_progress(&response);
                    let is_level = revision_of(&response) >= self.revision;
                    told.push(response);
                    if is_answer && is_level {
                        return;
                    }
                }
            }
        };
        let what = format!("progress of {:?} after {step:?}", self.peer.kind());
        within(&what, asked).await;
        let last = told.pop().expect("the answer");
        // An answer to an earlier request may come late.
        told.retain(|response| !(response.watch_id == -1 && is_progress(response)));
        if matches!(step, Step::Progress) {
            told.push(last);
        }
        told
    }

    /// The revision in the header of events is one of the listed differences, so each server is held to its own rule.
    fn check_revision(&self, response: &mut WatchResponse) {
        let Some(last) = revisions_in(response).last().copied() else {
            return;
        };
        let said = revision_of(response);
        match self.peer.kind() {
            PeerKind::Vigil => assert_eq!(said, last, "{response:?}"),
            PeerKind::Etcd => assert!(
                said == last || said == self.revision,
                "{response:?} at {}",
                self.revision
            ),
        }
        response.header.as_mut().expect("a header").revision = last;
    }
}

/// Runs a script on both servers; returns the number of its exchanges.
pub(super) async fn compare((name, steps): Script) -> usize {
    let (mut ours, mut theirs) =
        tokio::join!(Side::start(PeerKind::Vigil), Side::start(PeerKind::Etcd));
    let mut responses = 0;
    for (number, step) in steps.iter().enumerate() {
        let (us, them) = tokio::join!(ours.step(step), theirs.step(step));
        assert_eq!(
            us, them,
            "{name}, step {number}: {step:?}: ours, and etcd's"
        );
        responses += us.1.len();
    }
    assert!(
        responses >= steps.len() / 2,
        "{name}: {responses} responses"
    );
    answered(name, steps.len())
}
