//! The engine of a simulation and its disk: how they start, fail, lose power and come back.
//!
//! A power cut keeps what the disk has made durable, and some of what it has not.

use super::convert;
use super::reached::Reached;
use super::recorder::Recorder;
use super::validator::answers::single;
use super::validator::record::{Outcome, Request};
use super::world::{Chance, Place, Weather, limits, storage};
use crate::actors::tests::deaths::Poison;
use crate::actors::tests::support::settle;
use crate::actors::{Engine, EngineLimits, Placement, hooks};
use crate::storage::testing::{Kept, LogFault, LoggedDisk, MemoryDisk, hold_reads, open_memory};
use crate::storage::{ReadView, Readers, StorageLimits, Writer, open};
use tempfile::TempDir;
use tokio::time::Instant;

/// Where the store lies.
enum Disk {
    Memory(MemoryDisk),
    /// The same behind a commit log.
    Logged(LoggedDisk),
    Directory(TempDir),
}

/// A running engine on a disk.
pub(super) struct Machine {
    pub(super) engine: Engine,
    /// When it was started; its clocks count from here.
    pub(super) started: Instant,
    disk: Disk,
    pub(super) limits: EngineLimits,
    storage: StorageLimits,
    weather: Weather,
    recorder: Recorder,
}

impl Machine {
    /// An engine with an empty store.
    pub(super) async fn start(chance: &mut Chance, weather: Weather, recorder: Recorder) -> Self {
        let (limits, storage) = (limits(chance, &weather), storage(chance));
        let disk = match weather.place {
            Place::Directory => Disk::Directory(tempfile::tempdir().expect("a directory")),
            Place::Logged => Disk::Logged(LoggedDisk::default()),
            Place::Memory => Disk::Memory(MemoryDisk::default()),
        };
        hooks::on_this_thread(weather.pauses(chance.child()));
        hold_reads(weather.holds_reads);
        let store = open_disk(&disk, &storage);
        read_while_syncing(&disk, &store.1, &recorder);
        let started = Instant::now();
        let engine = Engine::start_on(store, Placement::Current, limits).await;
        Self {
            engine,
            started,
            disk,
            limits,
            storage,
            weather,
            recorder,
        }
    }

    /// Writing goes well so many more times.
    pub(super) fn fail_after(&self, calls: usize, chance: &mut Chance) {
        match &self.disk {
            Disk::Memory(disk) => disk.fail_after(calls),
            Disk::Logged(disk) => match chance.below(3) {
                0 => disk.fail_after(calls, LogFault::Unwritten),
                1 => disk.fail_after(calls, LogFault::Written),
                _ => disk.disk().fail_after(calls),
            },
            Disk::Directory(_) => {}
        }
    }

    /// Whether writes are refused for another reason than a full disk.
    pub(super) fn has_quota(&self) -> bool {
        self.storage.quota_bytes < u64::MAX
    }

    pub(super) fn set_free_bytes(&self, bytes: u64) {
        match &self.disk {
            Disk::Memory(disk) => disk.set_free_bytes(bytes),
            Disk::Logged(disk) => disk.disk().set_free_bytes(bytes),
            Disk::Directory(_) => {}
        }
    }

    /// Lets one of the actors of the watch side die.
    pub(super) fn kill_one(&self, chance: &mut Chance) {
        let worker = self.engine.worker_for_test(0).expect("a worker");
        if let Some(side) = worker.watch_side() {
            match chance.below(4) {
                3 => self.engine.lease_for_test().do_send(Poison),
                0 => side.group.do_send(Poison),
                1 => side.sync.do_send(Poison),
                _ => side.victim_retry.do_send(Poison),
            }
        }
    }

    /// Stops in good order and starts again on what is there.
    pub(super) async fn restart(&mut self, chance: &mut Chance) {
        self.engine.stop().await.expect("stopped");
        self.cut_power(chance).await;
    }

    /// The power fails: the engine is gone, and the disk keeps what it has made durable and perhaps a little more.
    pub(super) async fn cut_power(&mut self, chance: &mut Chance) {
        let (disk, failed_syncs) = match &self.disk {
            Disk::Memory(disk) => {
                let kept = chance.below(disk.unsynced() + 1);
                let after = Disk::Memory(disk.after_power_cut(kept));
                (Some(after), disk.failed_syncs())
            }
            Disk::Logged(disk) => {
                // Behind the log nothing depends on the order in which batches become durable.
                let kept = match chance.below(disk.disk().unsynced() + 2) {
                    0 => Kept::Newest,
                    oldest => Kept::Oldest(oldest - 1),
                };
                let after = Disk::Logged(disk.after_power_cut(kept));
                (Some(after), disk.failed_syncs())
            }
            Disk::Directory(_) => (None, 0),
        };
        self.recorder.reached(Reached::FailedSync, failed_syncs);
        self.recorder.restart();
        hold_reads(false);
        hooks::on_this_thread(None);
        self.stand_still().await;
        if let Some(disk) = disk {
            self.disk = disk;
        }
        hooks::on_this_thread(self.weather.pauses(chance.child()));
        hold_reads(self.weather.holds_reads);
        let store = open_disk(&self.disk, &self.storage);
        read_while_syncing(&self.disk, &store.1, &self.recorder);
        self.started = Instant::now();
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
        Disk::Logged(disk) => disk.open(limits.clone()),
        Disk::Directory(dir) => open(dir.path(), limits.clone(), Readers::Inline),
    }
    .expect("what was durable can be opened")
}

/// A client that reads in the middle of each sync, when everything is applied and nothing of it is durable.
fn read_while_syncing(disk: &Disk, view: &ReadView, recorder: &Recorder) {
    let (view, recorder) = (view.clone(), recorder.clone());
    let start = recorder.start();
    let hook = move || {
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
    };
    match disk {
        Disk::Memory(disk) => disk.while_syncing(hook),
        Disk::Logged(disk) => disk.while_syncing(hook),
        Disk::Directory(_) => {}
    }
}
