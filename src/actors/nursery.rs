//! Where the watchers of one stream live: one task that runs those of them that have something to do.
//!
//! A task of its own for every watcher would take 130 bytes more (B3). It knows nothing of what an actor does, never runs
//! one that was not woken, and gives the thread back after [`TURN_ACTORS_MAX`] of them. When one of them panics all
//! end, as their stream has to (P6).

use super::slim_context::{Running, SlimActor};
use crate::watch::Chunked;
use actix::dev::Mailbox;
use actix::dev::channel::channel;
use actix::prelude::*;
use futures_util::task::AtomicWaker;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// How many actors run before the thread is given back.
const TURN_ACTORS_MAX: usize = 128;

/// The place of an actor in its nursery.
type Place = u32;

/// The way into a nursery. When it is dropped, the nursery ends with the last of its actors.
pub(crate) struct Nursery<A: SlimActor> {
    shared: Arc<Shared<A>>,
}

impl<A: SlimActor> fmt::Debug for Nursery<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nursery").finish_non_exhaustive()
    }
}

impl<A: SlimActor> Nursery<A> {
    /// An empty one, on the current arbiter.
    pub(crate) fn open() -> Self {
        let shared = Arc::new(Shared {
            turn: Mutex::new(Turn {
                arrived: Vec::new(),
                woken: Vec::new(),
                closed: false,
            }),
            task: AtomicWaker::new(),
        });
        actix::spawn(Residents {
            shared: Arc::clone(&shared),
            actors: Chunked::new(),
            vacant: Vec::new(),
            woken: Vec::new(),
        });
        Self { shared }
    }

    /// Starts an actor and returns its one address. `mailbox_messages_max` is exact as long as that address is not
    /// cloned. In a nursery that has ended it never starts, and its address says at once that nobody lives there.
    pub(crate) fn start(&self, actor: A, mailbox_messages_max: usize) -> Addr<A> {
        let (sender, receiver) = channel(mailbox_messages_max);
        let arrival = (actor, Mailbox::new(receiver));
        if self.shared.admit(arrival).is_ok() {
            self.shared.task.wake();
        }
        Addr::new(sender)
    }
}

impl<A: SlimActor> Drop for Nursery<A> {
    fn drop(&mut self) {
        self.shared.turn().closed = true;
        self.shared.task.wake();
    }
}

/// What the nursery, its task and the wakers of its actors share.
struct Shared<A: SlimActor> {
    turn: Mutex<Turn<A>>,
    /// Wakes the task.
    task: AtomicWaker,
}

/// What there is to do.
struct Turn<A: SlimActor> {
    /// Actors that were not run yet.
    arrived: Vec<Arrival<A>>,
    /// Actors that something has happened to, in that order.
    woken: Vec<Place>,
    /// Nobody can come any more: the way in is gone, or the task is.
    closed: bool,
}

/// An actor that has yet to get a place.
type Arrival<A> = (A, Mailbox<A>);

impl<A: SlimActor> Shared<A> {
    fn turn(&self) -> MutexGuard<'_, Turn<A>> {
        // Nothing that can panic runs under this lock.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an actor in, or gives it back when nobody is there to run it: a mailbox that nobody reads would keep those
    /// who wait for an answer waiting for ever.
    fn admit(&self, arrival: Arrival<A>) -> Result<(), Arrival<A>> {
        let mut turn = self.turn();
        if turn.closed {
            return Err(arrival);
        }
        turn.arrived.push(arrival);
        Ok(())
    }

    /// Lets nobody in any more.
    fn close(&self) -> Vec<Arrival<A>> {
        let mut turn = self.turn();
        turn.closed = true;
        mem::take(&mut turn.arrived)
    }
}

/// Wakes one actor.
struct Nudge<A: SlimActor> {
    shared: Arc<Shared<A>>,
    place: Place,
    /// The actor is among the woken already.
    woken: AtomicBool,
}

impl<A: SlimActor> Wake for Nudge<A> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            let mut turn = self.shared.turn();
            turn.woken.push(self.place);
            // With others before it the task is awake already.
            let is_first = turn.woken.len() == 1;
            drop(turn);
            if is_first {
                self.shared.task.wake();
            }
        }
    }
}

/// An actor in its place.
struct Resident<A: SlimActor> {
    running: Running<A>,
    nudge: Arc<Nudge<A>>,
}

/// The task that runs a nursery's actors.
struct Residents<A: SlimActor> {
    shared: Arc<Shared<A>>,
    actors: Chunked<Option<Resident<A>>>,
    /// Places that nobody has.
    vacant: Vec<Place>,
    /// Those that this task has yet to run, the next one last.
    woken: Vec<Place>,
}

impl<A: SlimActor> Drop for Residents<A> {
    /// An actor panicked, or the arbiter stops: those that did not start yet never will.
    fn drop(&mut self) {
        drop(self.shared.close());
    }
}

// Nothing in it is pinned.
impl<A: SlimActor> Unpin for Residents<A> {}

impl<A: SlimActor> Residents<A> {
    /// Gives an actor a place, and makes it the next to run after those that arrived before it.
    fn settle(&mut self, (actor, mailbox): Arrival<A>) {
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.actors.push(None);
            // Memory ends long before the four billion places that there are.
            Place::try_from(self.actors.len() - 1).unwrap_or(Place::MAX)
        });
        let resident = Resident {
            running: Running::new(actor, mailbox),
            nudge: Arc::new(Nudge {
                shared: Arc::clone(&self.shared),
                place,
                woken: AtomicBool::new(true),
            }),
        };
        if let Some(vacant) = self.actors.get_mut(place as usize) {
            *vacant = Some(resident);
        }
        self.woken.push(place);
    }

    fn is_empty(&self) -> bool {
        self.vacant.len() == self.actors.len()
    }

    /// Takes over what there is to do, when all that was taken over before is done.
    fn take_over(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut turn = shared.turn();
        let arrived = mem::take(&mut turn.arrived);
        mem::swap(&mut turn.woken, &mut self.woken);
        drop(turn);
        for arrival in arrived {
            self.settle(arrival);
        }
        self.woken.reverse();
    }

    fn run(&mut self, place: Place) {
        let Some(home) = self.actors.get_mut(place as usize) else {
            return;
        };
        let Some(resident) = home else {
            // It ended, and something that it had waited for came late.
            return;
        };
        // Before it runs: what happens from now on wakes it again.
        resident.nudge.woken.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&resident.nudge));
        let running = &mut resident.running;
        if running
            .poll_actor(&mut Context::from_waker(&waker))
            .is_ready()
        {
            *home = None;
            self.vacant.push(place);
            if self.is_empty() {
                self.actors = Chunked::new();
                self.vacant = Vec::new();
            }
        }
    }
}

impl<A: SlimActor> Future for Residents<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.shared.task.register(cx.waker());
        for _ in 0..TURN_ACTORS_MAX {
            if this.woken.is_empty() {
                this.take_over();
            }
            let Some(place) = this.woken.pop() else {
                return if this.is_empty() && this.shared.turn().closed {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                };
            };
            this.run(place);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
