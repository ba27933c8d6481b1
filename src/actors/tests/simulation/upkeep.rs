//! What operators do in a simulation: defragmentations, hashes, snapshots that are restored, alarms that are taken back.
//!
//! A restored snapshot is one more client: what it reads is recorded as if the engine had answered, and judged with the rest.

use super::convert;
use super::reached::Reached;
use super::steps::Simulation;
use super::validator::record::{Outcome, Range, Request};
use super::world::Chance;
use crate::actors::EngineError;
use crate::model::{Alarm, AlarmKind, Revision};
use crate::storage::testing::NO_LOG;
use crate::storage::{
    ReadView, Readers, Snapshot, StorageLimits, StoreHash, inspect_snapshot, open, restore_snapshot,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// A hash by the revision and the compact revision that it was made at.
type Hashes = BTreeMap<(Revision, Revision), u32>;

/// What is under way, and what was found.
#[derive(Default)]
pub(super) struct Upkeep {
    /// They end when commits go on, and with the engine.
    defragmentations: Vec<JoinHandle<()>>,
    snapshot: Option<Copying>,
    hashes: Rc<RefCell<Hashes>>,
    wrong: Rc<RefCell<Vec<String>>>,
}

/// A snapshot that is being read.
struct Copying {
    snapshot: Snapshot,
    bytes: Vec<u8>,
    /// The read that its restored store will answer.
    call: u64,
}

impl Upkeep {
    /// The engine is gone.
    pub(super) fn leave(&mut self) {
        for defragmentation in self.defragmentations.drain(..) {
            defragmentation.abort();
        }
        self.give_up_snapshot();
    }

    /// A snapshot that nobody reads on keeps compactions from their end.
    pub(super) fn give_up_snapshot(&mut self) {
        self.snapshot = None;
    }

    /// Nothing was found to be wrong.
    pub(super) fn look(&self) {
        assert!(self.wrong.borrow().is_empty(), "{:?}", self.wrong.borrow());
    }
}

impl Simulation {
    /// An operator does something.
    pub(super) fn maintain(&mut self) {
        match self.chance.below(6) {
            0 => self.defragment(),
            1 => self.hash(),
            2 => self.disarm(),
            _ => self.copy(),
        }
    }

    fn defragment(&mut self) {
        let (engine, recorder) = (self.machine.engine.clone(), self.recorder.clone());
        let wrong = Rc::clone(&self.upkeep.wrong);
        let may_fail = self.weather.power_cuts || self.weather.no_space;
        let task = actix::spawn(async move {
            match engine.defragment().await {
                Ok(()) => recorder.reached(Reached::Defragmented, 1),
                Err(EngineError::NotDefragmented(why)) => {
                    // The store may be closed meanwhile, and a disk that fails may fail here.
                    let is_right = why.contains("closed")
                        || why.contains(NO_LOG)
                        || may_fail && !why.contains("differs");
                    if !is_right {
                        wrong.borrow_mut().push(why);
                    }
                }
                // The engine has come to its end.
                Err(_) => {}
            }
        });
        let running = &mut self.upkeep.defragmentations;
        running.retain(|running| !running.is_finished());
        running.push(task);
    }

    /// The same revision over the same compaction has the same hash for ever, whatever became of the engine between.
    fn hash(&mut self) {
        let (engine, recorder) = (self.machine.engine.clone(), self.recorder.clone());
        let (hashes, wrong) = (
            Rc::clone(&self.upkeep.hashes),
            Rc::clone(&self.upkeep.wrong),
        );
        let at = self
            .chance
            .once_in(2)
            .then(|| Revision(engine.revision().0.max(1)));
        let task = actix::spawn(async move {
            if let Ok(hash) = engine.hash(at).await {
                compare(&hash, &mut hashes.borrow_mut(), &wrong, &recorder);
            }
        });
        self.calls.push(task);
    }

    fn disarm(&mut self) {
        let engine = self.machine.engine.clone();
        let recorder = self.recorder.clone();
        let alarm = Alarm {
            member_id: engine.identity().member_id,
            kind: AlarmKind::NoSpace,
        };
        self.calls.push(actix::spawn(async move {
            if engine.set_alarm(alarm, false).await == Ok(true) {
                recorder.reached(Reached::Disarmed, 1);
            }
        }));
    }

    /// Reads a part of a snapshot; restores it when it is whole.
    fn copy(&mut self) {
        let Some(copying) = &mut self.upkeep.snapshot else {
            let everything = Range {
                key: "\0".into(),
                end: "\0".into(),
            };
            let call = self.recorder.call(&read_all(everything));
            if let Ok(snapshot) = self.machine.engine.view().snapshot() {
                let bytes = Vec::new();
                self.upkeep.snapshot = Some(Copying {
                    snapshot,
                    bytes,
                    call,
                });
            }
            return;
        };
        match copying.snapshot.next_part() {
            Ok(Some(part)) => copying.bytes.extend_from_slice(&part.bytes),
            // The disk has failed; the engine will be told so when it needs it.
            Err(_) => self.upkeep.snapshot = None,
            Ok(None) => {
                if let Some(copying) = self.upkeep.snapshot.take() {
                    self.restore(&copying.bytes, copying.call);
                }
            }
        }
    }

    fn restore(&mut self, bytes: &[u8], call: u64) {
        let home = tempfile::tempdir().expect("a directory");
        let (file, dir) = (home.path().join("snapshot"), home.path().join("data"));
        std::fs::write(&file, bytes).expect("a file");
        let info = inspect_snapshot(&file).expect("a snapshot that is whole");
        let hash = StoreHash {
            hash: info.hash,
            revision: info.revision,
            hash_revision: info.revision,
            compact_revision: info.compact_revision,
        };
        let mut hashes = self.upkeep.hashes.borrow_mut();
        compare(&hash, &mut hashes, &self.upkeep.wrong, &self.recorder);
        drop(hashes);
        // Most are only looked at: a restore costs more than a hundred steps.
        if !self.chance.once_in(6) {
            return;
        }
        let limits = small(&mut self.chance);
        restore_snapshot(&file, &dir, &limits).expect("a store");
        self.recorder.answered(call, read_restored(&dir, limits));
        self.recorder.reached(Reached::Restored, 1);
    }
}

fn small(chance: &mut Chance) -> StorageLimits {
    StorageLimits {
        page_cache_bytes_max: 1 << 20,
        value_cache_bytes_max: 1 << 10,
        log_bytes_max: 1 << 13,
        block_bytes_max: chance.of(&[100, 1000]),
        ..StorageLimits::default()
    }
}

fn read_all(range: Range) -> Request {
    Request::Range {
        range,
        revision: 0,
        limit: 0,
        keys_only: false,
        count_only: false,
    }
}

/// What a store answers to the read of everything. On a thread of its own: reads of this one are held up.
fn read_restored(dir: &Path, limits: StorageLimits) -> Outcome {
    let read = || {
        let (writer, view) = open(dir, limits, Readers::Inline).expect("it opens");
        let outcome = read_from(&view);
        drop(view);
        writer.close().expect("it closes");
        outcome
    };
    std::thread::scope(|scope| scope.spawn(read).join().expect("it is read"))
}

fn read_from(view: &ReadView) -> Outcome {
    let everything = Range {
        key: "\0".into(),
        end: "\0".into(),
    };
    let query = convert::query(&read_all(everything)).expect("a query");
    let answer = Arc::new(Mutex::new(None));
    let answered = Arc::clone(&answer);
    view.range(
        query,
        Box::new(move |answer| *answered.lock().unwrap() = Some(answer)),
    );
    let answer = answer.lock().unwrap().take().expect("read at once");
    convert::of_range(Ok(answer.expect("an answer")))
}

fn compare(
    hash: &StoreHash,
    hashes: &mut Hashes,
    wrong: &RefCell<Vec<String>>,
    recorder: &super::recorder::Recorder,
) {
    let known = hashes.insert((hash.hash_revision, hash.compact_revision), hash.hash);
    if let Some(known) = known {
        recorder.reached(Reached::HashedAgain, 1);
        if known != hash.hash {
            wrong.borrow_mut().push(format!("{known} became {hash:?}"));
        }
    }
}
