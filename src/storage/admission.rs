//! Whether a write may be applied: alarms that are raised, the quota, and the space that the disk has left.
//!
//! It refuses and never changes a write. What gives space back, deletes and compactions, no shortage ever refuses.
//! A quota that is reached raises an alarm, which stays until it is taken back; a disk that is full needs no alarm, since
//! the writes go on by themselves when there is room again (D5).

use super::codec::{KEY_ALARMS, decode_alarms, encode_alarms};
use super::core::Core;
use super::database::{Change, Database};
use super::space::Space;
use super::{ApplyError, StorageError};
use crate::fault::{self, Fault};
use crate::model::{Alarm, AlarmKind, Refusal, Write};
use bytes::Bytes;
use std::collections::BTreeSet;

/// The alarms that lie on the disk.
pub(crate) fn load(db: &dyn Database) -> Result<BTreeSet<Alarm>, StorageError> {
    match db.get(KEY_ALARMS)? {
        Some(bytes) => decode_alarms(bytes.as_ref()),
        None => Ok(BTreeSet::new()),
    }
}

/// What is known of the room for writes.
#[derive(Debug)]
pub(crate) struct Admission {
    space: Space,
    alarms: BTreeSet<Alarm>,
    /// An alarm was raised that is not on the disk yet.
    unwritten: bool,
    /// What was admitted and is not counted by the index yet, in bytes.
    uncounted_bytes: u64,
}

impl Admission {
    /// Looks at the disk.
    pub(crate) fn new(core: &Core) -> Result<Self, StorageError> {
        Ok(Self {
            space: Space::new(core)?,
            alarms: core.alarms().iter().copied().collect(),
            unwritten: false,
            uncounted_bytes: 0,
        })
    }

    /// Refuses a write for which there is no room, and raises the alarm when that is for the quota.
    pub(crate) fn check(&mut self, core: &Core, write: &Write) -> Result<(), ApplyError> {
        if write.changes() && self.is_raised(AlarmKind::Corrupt) {
            return Err(Refusal::CorruptCluster.into());
        }
        if !write.puts() {
            return Ok(());
        }
        if self.is_raised(AlarmKind::NoSpace) && !fault::active(Fault::NoSpaceForgotten) {
            return Err(Refusal::NoSpace.into());
        }
        let cost = write.quota_bytes();
        let held = core.sizes().live_bytes.saturating_add(self.uncounted_bytes);
        if held.saturating_add(cost) > core.limits.quota_bytes {
            log::warn!(
                "the quota of {} bytes is reached, and {held} are in use: puts are refused until the alarm is disarmed",
                core.limits.quota_bytes
            );
            self.unwritten |= self.alarms.insert(Alarm {
                member_id: core.identity.member_id,
                kind: AlarmKind::NoSpace,
            });
            return Err(Refusal::NoSpace.into());
        }
        if !self.space.admit(core, write.bytes())? {
            return Err(Refusal::NoSpace.into());
        }
        self.uncounted_bytes = self.uncounted_bytes.saturating_add(cost);
        Ok(())
    }

    /// Refuses to compact data that is known to be damaged.
    pub(crate) fn check_compaction(&self) -> Result<(), Refusal> {
        if self.is_raised(AlarmKind::Corrupt) {
            return Err(Refusal::CorruptCluster);
        }
        Ok(())
    }

    /// Raises an alarm or takes it back, durably; answers whether it is, or was, raised.
    pub(crate) fn set_alarm(
        &mut self,
        core: &Core,
        alarm: Alarm,
        raise: bool,
    ) -> Result<bool, StorageError> {
        let changed = if raise {
            self.alarms.insert(alarm)
        } else {
            self.alarms.remove(&alarm)
        };
        if changed {
            self.unwritten = true;
            self.write_alarms(core)?;
        }
        Ok(raise || changed)
    }

    /// Makes the alarms durable and then seen, if one was raised since the last time.
    pub(crate) fn write_alarms(&mut self, core: &Core) -> Result<(), StorageError> {
        if !self.unwritten {
            return Ok(());
        }
        let record = encode_alarms(&self.alarms)?;
        if !fault::active(Fault::AlarmNotDurable) {
            core.db.apply(vec![Change::Put(
                Bytes::from_static(KEY_ALARMS),
                record.into(),
            )])?;
            core.db.sync()?;
        }
        core.publish_alarms(self.alarms.iter().copied().collect());
        self.unwritten = false;
        Ok(())
    }

    /// What was admitted is counted, or forgotten; so many bytes were written, deletes included.
    pub(crate) fn written(&mut self, core: &Core, bytes: u64) {
        self.uncounted_bytes = 0;
        self.space.written(bytes);
        core.publish_disk_full(self.space.is_low());
    }

    fn is_raised(&self, kind: AlarmKind) -> bool {
        self.alarms.iter().any(|alarm| alarm.kind == kind)
    }
}
