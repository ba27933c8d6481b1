//! The context of a Watcher: a mailbox, and a future to wait for. Half the memory of `actix::Context` (B3).
//!
//! It is a genuine actix context (messages come through an actix mailbox with its bound), but it runs no futures beside
//! the mailbox and hands out no address: the only strong handle to a watcher is its entry's recipient (P5).

use actix::dev::channel::{AddressReceiver, channel};
use actix::dev::{Envelope, Mailbox, OneshotSender, ToEnvelope};
use actix::prelude::*;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};

type Wait<A> = Pin<Box<dyn ActorFuture<A, Output = ()>>>;

/// A context with a mailbox and nothing else.
pub(crate) struct SlimContext<A: Actor<Context = Self>> {
    state: ActorState,
    waits: Vec<Wait<A>>,
}

impl<A: Actor<Context = Self>> SlimContext<A> {
    /// Starts an actor on the current arbiter and returns its one address. `mailbox_messages_max` is exact as long as
    /// that address is not cloned.
    pub(crate) fn start(actor: A, mailbox_messages_max: usize) -> Addr<A> {
        let (sender, receiver) = channel(mailbox_messages_max);
        let context = Self {
            state: ActorState::Started,
            waits: Vec::new(),
        };
        // Boxed, because a task is rounded up to 128 bytes: with a pointer in it one does, and the rest is as large as it
        // is (B3).
        actix::spawn(Box::new(Running {
            actor,
            context,
            mailbox: Mailbox::new(receiver),
        }));
        Addr::new(sender)
    }
}

impl<A: Actor<Context = Self>> fmt::Debug for SlimContext<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlimContext")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<A: Actor<Context = Self>> ActorContext for SlimContext<A> {
    fn stop(&mut self) {
        self.state = ActorState::Stopping;
    }

    fn terminate(&mut self) {
        self.state = ActorState::Stopped;
    }

    fn state(&self) -> ActorState {
        self.state
    }
}

impl<A: Actor<Context = Self>> AsyncContext<A> for SlimContext<A> {
    /// An address of nobody: a second strong handle would bring a mailbox slot of its own and keep the watcher alive.
    fn address(&self) -> Addr<A> {
        let (sender, _closed): (_, AddressReceiver<A>) = channel(1);
        Addr::new(sender)
    }

    /// The same as [`AsyncContext::wait`]: nothing runs beside the mailbox here.
    fn spawn<F>(&mut self, future: F) -> SpawnHandle
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        self.wait(future);
        SpawnHandle::default()
    }

    fn wait<F>(&mut self, future: F)
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        self.waits.push(Box::pin(future));
    }

    fn waiting(&self) -> bool {
        !self.waits.is_empty() || matches!(self.state, ActorState::Stopping | ActorState::Stopped)
    }

    fn cancel_future(&mut self, _handle: SpawnHandle) -> bool {
        false
    }
}

impl<A, M> ToEnvelope<A, M> for SlimContext<A>
where
    A: Actor<Context = Self> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, tx: Option<OneshotSender<M::Result>>) -> Envelope<A> {
        Envelope::new(message, tx)
    }
}

/// A running actor: the task that owns it.
struct Running<A: Actor<Context = SlimContext<A>>> {
    actor: A,
    context: SlimContext<A>,
    mailbox: Mailbox<A>,
}

impl<A: Actor<Context = SlimContext<A>>> Running<A> {
    /// Ends the actor's life, once.
    fn finish(&mut self) {
        if self.context.state != ActorState::Stopped {
            self.context.state = ActorState::Stopped;
            self.actor.stopped(&mut self.context);
        }
    }

    /// Polls what the actor waits for; true when it waits no more.
    fn poll_waits(&mut self, cx: &mut task::Context<'_>) -> bool {
        while let Some(mut wait) = self.context.waits.pop() {
            if wait
                .as_mut()
                .poll(&mut self.actor, &mut self.context, cx)
                .is_pending()
            {
                self.context.waits.push(wait);
                return false;
            }
        }
        true
    }
}

// Nothing in it is pinned structurally: the future moves its parts freely.
impl<A: Actor<Context = SlimContext<A>>> Unpin for Running<A> {}

impl<A: Actor<Context = SlimContext<A>>> Future for Running<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.context.state == ActorState::Started {
            this.context.state = ActorState::Running;
            this.actor.started(&mut this.context);
        }
        loop {
            if this.context.state == ActorState::Running {
                if !this.poll_waits(cx) {
                    return Poll::Pending;
                }
                this.mailbox.poll(&mut this.actor, &mut this.context, cx);
            }
            if this.context.state != ActorState::Running
                || (!this.context.waiting() && !this.mailbox.connected())
            {
                this.finish();
                return Poll::Ready(());
            }
            if !this.context.waiting() {
                return Poll::Pending;
            }
        }
    }
}

impl<A: Actor<Context = SlimContext<A>>> Drop for Running<A> {
    /// The arbiter stops, or a handler panicked: the actor's end is told all the same.
    fn drop(&mut self) {
        if self.context.state != ActorState::Started {
            self.finish();
        }
    }
}
