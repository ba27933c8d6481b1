//! A child that writes: puts, deletes, transactions, compactions, closings and openings, all by the dice of one seed.
//!
//! It knows beforehand what each revision will hold, notes it before it asks, and notes what was acknowledged. Values follow
//! from their revision and place, so that a note need not hold them.

use super::Dice;
use super::trace::{Note, Notes};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use vigil::model::{DeleteRange, KeyRange, Op, Put, Revision, Txn, Write};
use vigil::storage::{
    CompactionStep, ReadView, Readers, Snapshot, StorageError, StorageLimits, Writer, open,
};

const KEYS: u64 = 300;

/// What a child does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub seed: u64,
    /// After how many bytes of keys and values it ends.
    pub bytes: u64,
    /// Closes and opens after about so many groups.
    pub groups_per_opening: u64,
    /// Whether it defragments.
    pub defragments: bool,
}

/// The value of a change.
pub(super) fn value(revision: i64, sub: usize, bytes: usize) -> Bytes {
    let mut dice = Dice(revision.unsigned_abs() << 20 | sub as u64);
    let mut value = Vec::with_capacity(bytes + 8);
    while value.len() < bytes {
        value.extend(dice.next().to_le_bytes());
    }
    value.truncate(bytes);
    value.into()
}

/// Small limits, so that everything that happens now and then happens all the time.
pub(super) fn limits(seed: u64) -> StorageLimits {
    let mut dice = Dice(seed);
    StorageLimits {
        log_bytes_max: [64 << 10, 256 << 10, 1 << 20, 4 << 20][dice.below(4) as usize],
        batch_bytes_max: 256 << 10,
        page_cache_bytes_max: [4 << 20, 64 << 20][dice.below(2) as usize],
        value_cache_bytes_max: 1 << 20,
        checkpoint_revisions: 400,
        compaction_keys_per_step: 64,
        defragment_slice_bytes_max: [4 << 10, 1 << 20][dice.below(2) as usize],
        // The disks of these tests are small.
        free_space_reserve_bytes: 16 << 20,
        ..StorageLimits::default()
    }
}

pub(super) type Events = Vec<(String, Option<usize>)>;

pub(super) struct Child {
    pub(super) notes: Notes,
    dice: Dice,
    pub(super) live: BTreeSet<String>,
    pub(super) leases: BTreeSet<i64>,
    /// Something was asked of a lease, and is not acknowledged.
    pub(super) leases_asked: bool,
    pub(super) lease_dice: Dice,
    /// The last revision that was asked for.
    revision: i64,
    compacted: i64,
    bytes: u64,
    /// For snapshots alone, so that the rest of a seed is what it was without them.
    snapshot_dice: Dice,
    /// The same for defragmentations.
    defragment_dice: Dice,
    defragments: bool,
    /// Why defragmentations failed.
    not_defragmented: Arc<Mutex<Vec<StorageError>>>,
}

/// Runs the load on `dir`, and goes on with what lies there.
pub(super) fn run(load: Load, dir: &Path, trace: &Path) {
    let mut child = Child {
        notes: Notes::open(trace),
        dice: Dice(load.seed),
        live: BTreeSet::new(),
        leases: BTreeSet::new(),
        leases_asked: false,
        lease_dice: Dice(load.seed.rotate_left(21)),
        revision: 0,
        compacted: 0,
        bytes: 0,
        snapshot_dice: Dice(!load.seed),
        defragment_dice: Dice(load.seed.rotate_left(7)),
        defragments: load.defragments,
        not_defragmented: Arc::default(),
    };
    while child.bytes < load.bytes {
        let limits = limits(load.seed);
        let (writer, view) = open(dir, limits, Readers::Threads(1)).expect("it opens");
        child.take_up(&view);
        let groups = load.groups_per_opening / 2 + child.dice.below(load.groups_per_opening);
        child.write_groups((writer, view), groups, load.bytes);
    }
}

impl Child {
    /// Begins where the store is.
    fn take_up(&mut self, view: &ReadView) {
        self.revision = view.revision().0;
        self.compacted = view.compact_revision().0.max(0);
        self.live = super::check::range(view, 0)
            .into_iter()
            .map(|kv| String::from_utf8(kv.key.to_vec()).expect("a key of ours"))
            .collect();
        self.leases = view.leases().into_iter().map(|(id, _)| id.0).collect();
        let ids = self.leases.iter().copied().collect();
        self.notes.add(&Note::Leases { ids });
    }

    fn write_groups(&mut self, (mut writer, view): (Writer, ReadView), groups: u64, bytes: u64) {
        let mut snapshot = None;
        for _ in 0..groups {
            if self.bytes >= bytes {
                break;
            }
            for _ in 0..=self.dice.below(6) {
                self.apply_one(&mut writer);
            }
            self.lease_some(&mut writer);
            let commits = writer.commit().expect("a commit");
            self.acknowledge_leases();
            if let Some(last) = commits.last() {
                assert_eq!(last.revision.0, self.revision, "as it was reckoned");
                self.acknowledge();
            }
            self.compact_some(&mut writer);
            self.read_some(&view, &mut snapshot);
            self.defragment_some(&mut writer);
        }
        drop((snapshot, view));
        // The last closing is in good order, and half of the others; the rest leave everything to the next opening.
        if self.bytes >= bytes || self.dice.percent(50) {
            writer.close().expect("a closing");
        }
    }

