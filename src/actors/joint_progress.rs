//! Progress of a client's stream whose watches are served from several rings, each by a group of its own.
//!
//! What the whole stream has come to is the least of what its parts have come to, and it is said once all of them have said
//! so. It never goes back, neither behind itself nor behind an event. Nothing here knows a group or an outbox.

use crate::model::Revision;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
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
pub(crate) struct JointProgress {
    /// The parts that were asked, with what they have said since.
    asked: Mutex<BTreeMap<usize, Option<Revision>>>,
    /// The highest revision that the client may have heard of, by an event of any part or by progress of the whole.
    told: AtomicI64,
    /// All parts have said how far they are, and the client had heard of more by then.
    is_overtaken: AtomicBool,
}

impl JointProgress {
    /// The client asks: from now on these parts, and no others, are waited for.
    pub(crate) fn ask(&self, parts: impl IntoIterator<Item = usize>) {
        *self.asked() = parts.into_iter().map(|part| (part, None)).collect();
        self.is_overtaken.store(false, Ordering::Release);
    }

    /// The client may have heard of this revision by an event.
    pub(crate) fn note_told(&self, revision: Revision) {
        self.told.fetch_max(revision.0, Ordering::AcqRel);
    }

    /// A part has come so far. Answers with what may be said of the whole, if this was the last part to say so.
    pub(crate) fn said(&self, part: usize, revision: Revision) -> Option<Revision> {
        let mut asked = self.asked();
        let said = asked.get_mut(&part)?;
        *said = Some(said.unwrap_or_default().max(revision));
        let least = asked.values().copied().min()??;
        asked.clear();
        // A watch that came later may stand before what was said already, and a part that has said how far it is goes on
        // with events while another is waited for: then the client is better told nothing, and the parts are asked again.
        if least.0 < self.told.fetch_max(least.0, Ordering::AcqRel) {
            self.is_overtaken.store(true, Ordering::Release);
            return None;
        }
        Some(least)
    }

    /// True when the last question was answered by all parts and not by the whole, so that it should be asked again.
    pub(crate) fn is_overtaken(&self) -> bool {
        self.is_overtaken.load(Ordering::Acquire)
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<usize, Option<Revision>>> {
        // No step leaves it between two states that matter.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn it_never_goes_back_behind_an_event_that_a_part_has_told_of_meanwhile() {
        let joint = JointProgress::default();
        joint.ask([0, 1]);
        assert_eq!(joint.said(0, Revision(7)), None);
        joint.note_told(Revision(9));
        assert!(!joint.is_overtaken());
        assert_eq!(joint.said(1, Revision(8)), None);
        assert!(joint.is_overtaken());
        joint.ask([0, 1]);
        assert!(!joint.is_overtaken());
        joint.said(0, Revision(9));
        assert_eq!(joint.said(1, Revision(9)), Some(Revision(9)));
    }
}
