//! The context of a Watcher: a mailbox, and a future to wait for. Half the memory of `actix::Context` (B3).
//!
//! It is a genuine actix context (messages come through an actix mailbox with its bound), but it runs no futures beside
//! the mailbox and hands out no address: the only strong handle to a watcher is its entry's recipient (P5).

use actix::dev::channel::{AddressReceiver, channel};
use actix::dev::{Envelope, Mailbox, OneshotSender, ToEnvelope};
use actix::prelude::*;
use std::fmt;
use std::pin::Pin;
use std::task::{self, Poll};

type Wait<A> = Pin<Box<dyn ActorFuture<A, Output = ()>>>;

/// An actor whose context is this one.
pub(crate) trait SlimActor: Actor<Context = SlimContext<Self>> + Send {}

impl<A: Actor<Context = SlimContext<A>> + Send> SlimActor for A {}

/// A context with a mailbox and nothing else.
pub(crate) struct SlimContext<A: SlimActor> {
    state: ActorState,
    wait: Option<Wait<A>>,
}

impl<A: SlimActor> fmt::Debug for SlimContext<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlimContext")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<A: SlimActor> ActorContext for SlimContext<A> {
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

impl<A: SlimActor> AsyncContext<A> for SlimContext<A> {
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
        self.wait = Some(match self.wait.take() {
            None => Box::pin(future),
            Some(first) => Box::pin(first.then(|(), _, _| future)),
        });
    }

    fn waiting(&self) -> bool {
        self.wait.is_some() || matches!(self.state, ActorState::Stopping | ActorState::Stopped)
    }

    fn cancel_future(&mut self, _handle: SpawnHandle) -> bool {
        false
    }
}

impl<A, M> ToEnvelope<A, M> for SlimContext<A>
where
    A: SlimActor + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, tx: Option<OneshotSender<M::Result>>) -> Envelope<A> {
        Envelope::new(message, tx)
    }
}

/// A running actor, in the place that owns it.
pub(super) struct Running<A: SlimActor> {
    actor: A,
    context: SlimContext<A>,
    mailbox: Mailbox<A>,
}

impl<A: SlimActor> Running<A> {
    /// An actor that has not started.
    pub(super) fn new(actor: A, mailbox: Mailbox<A>) -> Self {
        let context = SlimContext {
            state: ActorState::Started,
            wait: None,
        };
        Self {
            actor,
            context,
            mailbox,
        }
    }

    /// Lets the actor do what there is to do; ready when its life is over.
    pub(super) fn poll_actor(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        if self.context.state == ActorState::Started {
            self.context.state = ActorState::Running;
            self.actor.started(&mut self.context);
        }
        loop {
            if self.context.state == ActorState::Running {
                if !self.poll_wait(cx) {
                    return Poll::Pending;
                }
                self.mailbox.poll(&mut self.actor, &mut self.context, cx);
            }
            if self.context.state != ActorState::Running
                || (!self.context.waiting() && !self.mailbox.connected())
            {
                self.finish();
                return Poll::Ready(());
            }
            if !self.context.waiting() {
                return Poll::Pending;
            }
        }
    }

    /// Ends the actor's life, once.
    fn finish(&mut self) {
        if self.context.state != ActorState::Stopped {
            self.context.state = ActorState::Stopped;
            self.actor.stopped(&mut self.context);
        }
    }

    /// Polls what the actor waits for; true when it waits no more.
    fn poll_wait(&mut self, cx: &mut task::Context<'_>) -> bool {
        while let Some(mut wait) = self.context.wait.take() {
            if wait
                .as_mut()
                .poll(&mut self.actor, &mut self.context, cx)
                .is_pending()
            {
                // What the future itself asked to wait for comes after it.
                self.context.wait = Some(match self.context.wait.take() {
                    None => wait,
                    Some(next) => Box::pin(wait.then(|(), _, _| next)),
                });
                return false;
            }
        }
        true
    }
}

impl<A: SlimActor> Drop for Running<A> {
    /// The arbiter stops, or a handler panicked: the actor's end is told all the same.
    fn drop(&mut self) {
        if self.context.state != ActorState::Started {
            self.finish();
        }
    }
}
