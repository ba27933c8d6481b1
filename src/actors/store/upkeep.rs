//! What Store does besides writes and compactions, at an operator's word.
//!
//! Every order here waits for the writes that came before it.

use super::Store;
use crate::actors::protocol::{OrderError, SetAlarm};
use actix::prelude::*;

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
