//! The engine's face for operators.
//!
//! It passes orders on, and decides nothing.

use super::{Engine, EngineError};
use crate::actors::protocol::{Compact, SetAlarm};
use crate::model::{Alarm, Revision};

impl Engine {
    /// Forgets history below a revision; with `physical` returns when the disk has forgotten it too.
    pub async fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> Result<Revision, EngineError> {
        let compact = |permit| Compact {
            revision,
            physical,
            permit,
        };
        self.order(0, compact).await
    }

    /// Raises an alarm or takes it back, durably; answers whether it is, or was, raised.
    pub async fn set_alarm(&self, alarm: Alarm, raise: bool) -> Result<bool, EngineError> {
        let set = |permit| SetAlarm {
            alarm,
            raise,
            permit,
        };
        self.order(0, set).await
    }
}
