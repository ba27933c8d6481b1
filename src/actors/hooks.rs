//! Where a simulation may make an actor wait before it goes on (T5): before a stream is sent to, before a slice of
//! Sync, before a victim is tried again, before progress is looked at.
//!
//! And where the engine says which of its rare ways it took, so that a simulation knows what it has tried. Outside the
//! crate's own tests nobody ever waits here, nobody counts, and the question costs nothing.

use actix::prelude::*;

/// A place where an actor may be made to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookPoint {
    /// A watcher is about to put events in its stream's outbox.
    StreamSend,
    /// Sync is about to do a slice of its work.
    SyncSlice,
    /// `VictimRetry` is about to try a victim again.
    VictimRetry,
    /// The group is about to see whether progress can be told.
    ProgressCheck,
}

/// Goes on now, or when the simulation says so; until then the actor handles nothing else.
pub(crate) fn pass<A>(
    point: HookPoint,
    actor: &mut A,
    ctx: &mut A::Context,
    go_on: impl FnOnce(&mut A, &mut A::Context) + 'static,
) where
    A: Actor,
    A::Context: AsyncContext<A>,
{
    match pause(point) {
        None => go_on(actor, ctx),
        Some(time) => {
            let pause = tokio::time::sleep(time).into_actor(actor);
            ctx.wait(pause.map(|(), actor, ctx| go_on(actor, ctx)));
        }
    }
}

/// A rare way that the engine took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Met {
    /// A watcher was full and became a victim.
    Victim,
    /// A victim could not keep its batch, because too many bytes were pinned.
    VictimWithoutBatch,
    /// The ring had lost what the group needed next, while it had watchers.
    Overrun,
    /// A watcher that was behind came back to the group.
    HandOver,
    /// A watcher that came back was given what was committed meanwhile.
    LastStretch,
    /// A watcher was held so that progress could be told.
    Held,
}

#[cfg(test)]
impl Met {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Victim,
        Self::VictimWithoutBatch,
        Self::Overrun,
        Self::HandOver,
        Self::LastStretch,
        Self::Held,
    ];
}

/// The engine took this way.
#[cfg(not(test))]
pub(crate) const fn met(_way: Met) {}

#[cfg(not(test))]
const fn pause(_point: HookPoint) -> Option<std::time::Duration> {
    None
}

#[cfg(test)]
use in_simulation::pause;
#[cfg(test)]
pub(crate) use in_simulation::{Pauses, met, on_this_thread, take_met};

#[cfg(test)]
mod in_simulation {
    use super::{HookPoint, Met};
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::time::Duration;

    /// Says how long to wait.
    pub(crate) type Pauses = Box<dyn FnMut(HookPoint) -> Option<Duration>>;

    thread_local! {
        static PAUSES: RefCell<Option<Pauses>> = const { RefCell::new(None) };
        static MET: RefCell<BTreeMap<Met, u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// The engine took this way.
    pub(crate) fn met(way: Met) {
        MET.with(|it| *it.borrow_mut().entry(way).or_default() += 1);
    }

    /// How often the engines of this thread took each way since this was asked last.
    pub(crate) fn take_met() -> BTreeMap<Met, u64> {
        MET.with(|it| std::mem::take(&mut *it.borrow_mut()))
    }

    /// From now on all actors of this thread wait as long as they are told here.
    pub(crate) fn on_this_thread(pauses: Option<Pauses>) {
        PAUSES.with(|it| *it.borrow_mut() = pauses);
    }

    pub(super) fn pause(point: HookPoint) -> Option<Duration> {
        PAUSES.with(|it| it.borrow_mut().as_mut().and_then(|pauses| pauses(point)))
    }
}
