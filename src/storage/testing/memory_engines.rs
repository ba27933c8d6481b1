//! Disks in memory that take each other's place, as a defragmentation has it.
//!
//! A choice is durable at once here; what a crash makes of one is the crash tests'.

use super::{MemoryDisk, SyncHook, WhileSyncing};
use crate::storage::StorageError;
use crate::storage::database::Database;
use crate::storage::engines::{Engines, Opened};
use std::sync::{Arc, Mutex};

#[derive(Debug)]
struct Disks {
    chosen: MemoryDisk,
    made: Option<MemoryDisk>,
    choices: usize,
    /// The next engine that is made fails after this many writing calls.
    fail_made_after: Option<usize>,
    fails_to_choose: bool,
    while_syncing: WhileSyncing,
}

/// The disks of one store.
#[derive(Clone, Debug)]
pub(crate) struct MemoryEngines(Arc<Mutex<Disks>>);

impl MemoryEngines {
    /// One disk, and others beside it when they are asked for.
    pub(crate) fn on(disk: MemoryDisk) -> Self {
        Self(Arc::new(Mutex::new(Disks {
            chosen: disk,
            made: None,
            choices: 0,
            fail_made_after: None,
            fails_to_choose: false,
            while_syncing: WhileSyncing::default(),
        })))
    }

    /// What a database is opened with.
    pub(crate) fn open(&self) -> Opened {
        (Arc::new(self.clone()), Arc::new(self.chosen()))
    }

    /// The disk in use.
    pub(crate) fn chosen(&self) -> MemoryDisk {
        self.0.lock().unwrap().chosen.clone()
    }

    /// The disk that is being made.
    pub(crate) fn made(&self) -> Option<MemoryDisk> {
        self.0.lock().unwrap().made.clone()
    }

    /// Does this during every sync of the disk in use, and of those that are made.
    pub(crate) fn while_syncing(&self, hook: SyncHook) {
        let mut disks = self.0.lock().unwrap();
        disks.while_syncing.0 = Some(Arc::clone(&hook));
        disks.chosen.while_syncing(move || hook());
    }

    /// How often a disk has taken another one's place.
    pub(crate) fn choices(&self) -> usize {
        self.0.lock().unwrap().choices
    }

    /// Lets so many writing calls of the next disk succeed.
    pub(crate) fn fail_made_after(&self, calls: usize) {
        self.0.lock().unwrap().fail_made_after = Some(calls);
    }

    /// The next choice fails.
    pub(crate) fn fail_to_choose(&self) {
        self.0.lock().unwrap().fails_to_choose = true;
    }
}

impl Engines for MemoryEngines {
    fn make(&self) -> Result<Arc<dyn Database>, StorageError> {
        let made = MemoryDisk::default();
        let mut disks = self.0.lock().unwrap();
        if let Some(calls) = disks.fail_made_after.take() {
            made.fail_after(calls);
        }
        if let Some(hook) = disks.while_syncing.0.clone() {
            made.while_syncing(move || hook());
        }
        disks.made = Some(made.clone());
        Ok(Arc::new(made))
    }

    fn choose_made(&self) -> Result<(), StorageError> {
        let mut disks = self.0.lock().unwrap();
        if disks.fails_to_choose {
            return Err(StorageError::disk("choose", "the test says so"));
        }
        disks.chosen = disks.made.take().expect("an engine was made");
        disks.choices += 1;
        Ok(())
    }

    fn remove_others(&self) {
        self.0.lock().unwrap().made = None;
    }

    fn release(&self) {}
}
