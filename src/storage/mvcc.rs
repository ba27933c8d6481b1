//! The writer: applies writes to an overlay, commits them as one durable group, compacts.
//!
//! There is one, and it blocks on the disk. A refused write leaves no trace; an error of the disk is never retried,
//! and after one the writer refuses everything (D4). Nobody sees a revision before it is durable.

use super::admission::Admission;
use super::checkpoint::Checkpointer;
use super::codec::Identity;
use super::compaction::{CompactionStep, Compactor};
use super::core::Core;
use super::database::Defragmented;
use super::group::{Blocks, GroupWriter};
use super::overlay::{LeaseChanges, Overlay};
use super::readers::ReaderPool;
use super::session::Session;
use super::txn;
use super::upkeep::{self, DefragmentRule};
use super::{ApplyError, StorageError};
use crate::fault::{self, Fault};
use crate::model::{
    Alarm, Commit, EventKind, KeyValue, OpAnswer, OpBody, Refusal, Revision, Write, WriteAnswer,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The one writer of a store.
#[derive(Debug)]
pub struct Writer {
    pub(super) core: Arc<Core>,
    pool: Arc<ReaderPool>,
    overlay: Overlay,
    admission: Admission,
    compactor: Compactor,
    checkpointer: Checkpointer,
    defragment_rule: DefragmentRule,
    /// The first error of the disk: the end of all writing.
    failed: Option<StorageError>,
}

impl Writer {
    pub(super) fn new(
        core: Arc<Core>,
        pool: Arc<ReaderPool>,
        compactor: Compactor,
        checkpointer: Checkpointer,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            overlay: Overlay::new(core.revision()),
            admission: Admission::new(core.as_ref())?,
            defragment_rule: DefragmentRule::default(),
            failed: None,
            compactor,
            checkpointer,
            core,
            pool,
        })
    }

    /// The last applied revision; what follows the published one is not durable yet.
    pub fn revision(&self) -> Revision {
        self.overlay.revision()
    }

    /// Which store this is.
    pub fn identity(&self) -> Identity {
        self.core.identity
    }

    /// Applies a write, whose shape was checked, on top of all applied before it. Nobody sees it before
    /// [`Self::commit`]. With `want_prev` its events know what their keys were before.
    pub fn apply(&mut self, write: &Write, want_prev: bool) -> Result<WriteAnswer, ApplyError> {
        self.check_alive()?;
        match self.admission.check(&self.core, write) {
            Ok(()) => {}
            Err(ApplyError::Failed(error)) => return Err(self.fail(error).into()),
            Err(refused) => return Err(refused),
        }
        let mut session = Session {
            core: &self.core,
            overlay: &mut self.overlay,
            want_prev,
        };
        match run(&mut session, write) {
            Ok(body) => {
                let revision = if fault::active(Fault::AnswerRevisionStale) {
                    session.overlay.revision()
                } else {
                    session.overlay.running_revision()
                };
                self.overlay.close(&self.core.index().leases);
                Ok(OpAnswer { revision, body })
            }
            Err(ApplyError::Refused(refusal)) => {
                self.overlay.roll_back();
                Err(refusal.into())
            }
            Err(ApplyError::Failed(error)) => Err(self.fail(error).into()),
        }
    }

    /// Makes everything applied durable, publishes it, and answers it in order. Without anything applied the disk is
    /// left alone.
    pub fn commit(&mut self) -> Result<Vec<Arc<Commit>>, StorageError> {
        self.check_alive()?;
        // Whoever is refused by an alarm is answered after this.
        if let Err(error) = self.admission.write_alarms(&self.core) {
            return Err(self.fail(error));
        }
        if self.overlay.is_empty() {
            self.admission.written(&self.core, 0);
            return Ok(Vec::new());
        }
        if fault::active(Fault::PublishBeforeSync) {
            let (keys, blocks) = (BTreeMap::new(), Vec::new());
            let revision = self.overlay.revision();
            self.core
                .merge(keys, LeaseChanges::default(), blocks, revision);
        }
        let blocks = match self.write_group() {
            Ok(blocks) => blocks,
            Err(error) => return Err(self.fail(error)),
        };
        let (commits, keys, leases) = self.overlay.take();
        // Before the revision is published, so that its first readers find the values in memory.
        let mut bytes = 0;
        for (event, sub) in commits
            .iter()
            .flat_map(|(_, events)| events.iter().zip(0..))
        {
            bytes += event.kv.bytes() as u64;
            if event.kind == EventKind::Put {
                let main = event.kv.mod_revision;
                let kv: Arc<KeyValue> = Arc::new(event.kv.clone());
                self.core
                    .values
                    .insert(super::codec::Place { main, sub }, kv);
            }
        }
        let revision = self.overlay.base();
        self.core.merge(keys, leases, blocks, revision);
        self.admission.written(&self.core, bytes);
        self.core.measure();
        if self.compactor.is_idle() {
            let steps = self.compactor.steps();
            self.checkpointer.after_commit(&self.core, steps);
        }
        let commit = |(revision, events)| Arc::new(Commit { revision, events });
        Ok(commits.into_iter().map(commit).collect())
    }

    /// Writes what is applied to the disk, and returns when it is durable.
    fn write_group(&self) -> Result<Blocks, StorageError> {
        let mut group = GroupWriter::new(&self.core);
        group.add_leases(self.overlay.leases())?;
        for (revision, events) in self.overlay.commits() {
            group.add(revision, events)?;
        }
        group.finish()
    }

    /// Forgets everything that only revisions below `revision` need: at once for readers, durably, and step by step on
    /// the disk. Nothing may wait for its commit.
    pub fn compact(&mut self, revision: Revision) -> Result<(), ApplyError> {
        self.check_alive()?;
        if !self.overlay.is_empty() {
            return Err(StorageError::Uncommitted.into());
        }
        self.admission.check_compaction()?;
        let compact_revision = self.core.compact_revision();
        if revision <= compact_revision {
            return Err(Refusal::Compacted { compact_revision }.into());
        }
        let current = self.core.revision();
        if revision > current {
            return Err(Refusal::FutureRevision { current }.into());
        }
        match self.compactor.schedule(&self.core, revision) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(error).into()),
        }
    }

    /// Raises an alarm or takes it back; answers whether it is, or was, raised.
    pub fn set_alarm(&mut self, alarm: Alarm, raise: bool) -> Result<bool, StorageError> {
        self.check_alive()?;
        let set = self.admission.set_alarm(&self.core, alarm, raise);
        set.map_err(|error| self.fail(error))
    }

    /// Does one bounded part of the work that compactions have left.
    pub fn compaction_step(&mut self) -> Result<CompactionStep, StorageError> {
        self.check_alive()?;
        let step = self.compactor.step(&self.core);
        step.map_err(|error| self.fail(error))
    }

    /// Gives up those who read all of the store and have not read on since this was called last.
    pub fn give_up_idle_reads(&mut self) {
        let given_up = self.core.holds.give_up_idle();
        if given_up > 0 {
            log::warn!(
                "{given_up} reads of all of the store were given up: a compaction waits for them"
            );
        }
    }

    /// Gives back what the data does not use of the disk, beside reads and writes. `done` is called on another thread; without
    /// threads ([`Readers::Inline`](super::Readers::Inline)) on this one, by this call, a later commit or
    /// [`Self::defragment_some`].
    pub fn defragment(&mut self, done: Defragmented) {
        match self.check_alive() {
            Ok(()) => upkeep::defragment(&self.core, done),
            Err(error) => done(Err(error)),
        }
    }

    /// Does a part of a defragmentation, where no thread does; true if there is more for whoever calls this. Commits do so
    /// too.
    pub fn defragment_some(&mut self) -> bool {
        self.core.db.pass()
    }

    /// Whether the data takes so much more of the disk than what is live that it should be defragmented unasked.
    pub fn is_defragmentation_due(&mut self) -> bool {
        match self.defragment_rule.is_due(&self.core) {
            Ok(is_due) => is_due && self.failed.is_none(),
            Err(error) => {
                log::warn!("whether there is room to defragment is unknown: {error}");
                false
            }
        }
    }

    /// Ends the store in good order. The directory is free once every view is gone too.
    pub fn close(mut self) -> Result<(), StorageError> {
        let committed = self.commit();
        self.pool.stop();
        let closed = committed.and_then(|_| {
            self.checkpointer.close(&self.core, self.compactor.steps());
            self.core.db.sync()
        });
        self.core.db.close();
        closed
    }

    fn check_alive(&self) -> Result<(), StorageError> {
        match &self.failed {
            Some(_) if fault::active(Fault::WriterGoesOnAfterError) => Ok(()),
            None => Ok(()),
            Some(first) => Err(StorageError::Failed {
                because: first.to_string(),
            }),
        }
    }

    /// Ends all writing. What was applied is forgotten: nobody was told of it.
    fn fail(&mut self, error: StorageError) -> StorageError {
        let error = self.core.blame(error);
        log::error!("the store stops writing: {error}");
        self.overlay = Overlay::new(self.core.revision());
        self.failed = Some(error.clone());
        error
    }
}

fn run(session: &mut Session<'_>, write: &Write) -> Result<OpBody, ApplyError> {
    Ok(match write {
        Write::Put(put) => {
            session.check_put(put)?;
            let prev = session.put(put)?.map(txn::unshared);
            OpBody::Put { prev }
        }
        Write::Delete(delete) => {
            let (deleted, prevs) = session.delete(delete)?;
            let prevs = prevs.into_iter().map(txn::unshared).collect();
            OpBody::Delete { deleted, prevs }
        }
        Write::Txn(txn) => {
            let plan = txn::plan(session, txn)?;
            txn::check(session, txn, &plan)?;
            OpBody::Txn(txn::run(session, txn, &plan)?)
        }
        Write::LeaseGrant(grant) => {
            session.grant(*grant)?;
            OpBody::Lease
        }
        Write::LeaseRevoke(id) => {
            session.revoke(*id)?;
            OpBody::Lease
        }
    })
}
