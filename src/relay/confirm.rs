//! The cluster's revision, confirmed by a majority: one question for all who want to know at the same time.
//!
//! An answer is good for whoever asked before its question was sent, and for nobody else. While a question is under way others gather
//! for the next one, so that ten thousand watches that begin at once cost the cluster a few reads.

use super::covers::{Unanswered, revision_now};
use super::endpoints::Endpoints;
use crate::model::Revision;
use actix::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the next question waits for the answer to the one before: a member that does not answer shall not hold up who could
/// be answered by another one.
const GATHER_MAX: Duration = Duration::from_millis(100);

type Answer = Result<Revision, Unanswered>;

/// The answer to a question, once there is one.
type Question = watch::Receiver<Option<Answer>>;

/// Asks the cluster. A clone asks together with the others.
#[derive(Clone, Debug)]
pub(super) struct Confirm(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoints: Endpoints,
    /// How long an answer may take.
    patience: Duration,
    /// Where questions are asked.
    arbiter: ArbiterHandle,
    questions: Mutex<Questions>,
}

#[derive(Debug, Default)]
struct Questions {
    /// The last one that was sent.
    sent: Option<Question>,
    /// The one that is not sent yet.
    next: Option<Question>,
}

impl Confirm {
    /// Nobody asks yet.
    pub(super) fn new(endpoints: Endpoints, patience: Duration, arbiter: ArbiterHandle) -> Self {
        Self(Arc::new(Inner {
            endpoints,
            patience,
            arbiter,
            questions: Mutex::default(),
        }))
    }

    /// The cluster's revision, as of some moment after this was asked.
    pub(super) async fn revision_now(&self) -> Answer {
        let mut question = self.join();
        let answer = match question.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone(),
            Err(_) => None,
        };
        answer.unwrap_or_else(|| Err(Unanswered::Away("the relay stops".to_owned())))
    }

    /// The next question, which is begun if nobody has.
    fn join(&self) -> Question {
        let mut questions = self.questions();
        if let Some(next) = &questions.next {
            return next.clone();
        }
        let (answered, next) = watch::channel(None);
        questions.next = Some(next.clone());
        let before = questions.sent.clone();
        drop(questions);
        self.0.arbiter.spawn(self.clone().ask(before, answered));
        next
    }

    async fn ask(self, before: Option<Question>, answered: watch::Sender<Option<Answer>>) {
        if let Some(mut before) = before {
            // Whatever becomes of it, it is our turn then.
            let _ = timeout(GATHER_MAX, before.wait_for(Option::is_some)).await;
        }
        {
            let mut questions = self.questions();
            // Whoever comes from now on may know of something that this question is too early for.
            questions.sent = questions.next.take();
        }
        let answer = revision_now(&self.0.endpoints, self.0.patience).await;
        answered.send_replace(Some(answer));
    }

    fn questions(&self) -> MutexGuard<'_, Questions> {
        // No step leaves it between two states that matter.
        self.0
            .questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
