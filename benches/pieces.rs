//! The inner pieces, one at a time, so that a regression has an address.
//!
//! `cargo bench --bench pieces`. What users see is measured from outside, by `benches/measure`.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_possible_wrap,
    reason = "a measurement that cannot go on should stop"
)]

use actix::prelude::*;
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use tempfile::TempDir;
use vigil::model::{
    Commit, Event, EventFilters, EventKind, KeyValue, Put, RangeQuery, WatchClass, Write,
};
use vigil::storage::{ReadView, Readers, StorageLimits, Writer};
use vigil::watch::{BatchLimits, Entry, Ring, Roster, Visit, WatcherId, cut};
use vigil::{Engine, EngineConfig, KeyRange, Revision, ToWatcher, WatchSpec};

const VALUE_BYTES: usize = 256;

fn key(number: usize) -> Bytes {
    format!("pieces/{number:09}").into()
}

/// A put of a key at a revision.
fn commit(revision: i64, number: usize) -> Arc<Commit> {
    let revision = Revision(revision);
    let kv = KeyValue {
        key: key(number),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        value: vec![7; VALUE_BYTES].into(),
        ..KeyValue::default()
    };
    let events = vec![Arc::new(Event::new(EventKind::Put, kv))];
    Arc::new(Commit { revision, events })
}

fn commits(count: usize) -> Vec<Arc<Commit>> {
    (0..count)
        .map(|number| commit(2 + number as i64, number))
        .collect()
}

fn entry(id: usize, range: KeyRange) -> Entry<()> {
    let class = WatchClass {
        range,
        filters: EventFilters::default(),
        prev_kv: false,
    };
    Entry {
        id: WatcherId(id as u64),
        class: Arc::new(class),
        next_revision: Revision(2),
        link: (),
    }
}

/// A roster of watchers with a key each.
fn roster(watchers: usize) -> Roster<()> {
    let mut roster = Roster::new(Revision(1));
    for number in 0..watchers {
        roster.insert(entry(number, KeyRange::single(key(number))));
    }
    roster
}

/// Who is told of a commit: it may not depend on how many others there are.
fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("roster");
    for watchers in [1000, 100_000] {
        let roster = roster(watchers);
        let one = [commit(2, watchers / 2)];
        group.bench_function(
            BenchmarkId::new("one put among keys", watchers),
            |bencher| {
                bencher.iter(|| roster.matching(black_box(&one), &BatchLimits::default()));
            },
        );
    }
    group.throughput(Throughput::Elements(1000));
    group.bench_function("insert 1000 keys", |bencher| {
        bencher.iter(|| roster(1000));
    });
    let mut same = Roster::new(Revision(1));
    for number in 0..1000 {
        same.insert(entry(number, KeyRange::single(key(0))));
    }
    let hit = same.matching(&[commit(2, 0)], &BatchLimits::default());
    let class = hit.first().expect("a class").class;
    group.bench_function("visit 1000 watchers of a key", |bencher| {
        bencher.iter(|| {
            same.visit(class, &mut 0, 1000, |entry| {
                black_box(entry);
                Visit::Keep
            })
        });
    });
    group.finish();
}

/// What the ring and the cut cost a turn of many commits.
fn turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    let commits = commits(1000);
    group.throughput(Throughput::Elements(1000));
    group.bench_function("append 1000 commits to the ring", |bencher| {
        bencher.iter_batched(
            || Ring::new(64 << 20, Revision(1)),
            |ring| ring.append(black_box(&commits)),
            BatchSize::SmallInput,
        );
    });
    let ring = Ring::new(64 << 20, Revision(1));
    ring.append(&commits);
    group.bench_function("read 1000 commits of the ring", |bencher| {
        bencher.iter(|| ring.read(Revision(1), usize::MAX, 1000));
    });
    let events: Vec<_> = commits
        .iter()
        .flat_map(|commit| commit.events.clone())
        .collect();
    group.bench_function("cut 1000 events into batches", |bencher| {
        bencher.iter(|| cut(black_box(events.clone()), false, &BatchLimits::default()));
    });
    group.finish();
}

