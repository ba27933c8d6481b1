//! Progress of a client's stream whose watches are served from several rings, each by a group of its own.
//!
//! What the whole stream has come to is the least of what its parts have come to, and it is said once all of them have said
//! so. It never goes back. Nothing here knows a group or an outbox.

use crate::model::Revision;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One part of a client's stream.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Which.
    pub(crate) number: usize,
    /// The whole.
    pub(crate) joint: Arc<JointProgress>,
}

/// The progress of a whole stream.
#[derive(Debug, Default)]
pub(crate) struct JointProgress(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The parts that were asked, with what they have said since.
    asked: BTreeMap<usize, Option<Revision>>,
    /// What was said of the whole last.
    told: Revision,
}

impl JointProgress {
    /// The client asks: from now on these parts, and no others, are waited for.
    pub(crate) fn ask(&self, parts: impl IntoIterator<Item = usize>) {
        self.state().asked = parts.into_iter().map(|part| (part, None)).collect();
    }

    /// A part has come so far. Answers with what may be said of the whole, if this was the last part to say so.
    pub(crate) fn said(&self, part: usize, revision: Revision) -> Option<Revision> {
        let mut state = self.state();
        let said = state.asked.get_mut(&part)?;
        *said = Some(said.unwrap_or_default().max(revision));
        let least = state.asked.values().copied().min()??;
        state.asked.clear();
        // A watch that came later may stand before what was said already: then the client is better told nothing, and
        // asks again.
        if least < state.told {
            return None;
        }
        state.told = least;
        Some(least)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No step leaves it between two states that matter.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_has_come_as_far_as_its_least_part_once_all_have_said_so() {
        let joint = JointProgress::default();
        assert_eq!(joint.said(0, Revision(9)), None, "nobody has asked");
        joint.ask([0, 1]);
        assert_eq!(joint.said(0, Revision(9)), None);
        assert_eq!(joint.said(2, Revision(5)), None, "that one was not asked");
        assert_eq!(joint.said(1, Revision(7)), Some(Revision(7)));
        assert_eq!(joint.said(1, Revision(8)), None, "it is answered");
    }

    #[test]
    fn it_never_goes_back() {
        let joint = JointProgress::default();
        joint.ask([0]);
        assert_eq!(joint.said(0, Revision(7)), Some(Revision(7)));
        joint.ask([0, 1]);
        joint.said(0, Revision(9));
        assert_eq!(joint.said(1, Revision(6)), None);
        joint.ask([0, 1]);
        joint.said(0, Revision(9));
        assert_eq!(joint.said(1, Revision(8)), Some(Revision(8)));
    }
}
