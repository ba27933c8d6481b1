//! What Store does besides writes and compactions, at an operator's word or by itself.
//!
//! It never waits for a defragmentation: that goes on beside all writes.

use super::Store;
use crate::actors::protocol::{Defragment, OrderError, SetAlarm};
use crate::storage::Writer;
use actix::prelude::*;
use std::time::Duration;

/// How often Store looks whether a defragmentation is due.
const DEFRAGMENT_INTERVAL: Duration = Duration::from_mins(1);

/// The pause between two parts of a defragmentation for which there is no thread.
const DEFRAGMENT_PAUSE: Duration = Duration::from_millis(1);

/// Do a part of a defragmentation.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct DefragmentSome;

/// Look whether a defragmentation is due.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct DefragmentTick;

impl Store {
    /// Looks again later whether a defragmentation is due.
    pub(super) fn schedule_defragmentation(ctx: &Context<Self>) {
        Self::remind(DefragmentTick, DEFRAGMENT_INTERVAL, ctx);
    }

    /// Sends itself a message after a while, if it is still there: what waits in its own context would keep the store of an
    /// engine that was dropped alive for ever.
    pub(super) fn remind<M>(message: M, after: Duration, ctx: &Context<Self>)
    where
        M: Message<Result = ()> + Send + 'static,
        Self: Handler<M>,
    {
        let store = ctx.address().downgrade();
        actix::spawn(async move {
            actix_rt::time::sleep(after).await;
            if let Some(store) = store.upgrade() {
                store.do_send(message);
            }
        });
    }
}

impl Handler<DefragmentTick> for Store {
    type Result = ();

    fn handle(&mut self, _tick: DefragmentTick, ctx: &mut Self::Context) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        if writer.is_defragmentation_due() {
            log::info!("defragmenting by itself");
            writer.defragment(Box::new(|defragmented| match defragmented {
                Ok(()) => log::info!("defragmented"),
                Err(error) => log::warn!("not defragmented: {error}"),
            }));
            Self::remind(DefragmentSome, DEFRAGMENT_PAUSE, ctx);
        }
        Self::schedule_defragmentation(ctx);
    }
}

impl Handler<DefragmentSome> for Store {
    type Result = ();

    fn handle(&mut self, _some: DefragmentSome, ctx: &mut Self::Context) {
        if self.writer.as_mut().is_some_and(Writer::defragment_some) {
            Self::remind(DefragmentSome, DEFRAGMENT_PAUSE, ctx);
        }
    }
}

impl Handler<Defragment> for Store {
    type Result = Result<(), OrderError>;

    fn handle(&mut self, message: Defragment, ctx: &mut Self::Context) -> Self::Result {
        let Some(writer) = &mut self.writer else {
            return Err(self.gone());
        };
        writer.defragment(message.done);
        Self::remind(DefragmentSome, DEFRAGMENT_PAUSE, ctx);
        drop(message.permit);
        Ok(())
    }
}

/// An alarm waits for the writes that came before it.
impl Handler<SetAlarm> for Store {
    type Result = Result<bool, OrderError>;

    fn handle(&mut self, message: SetAlarm, _ctx: &mut Self::Context) -> Self::Result {
        while !self.queue.is_empty() {
            self.commit_group();
        }
        let Some(writer) = &mut self.writer else {
            return Err(self.gone());
        };
        let set = writer.set_alarm(message.alarm, message.raise);
        drop(message.permit);
        set.map_err(|error| OrderError::Failed(self.fail(&error).0))
    }
}
