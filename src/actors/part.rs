//! What the parts of one client's stream have in common, when its watches are served from several rings.
//!
//! Each part is right about its own watches and knows nothing of the others: so while there are several, none speaks for the
//! stream as a whole.

use crate::fault::{self, Fault};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A client's stream as its parts know it. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whole(Arc<AtomicBool>);

impl Whole {
    /// There are several parts from now on, or one again. To be said before a watch is registered in a second part, and taken
    /// back only while no progress is asked for.
    pub(crate) fn set_several(&self, several: bool) {
        self.0.store(several, Ordering::SeqCst);
    }

    /// True while no part may speak for the others.
    pub(crate) fn is_several(&self) -> bool {
        self.0.load(Ordering::SeqCst) && !fault::active(Fault::PartSpeaksForWhole)
    }
}