fn put(number: usize) -> Write {
    Write::Put(Put {
        key: key(number),
        value: vec![7; VALUE_BYTES].into(),
        ..Put::default()
    })
}

/// A store with so many keys.
fn store(keys: usize) -> (TempDir, Writer, ReadView) {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let opened = vigil::storage::open(dir.path(), StorageLimits::default(), Readers::Threads(1));
    let (mut writer, view) = opened.expect("a store");
    for number in 0..keys {
        writer.apply(&put(number), false).expect("room");
        if number % 1000 == 999 {
            writer.commit().expect("a disk");
        }
    }
    writer.commit().expect("a disk");
    (dir, writer, view)
}

/// The key index, the codec and the disk.
fn storage(criterion: &mut Criterion) {
    const KEYS: usize = 100_000;
    let (_dir, mut writer, view) = store(KEYS);
    let mut group = criterion.benchmark_group("storage");
    let range = |range: KeyRange| {
        let (answers, answer) = channel();
        let done = move |found| {
            let _ = answers.send(found);
        };
        view.range(RangeQuery::latest(range), Box::new(done));
        answer.recv().expect("an answer").expect("a range")
    };
    group.bench_function("range of one key among 100 k", |bencher| {
        bencher.iter(|| range(KeyRange::single(key(KEYS / 2))));
    });
    group.throughput(Throughput::Elements(100));
    group.bench_function("range of 100 keys among 100 k", |bencher| {
        bencher.iter(|| range(KeyRange::prefix("pieces/0000500")));
    });
    let mut number = 0;
    for puts in [1_usize, 32] {
        group.throughput(Throughput::Elements(puts as u64));
        group.bench_function(BenchmarkId::new("durable group of puts", puts), |bencher| {
            bencher.iter(|| {
                for _ in 0..puts {
                    number = (number + 7919) % KEYS;
                    writer.apply(&put(number), false).expect("room");
                }
                writer.commit().expect("a disk")
            });
        });
    }
    group.finish();
    writer.close().expect("a disk");
}

/// An application's actor that says when it was told.
struct Counting(Sender<usize>);

impl Actor for Counting {
    type Context = Context<Self>;
}

impl Handler<ToWatcher> for Counting {
    type Result = ();

    fn handle(&mut self, message: ToWatcher, _ctx: &mut Self::Context) {
        if let ToWatcher::Events(delivery) = message {
            let _ = self.0.send(delivery.batch.events().len());
        }
    }
}

/// A put until a thousand actors have been told of it, without a socket.
fn delivery(criterion: &mut Criterion) {
    const WATCHERS: usize = 1000;
    let system = System::new();
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (told, heard) = channel();
    let (engine, watches) = system.block_on(async {
        let engine = Engine::start(EngineConfig::new(dir.path()))
            .await
            .expect("an engine");
        let mut watches = Vec::new();
        for _ in 0..WATCHERS {
            let actor = Counting(told.clone()).start();
            let spec = WatchSpec::new(KeyRange::single(key(0)), None);
            watches.push(
                engine
                    .watch(spec, actor.recipient())
                    .await
                    .expect("a watch"),
            );
        }
        (engine, watches)
    });
    let mut group = criterion.benchmark_group("delivery");
    group.throughput(Throughput::Elements(WATCHERS as u64));
    group.bench_function("a durable put to 1000 actors", |bencher| {
        bencher.iter(|| {
            system.block_on(async {
                engine.put(key(0), "on").await.expect("a put");
                let mut left = WATCHERS;
                while left > 0 {
                    match heard.try_recv() {
                        Ok(events) => left -= events,
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
            });
        });
    });
    group.finish();
    system.block_on(async move {
        drop(watches);
        engine.stop().await.expect("a good end");
    });
}

criterion_group!(pieces, matching, turn, storage, delivery);
criterion_main!(pieces);
