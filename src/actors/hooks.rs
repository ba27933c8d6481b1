//! Where a simulation may make an actor wait before it goes on (T5): before a stream is sent to, before a slice of
//! Sync, before a victim is tried again, before progress is looked at.
//!
//! Outside the crate's own tests nobody ever waits here, and the question costs nothing.

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

#[cfg(not(test))]
const fn pause(_point: HookPoint) -> Option<std::time::Duration> {
    None
}

#[cfg(test)]
use in_simulation::pause;
#[cfg(test)]
pub(crate) use in_simulation::{Pauses, on_this_thread};

#[cfg(test)]
mod in_simulation {
    use super::HookPoint;
    use std::cell::RefCell;
    use std::time::Duration;

    /// Says how long to wait.
    pub(crate) type Pauses = Box<dyn FnMut(HookPoint) -> Option<Duration>>;

    thread_local! {
        static PAUSES: RefCell<Option<Pauses>> = const { RefCell::new(None) };
    }

    /// From now on all actors of this thread wait as long as they are told here.
    pub(crate) fn on_this_thread(pauses: Option<Pauses>) {
        PAUSES.with(|it| *it.borrow_mut() = pauses);
    }

    pub(super) fn pause(point: HookPoint) -> Option<Duration> {
        PAUSES.with(|it| it.borrow_mut().as_mut().and_then(|pauses| pauses(point)))
    }
}