    fn acknowledge(&mut self) {
        let revision = self.revision;
        self.notes.add(&Note::Acknowledged { revision });
    }

    fn compact_some(&mut self, writer: &mut Writer) {
        if self.dice.percent(4) {
            let span = self.revision - self.compacted;
            let back = self.dice.below(span.unsigned_abs().min(400));
            let revision = self.revision - i64::try_from(back).expect("small");
            if revision > self.compacted {
                self.notes.add(&Note::CompactionAsked { revision });
                writer.compact(Revision(revision)).expect("a compaction");
                self.notes.add(&Note::CompactionAcknowledged { revision });
                self.compacted = revision;
            }
        }
        while self.dice.percent(60)
            && writer.compaction_step().expect("a step") != CompactionStep::Idle
        {}
    }

    /// A snapshot is read in parts between the groups, and some are given up.
    fn read_some(&mut self, view: &ReadView, open: &mut Option<Snapshot>) {
        let dice = &mut self.snapshot_dice;
        let Some(snapshot) = open else {
            if dice.percent(10) {
                *open = Some(view.snapshot().expect("a snapshot"));
            }
            return;
        };
        let is_over = dice.percent(5);
        if is_over || dice.percent(70) && snapshot.next_part().expect("a part").is_none() {
            *open = None;
        }
    }

    /// Several in each opening; some of them are cut short by its end.
    fn defragment_some(&mut self, writer: &mut Writer) {
        if self.defragments && self.defragment_dice.percent(4) {
            let failed = Arc::clone(&self.not_defragmented);
            writer.defragment(Box::new(move |ended| match ended {
                Ok(()) | Err(StorageError::Closed) => {}
                Err(error) => failed.lock().expect("nobody panics").push(error),
            }));
        }
        let failed = self.not_defragmented.lock().expect("nobody panics");
        assert!(failed.is_empty(), "{failed:?}");
    }

    fn apply_one(&mut self, writer: &mut Writer) {
        let (write, events) = self.some_write();
        if !events.is_empty() {
            self.write_down(events);
        }
        let answer = writer.apply(&write, false).expect("an answer");
        assert_eq!(answer.revision.0, self.revision, "as it was reckoned");
    }

    /// Notes what the next revision will hold, and answers which that is.
    pub(super) fn write_down(&mut self, events: Events) -> i64 {
        self.revision += 1;
        let revision = self.revision;
        for (key, value) in &events {
            self.bytes += (key.len() + value.unwrap_or_default()) as u64;
            match value {
                Some(_) => self.live.insert(key.clone()),
                None => self.live.remove(key),
            };
        }
        self.notes.add(&Note::Asked { revision, events });
        revision
    }

    fn some_write(&mut self) -> (Write, Events) {
        let next = self.revision + 1;
        match self.dice.below(100) {
            0..15 => {
                let (from, until) = (self.key(), self.key());
                let gone = self
                    .live
                    .range(from.clone()..from.clone().max(until.clone()));
                // A range whose end is before its start is empty.
                let events = gone.map(|key| (key.clone(), None)).collect();
                let range = KeyRange::from_wire(from.clone().into(), until.max(from).into());
                let prev_kv = false;
                let write = Write::Delete(DeleteRange { range, prev_kv });
                (write, events)
            }
            15..40 => {
                let most = if self.dice.percent(5) { 60 } else { 6 };
                let count = 1 + self.dice.below(most);
                let keys: BTreeSet<String> = (0..count).map(|_| self.key()).collect();
                let mut events = Vec::new();
                let mut success = Vec::new();
                for key in keys {
                    if self.live.contains(&key) && self.dice.percent(30) {
                        let range = KeyRange::single(key.clone());
                        let prev_kv = false;
                        success.push(Op::Delete(DeleteRange { range, prev_kv }));
                        events.push((key, None));
                    } else {
                        let bytes = self.value_bytes();
                        success.push(Op::Put(put(&key, next, events.len(), bytes)));
                        events.push((key, Some(bytes)));
                    }
                }
                let txn = Txn {
                    success,
                    ..Txn::default()
                };
                (Write::Txn(txn), events)
            }
            _ => {
                let (key, bytes) = (self.key(), self.value_bytes());
                let write = Write::Put(put(&key, next, 0, bytes));
                (write, vec![(key, Some(bytes))])
            }
        }
    }

    fn key(&mut self) -> String {
        format!("k{:04}", self.dice.below(KEYS))
    }

    fn value_bytes(&mut self) -> usize {
        let most = match self.dice.below(100) {
            0..70 => 1 << 10,
            70..97 => 24 << 10,
            _ => 300 << 10,
        };
        self.dice.below(most) as usize
    }
}

fn put(key: &str, revision: i64, sub: usize, bytes: usize) -> Put {
    Put {
        key: key.to_owned().into(),
        value: value(revision, sub, bytes),
        ..Put::default()
    }
}
