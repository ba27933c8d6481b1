//! The engine of a simulation and its disk: how they start, fail, lose power and come back.
//!
//! A power cut keeps what the disk has made durable, and some of what it has not.

use super::convert;
use super::recorder::Recorder;
use super::validator::answers::single;
use super::validator::record::{Outcome, Request};
use super::world::{Chance, Weather, limits, storage};
use crate::actors::tests::support::settle;
use crate::actors::{Engine, EngineLimits, Placement, hooks};
use crate::storage::testing::{MemoryDisk, hold_reads, open_memory};
use crate::storage::{ReadView, Readers, StorageLimits, Writer, open};
use tempfile::TempDir;

/// Where the store lies.
enum Disk {
    Memory(MemoryDisk),
    Directory(TempDir),
}

/// A running engine on a disk.
pub(super) struct Machine {
    pub(super) engine: Engine,
    disk: Disk,
    limits: EngineLimits,
    storage: StorageLimits,
    weather: Weather,
    recorder: Recorder,
}

impl Machine {
    /// An engine with an empty store.
    pub(super) async fn start(chance: &mut Chance, weather: Weather, recorder: Recorder) -> Self {
        let (limits, storage) = (limits(chance, &weather), storage(chance));
        let disk = if weather.real_disk {
            Disk::Directory(tempfile::tempdir().expect("a directory"))
        } else {
            Disk::Memory(MemoryDisk::default())
        };
        hooks::on_this_thread(weather.pauses(chance.child()));
        hold_reads(weather.holds_reads);
        let store = open_disk(&disk, &storage);
        read_while_syncing(&disk, &store.1, &recorder);
        let engine = Engine::start_on(store, Placement::Current, limits).await;
        Self {
            engine,
            disk,
            limits,
            storage,
            weather,
            recorder,
        }
    }

    /// Writing goes well so many more times.
    pub(super) fn fail_after(&self, calls: usize) {
        if let Disk::Memory(disk) = &self.disk {
            disk.fail_after(calls);
        }
    }

    pub(super) fn set_free_bytes(&self, bytes: u64) {
        if let Disk::Memory(disk) = &self.disk {
            disk.set_free_bytes(bytes);
        }
    }

    /// Stops in good order and starts again on what is there.
    pub(super) async fn restart(&mut self, chance: &mut Chance) {
        self.engine.stop().await.expect("stopped");
        self.cut_power(chance).await;
    }

    /// The power fails: the engine is gone, and the disk keeps what it has made durable and perhaps a little more.
    pub(super) async fn cut_power(&mut self, chance: &mut Chance) {
        let disk = match &self.disk {
            Disk::Memory(disk) => {
                let kept = chance.below(disk.unsynced() + 1);
                Some(disk.after_power_cut(kept))
            }
            Disk::Directory(_) => None,
        };
        self.recorder.restart();
        hold_reads(false);
        hooks::on_this_thread(None);
        self.stand_still().await;
        if let Some(disk) = disk {
            self.disk = Disk::Memory(disk);
        }
        hooks::on_this_thread(self.weather.pauses(chance.child()));
        hold_reads(self.weather.holds_reads);
        let store = open_disk(&self.disk, &self.storage);
        read_while_syncing(&self.disk, &store.1, &self.recorder);
        self.engine = Engine::start_on(store, Placement::Current, self.limits).await;
    }

    /// Ends every actor of the engine. What its store still writes is written to a disk that nobody opens again.
    async fn stand_still(&self) {
        // A store that has failed says so once more.
        let _ = self.engine.stop().await;
        settle().await;
    }
}

fn open_disk(disk: &Disk, limits: &StorageLimits) -> (Writer, ReadView) {
    match disk {
        Disk::Memory(disk) => open_memory(disk, limits.clone()),
        Disk::Directory(dir) => open(dir.path(), limits.clone(), Readers::Inline),
    }
    .expect("what was durable can be opened")
}

/// A client that reads in the middle of each sync, when everything is applied and nothing of it is durable.
fn read_while_syncing(disk: &Disk, view: &ReadView, recorder: &Recorder) {
    let Disk::Memory(disk) = disk else { return };
    let (view, recorder) = (view.clone(), recorder.clone());
    let start = recorder.start();
    disk.while_syncing(move || {
        if recorder.start() != start {
            return;
        }
        let request = Request::Range {
            range: single("k1"),
            revision: 0,
            limit: 0,
            keys_only: false,
            count_only: true,
        };
        let Some(query) = convert::query(&request) else {
            return;
        };
        let call = recorder.call(&request);
        let recorder = recorder.clone();
        let done = move |answer: Result<_, crate::storage::ReadError>| {
            let outcome = match answer {
                Ok(answer) => convert::of_range(Ok(answer)),
                Err(error) => Outcome::Refused {
                    why: error.to_string(),
                },
            };
            recorder.answered(call, outcome);
        };
        view.range(query, Box::new(done));
    });
}
