//! Holds what a watch stream said against what was written: the validator of `tests/validator`, fed with what the stubs
//! have received.
//!
//! It judges a stream after the fact and never waits for one.

use super::convert;
use super::history::Replay;
use super::pb::{WatchCreateRequest, WatchResponse};
use super::peer::PeerKind;
use crate::validator::record::{Ask, Create, Server};
use crate::validator::verdict::Verdict;
use crate::validator::watch::StreamCheck;

/// Faulty responses, in words.
type Faults = String;

/// Judges one stream.
#[derive(Debug)]
pub(crate) struct Validator<'a> {
    check: StreamCheck<'a>,
    verdict: Verdict,
}

/// Whose rules hold.
pub(crate) fn server(kind: PeerKind) -> Server {
    match kind {
        PeerKind::Vigil => Server::Vigil,
        PeerKind::Etcd => Server::Etcd,
    }
}

impl<'a> Validator<'a> {
    /// A validator of one stream, on which these watches are asked for in this order, each with the id it is going to
    /// have.
    pub(crate) fn new(
        kind: PeerKind,
        replay: &'a Replay,
        creates: impl IntoIterator<Item = (i64, WatchCreateRequest)>,
    ) -> Self {
        let mut check = StreamCheck::new(server(kind), &replay.history);
        for (watch_id, create) in creates {
            let ask = Ask::Create(Create {
                watch_id,
                ..convert::create(&create)
            });
            check.asked(&ask, 1);
        }
        Self {
            check,
            verdict: Verdict::default(),
        }
    }

    /// Judges a whole log; a fault names the response.
    pub(crate) fn check_all(&mut self, responses: &[WatchResponse]) -> Result<(), Faults> {
        for (index, response) in responses.iter().enumerate() {
            let response = convert::response(response);
            self.check.told(index, &response, &mut self.verdict);
        }
        self.check.settle(&mut self.verdict);
        self.faults()
    }

    /// Every watch was told of everything up to `revision` (or has ended).
    pub(crate) fn complete(&mut self, revision: i64) -> Result<(), Faults> {
        let unanswered = self.check.unanswered();
        if unanswered > 0 {
            return Err(format!("{unanswered} watches were not created"));
        }
        self.check.complete(0, revision, &mut self.verdict);
        self.faults()
    }

    /// How many progress responses there were.
    pub(crate) fn progress_seen(&self) -> u64 {
        self.verdict.progress
    }

    fn faults(&self) -> Result<(), Faults> {
        if self.verdict.holds() {
            return Ok(());
        }
        let all = self.verdict.faults.iter().map(ToString::to_string);
        Err(all.collect::<Vec<_>>().join("\n"))
    }
}
