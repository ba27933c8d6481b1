//! Random writes, compactions, crashes and reads, against a store that keeps everything in a list.
//!
//! The naive store shares no code with the real one but the model's values.

use super::super::testing::{
    MemoryDisk, Store, delete, history, plain, put_op, read, refusal, tiny, txn,
};
use super::super::{CompactionStep, StorageLimits};
use crate::model::{
    DeleteRange, KeyRange, KeyValue, Op, RangeEnd, RangeQuery, Refusal, Revision, Write,
};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every revision there ever was, and the state after each.
#[derive(Clone, Debug, Default)]
struct Naive {
    commits: Vec<Vec<KeyValue>>,
    states: Vec<BTreeMap<Bytes, KeyValue>>,
    compact_revision: i64,
}

impl Naive {
    fn new() -> Self {
        Self {
            commits: vec![Vec::new(), Vec::new()],
            states: vec![BTreeMap::new(), BTreeMap::new()],
            compact_revision: -1,
        }
    }

    fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    fn write(&mut self, changes: &[Change]) {
        let main = Revision(self.revision() + 1);
        let mut state = self.states.last().unwrap().clone();
        let mut events = Vec::new();
        for change in changes {
            match change {
                Change::Put(key, value) => {
                    let before = state.get(key);
                    let kv = KeyValue {
                        key: key.clone(),
                        create_revision: before.map_or(main, |kv| kv.create_revision),
                        mod_revision: main,
                        version: before.map_or(1, |kv| kv.version + 1),
                        value: value.clone(),
                        ..KeyValue::default()
                    };
                    state.insert(key.clone(), kv.clone());
                    events.push(kv);
                }
                Change::Delete(range) => {
                    let keys: Vec<Bytes> = state
                        .keys()
                        .filter(|key| range.contains(key))
                        .cloned()
                        .collect();
                    for key in keys {
                        state.remove(&key);
                        events.push(KeyValue::tombstone(key, main));
                    }
                }
            }
        }
        if !events.is_empty() {
            self.commits.push(events);
            self.states.push(state);
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Put(Bytes, Bytes),
    Delete(KeyRange),
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Change>),
    Commit,
    /// Compacts at this share of history, in percent.
    Compact(i64),
    Work(usize),
    Reopen,
    /// Cuts the power after this many more writing calls.
    Crash(usize),
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop::sample::select(&b"abc"[..]), 1..4).prop_map(Bytes::from)
}

fn key_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        key().prop_map(KeyRange::single),
        key().prop_map(KeyRange::prefix),
        (key(), key()).prop_map(|(start, end)| KeyRange {
            start,
            end: RangeEnd::Until(end),
        }),
        key().prop_map(|start| KeyRange {
            start,
            end: RangeEnd::Open,
        }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let value = prop_oneof![
        6 => 0..40_usize,
        1 => 200..700_usize,
    ];
    let value = (any::<u8>(), value).prop_map(|(byte, len)| Bytes::from(vec![byte; len]));
    prop_oneof![
        5 => (key(), value).prop_map(|(key, value)| Change::Put(key, value)),
        1 => key_range().prop_map(Change::Delete),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(change(), 1..6).prop_map(Step::Write),
        6 => Just(Step::Commit),
        2 => (0..=100_i64).prop_map(Step::Compact),
        4 => (1..20_usize).prop_map(Step::Work),
        1 => Just(Step::Reopen),
        1 => (0..6_usize).prop_map(Step::Crash),
    ]
}

/// A transaction that changes no key twice, as the shape check demands.
fn legal(changes: Vec<Change>) -> Vec<Change> {
    let mut kept: Vec<Change> = Vec::new();
    for change in changes {
        let clashes = kept.iter().any(|other| match (&change, other) {
            (Change::Put(key, _), Change::Put(other, _)) => key == other,
            (Change::Put(key, _), Change::Delete(range))
            | (Change::Delete(range), Change::Put(key, _)) => range.contains(key),
            (Change::Delete(_), Change::Delete(_)) => false,
        });
        if !clashes {
            kept.push(change);
        }
    }
    kept
}

fn to_write(changes: &[Change]) -> Write {
    let op = |change: &Change| match change {
        Change::Put(key, value) => Op::Put(crate::model::Put {
            key: key.clone(),
            value: value.clone(),
            ..put_op("", "")
        }),
        Change::Delete(range) => Op::Delete(DeleteRange {
            range: range.clone(),
            prev_kv: false,
        }),
    };
    match changes {
        [Change::Delete(range)] => delete(range.clone()),
        _ => txn(changes.iter().map(op).collect()),
    }
}

/// Every read of every revision answers what the naive store knows.
fn check(store: &Store, naive: &Naive) {
    let revision = naive.revision();
    assert_eq!(store.view.revision(), Revision(revision));
    assert_eq!(
        store.view.compact_revision(),
        Revision(naive.compact_revision)
    );
    let first = naive.compact_revision.max(1);
    for at in first..=revision {
        let query = RangeQuery {
            revision: at,
            ..RangeQuery::latest(KeyRange::everything())
        };
        let (header, answer) = read(&store.view, query).unwrap();
        let expected = naive.states[at as usize].values().cloned();
        let expected: Vec<_> = expected.map(Arc::new).collect();
        assert_eq!(header, Revision(revision));
        assert_eq!(answer.kvs, expected, "at revision {at}");
    }
    let commits = history(&store.view, first, revision).unwrap();
    let found: Vec<_> = commits.iter().map(|commit| plain(commit)).collect();
    let expected: Vec<_> = (first.max(2)..=revision)
        .map(|at| (Revision(at), naive.commits[at as usize].clone()))
        .collect();
    assert_eq!(found, expected);
    if naive.compact_revision > 1 {
        let compacted = Refusal::Compacted {
            compact_revision: Revision(naive.compact_revision),
        };
        let early = history(&store.view, naive.compact_revision - 1, revision);
        assert_eq!(refusal(early), compacted);
    }
}

struct Run {
    store: Store,
    limits: StorageLimits,
    /// What is durable, and what is applied on top.
    durable: Naive,
    applied: Naive,
}

impl Run {
    fn reopen(&mut self, disk: MemoryDisk) {
        self.store = Store::on(disk, self.limits.clone());
    }

    fn commit(&mut self) {
        let from = self.durable.revision() + 1;
        let commits = self.store.commit();
        let found: Vec<_> = commits.iter().map(|commit| plain(commit)).collect();
        let expected: Vec<_> = (from..=self.applied.revision())
            .map(|at| (Revision(at), self.applied.commits[at as usize].clone()))
            .collect();
        assert_eq!(found, expected);
        for event in commits.iter().flat_map(|commit| &commit.events) {
            let before = &self.applied.states[event.kv.mod_revision.0 as usize - 1];
            let prev = event
                .prev()
                .expect("asked for")
                .map(|prev| KeyValue::clone(prev));
            assert_eq!(prev.as_ref(), before.get(&event.kv.key));
        }
        self.durable = self.applied.clone();
    }

    /// Works on until the disk fails, then opens what a power cut leaves.
    fn crash(&mut self, calls: usize) {
        self.store.disk.fail_after(calls);
        let committed = self.store.writer.commit();
        while let Ok(step) = self.store.writer.compaction_step() {
            if step == CompactionStep::Idle {
                break;
            }
        }
        let published = self.store.view.revision();
        // One of the batches that were not synced may have reached the disk.
        let disk = self.store.disk.after_power_cut(calls % 2);
        self.reopen(disk);
        let revision = self.store.view.revision();
        assert!(revision >= published, "nothing that was seen is lost");
        if committed.is_ok() {
            assert_eq!(revision.0, self.applied.revision());
        }
        self.durable = self.applied.clone();
        self.durable.states.truncate(revision.0 as usize + 1);
        self.durable.commits.truncate(revision.0 as usize + 1);
        self.applied = self.durable.clone();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(changes) => {
                let changes = legal(changes);
                let before = self.applied.revision();
                self.applied.write(&changes);
                let answer = self.store.apply(to_write(&changes)).unwrap();
                assert!(answer.revision.0 >= before);
                assert_eq!(answer.revision.0, self.applied.revision());
            }
            Step::Commit => self.commit(),
            Step::Compact(percent) => {
                self.commit();
                let (low, high) = (self.durable.compact_revision, self.durable.revision());
                let at = low + (high - low) * percent / 100;
                if at > low {
                    self.store.writer.compact(Revision(at)).unwrap();
                    self.durable.compact_revision = at;
                    self.applied.compact_revision = at;
                }
            }
            Step::Work(steps) => {
                for _ in 0..steps {
                    self.store.writer.compaction_step().unwrap();
                }
            }
            Step::Reopen => {
                self.commit();
                self.reopen(self.store.disk.copy());
            }
            Step::Crash(calls) => self.crash(calls),
        }
    }
}

fn run(limits: StorageLimits, steps: Vec<Step>) {
    let mut run = Run {
        store: Store::new(limits.clone()),
        limits,
        durable: Naive::new(),
        applied: Naive::new(),
    };
    for step in steps {
        run.step(step);
        if run.store.view.revision().0 % 4 == 0 {
            check(&run.store, &run.durable);
        }
    }
    run.commit();
    check(&run.store, &run.durable);
    run.store.settle();
    check(&run.store, &run.durable);
    let reopened = run.store.reopened();
    check(&reopened, &run.durable);
    let index = |store: &Store| store.writer.core.index().keys.clone();
    assert_eq!(
        index(&reopened),
        index(&run.store),
        "the index is rebuilt as it was"
    );
    let blocks = |store: &Store| store.writer.core.index().blocks.clone();
    assert_eq!(blocks(&reopened), blocks(&run.store));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn store_answers_like_a_naive_one_through_compactions_and_crashes(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        run(tiny(), steps);
    }

    #[test]
    fn store_with_large_blocks_answers_like_a_naive_one(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let limits = StorageLimits {
            block_bytes_max: 2048,
            record_bytes_max: 2048,
            batch_bytes_max: 1 << 20,
            keys_per_lock_max: 1000,
            compaction_blocks_per_step: 3,
            ..tiny()
        };
        run(limits, steps);
    }
}
