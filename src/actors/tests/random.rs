//! A simulation: random writes, compactions and watchers on one thread under a paused clock, checked by an oracle.
//!
//! Every limit is tiny and the nets come in a day, so that everybody gets level by wake-ups alone or not at all.

mod oracle;

use super::support::*;
use crate::actors::{EngineError, EngineLimits, OutboxLimits, StoreLimits, WatchCreate};
use crate::model::{
    DeleteRange, EventFilters, KeyRange, Op, OpBody, Put, Revision, Txn, WatchClass, WatchId,
    WatchSpec, Write, WriteAnswer,
};
use crate::storage::StorageLimits;
use crate::watch::BatchLimits;
use oracle::History;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::{JoinHandle, yield_now};

/// How often progress is told without being asked for.
const PROGRESS: Duration = Duration::from_secs(1);
const STEPS: usize = 250;

/// Chance, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        // Knuth's MMIX constants; the high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn once_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

fn limits(chance: &mut Chance) -> EngineLimits {
    let net = Duration::from_hours(24);
    EngineLimits {
        store: StoreLimits {
            group_ops_max: 1 + chance.below(3),
            group_bytes_max: chance.of(&[1, 100]),
            requests_in_flight_max: 1 + chance.below(3),
            ..StoreLimits::default()
        },
        mailbox_messages_max: 1 + chance.below(3),
        in_flight_bytes_max: chance.of(&[1, 3, 150, 1 << 20]),
        batch: BatchLimits {
            delivery_bytes_max: chance.of(&[1, 10, 1000]),
            revisions_per_batch_max: 1 + chance.below(3),
        },
        entries_per_slice_max: 1 + chance.below(3),
        outbox: OutboxLimits {
            outbox_bytes_max: chance.of(&[1, 3, 600]),
            control_items_max: 1 + chance.below(3),
        },
        ring_bytes_max: chance.of(&[1, 1, 600, 1500, 1 << 20]),
        pinned_bytes_max: chance.of(&[1, 3, 10, 1000]),
        narrow_keys_max: 1 + chance.below(3),
        narrow_revisions_max: 1 + chance.below(3),
        progress_notify_interval: PROGRESS,
        sync_net_interval: net,
        retry_net_interval: net,
        ..EngineLimits::default()
    }
}

fn storage(chance: &mut Chance) -> StorageLimits {
    StorageLimits {
        block_bytes_max: chance.of(&[100, 1000]),
        value_cache_bytes_max: chance.of(&[1, 1 << 20]),
        history_cache_bytes_max: chance.of(&[1, 1 << 20]),
        stretch_revisions_max: chance.of(&[1, 2, 3, 1024]),
        ..StorageLimits::default()
    }
}

struct Actor {
    class: WatchClass,
    start: i64,
    watch: TestWatch,
}

#[derive(Default)]
struct Log {
    creates: Vec<(WatchClass, i64)>,
    responses: Vec<Response>,
}

struct Simulation {
    chance: Chance,
    test: TestEngine,
    writes: Vec<JoinHandle<(Write, Result<WriteAnswer, EngineError>)>>,
    written: usize,
    compactions: Vec<i64>,
    actors: Vec<Actor>,
    streams: Vec<(TestStream, Log)>,
    /// Of watchers and streams that were given up.
    past_actors: Vec<(WatchClass, i64, Vec<Got>)>,
    past_streams: Vec<Log>,
}

impl Simulation {
    async fn start(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let test = TestEngine::start_with(limits(&mut chance), storage(&mut chance)).await;
        Self {
            chance,
            test,
            writes: Vec::new(),
            written: 0,
            compactions: Vec::new(),
            actors: Vec::new(),
            streams: Vec::new(),
            past_actors: Vec::new(),
            past_streams: Vec::new(),
        }
    }

    async fn step(&mut self) {
        match self.chance.below(24) {
            0..9 => self.write(),
            9 => self.compact().await,
            10 => self.watch().await,
            11 => self.open().await,
            12..14 => self.create().await,
            14 => self.cancel().await,
            15..17 => self.ask().await,
            17..20 => self.read().await,
            20 => self.stall(),
            21 => self.go_on(),
            22 => self.give_up(),
            _ => pass(PROGRESS / 3).await,
        }
        match self.chance.below(4) {
            0 => settle().await,
            more => {
                for _ in 0..more * more * 2 {
                    yield_now().await;
                }
            }
        }
    }

    fn key(&mut self) -> String {
        format!("k{}", self.chance.below(4))
    }

    fn put(&mut self, key: String) -> Put {
        self.written += 1;
        Put {
            key: key.into(),
            value: format!("v{}", self.written).into(),
            ..Put::default()
        }
    }

    fn write(&mut self) {
        let key = self.key();
        let write = match self.chance.below(8) {
            0..5 => Write::Put(self.put(key)),
            5 => Write::Delete(delete(KeyRange::single(key))),
            6 => Write::Delete(delete(KeyRange::prefix("k"))),
            _ => {
                let puts = (0..2 + self.chance.below(3)).map(|key| self.put(format!("k{key}")));
                Write::Txn(Txn {
                    success: puts.map(Op::Put).collect(),
                    ..Txn::default()
                })
            }
        };
        let engine = self.test.engine.clone();
        self.writes.push(actix::spawn(async move {
            let answer = engine.write(write.clone()).await;
            (write, answer)
        }));
    }

    async fn compact(&mut self) {
        let current = usize::try_from(self.test.engine.revision().0).expect("positive");
        if self.chance.once_in(2) || current < 4 {
            return;
        }
        let revision = i64::try_from(current - self.chance.below(current / 2)).expect("few");
        let physical = self.chance.once_in(2);
        let compacted = self.test.engine.compact(Revision(revision), physical).await;
        if compacted.is_ok() {
            self.compactions.push(revision);
        }
    }

    fn class(&mut self) -> WatchClass {
        let key = self.key();
        let range = match self.chance.below(4) {
            0 | 1 => KeyRange::single(key),
            2 => KeyRange::from_wire("k1".into(), "k3".into()),
            _ => KeyRange::everything(),
        };
        let filters = EventFilters {
            no_put: self.chance.once_in(5),
            no_delete: self.chance.once_in(5),
        };
        WatchClass {
            range,
            filters,
            prev_kv: self.chance.once_in(2),
        }
    }

    /// From now on, from the past, or from the future.
    fn start_revision(&mut self) -> i64 {
        let current = self.test.engine.revision().0;
        let some = |chance: &mut Chance, bound: i64| {
            i64::try_from(chance.below(usize::try_from(bound).expect("positive"))).expect("few")
        };
        match self.chance.below(5) {
            0 => 0,
            1 => current + some(&mut self.chance, 4),
            2 => 1,
            _ => current - some(&mut self.chance, current),
        }
    }

    async fn watch(&mut self) {
        let (class, start) = (self.class(), self.start_revision());
        let spec = WatchSpec {
            class: Arc::new(class.clone()),
            progress_notify: self.chance.once_in(2),
            ..WatchSpec::new(
                KeyRange::everything(),
                (start > 0).then_some(Revision(start)),
            )
        };
        let capacity = 1 + self.chance.below(3);
        let watch = if self.chance.once_in(3) {
            self.test.watch_while_busy(spec, capacity).await
        } else {
            self.test.watch(spec, capacity).await
        };
        self.actors.push(Actor {
            class,
            start,
            watch,
        });
    }

    async fn open(&mut self) {
        if self.streams.len() < 4 {
            self.streams.push((self.test.stream(), Log::default()));
            self.create().await;
        }
    }

    async fn create(&mut self) {
        let (class, start) = (self.class(), self.start_revision());
        let watch_id = WatchId(self.chance.of(&[0, 0, 1, 2]));
        let progress_notify = self.chance.once_in(2);
        let Some((stream, log)) = pick(&mut self.chance, &mut self.streams) else {
            return;
        };
        let create = WatchCreate {
            watch_id,
            filters: class.filters,
            prev_kv: class.prev_kv,
            progress_notify,
            ..create(class.range.clone(), start)
        };
        log.creates.push((class, start));
        stream.create(create).await;
    }

    async fn cancel(&mut self) {
        let id = WatchId(self.chance.of(&[0, 1, 2, 3]));
        if let Some((stream, _)) = pick(&mut self.chance, &mut self.streams) {
            stream.control.cancel(id).await;
        }
    }

    async fn ask(&mut self) {
        if let Some((stream, _)) = pick(&mut self.chance, &mut self.streams) {
            stream.control.request_progress().await;
        }
    }

    async fn read(&mut self) {
        let responses_max = self.chance.of(&[1, 2, 3, 100]);
        if let Some((stream, log)) = pick(&mut self.chance, &mut self.streams) {
            for _ in 0..responses_max {
                log.responses.extend(stream.try_next().await);
            }
        }
    }

    fn stall(&mut self) {
        if let Some(actor) = pick(&mut self.chance, &mut self.actors) {
            actor.watch.stall();
        }
    }

    fn go_on(&mut self) {
        if let Some(actor) = pick(&mut self.chance, &mut self.actors) {
            actor.watch.go_on();
        }
    }

    fn give_up(&mut self) {
        if self.chance.once_in(3) {
            if !self.streams.is_empty() {
                let at = self.chance.below(self.streams.len());
                self.past_streams.push(self.streams.swap_remove(at).1);
            }
        } else if !self.actors.is_empty() {
            let at = self.chance.below(self.actors.len());
            let gone = self.actors.swap_remove(at);
            self.past_actors
                .push((gone.class, gone.start, gone.watch.got()));
        }
    }

    /// Lets everybody go on until nothing happens any more, and then asks every stream how far it has come.
    async fn finish(&mut self) -> History {
        let mut written = Vec::new();
        for write in self.writes.drain(..) {
            let (write, answer) = write.await.expect("a writer");
            let answer = answer.expect("an answer");
            if !matches!(answer.body, OpBody::Delete { deleted: 0, .. }) {
                written.push((answer.revision.0, write));
            }
        }
        for actor in &self.actors {
            actor.watch.go_on();
        }
        self.read_everything().await;
        for (stream, _) in &mut self.streams {
            stream.control.request_progress().await;
        }
        self.read_everything().await;
        History::of(written, self.compactions.clone())
    }

    async fn read_everything(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            settle().await;
            quiet += 1;
            for (stream, log) in &mut self.streams {
                let more = stream.drain().await;
                if !more.is_empty() {
                    quiet = 0;
                }
                log.responses.extend(more);
            }
        }
    }

    async fn check(mut self) {
        let history = self.finish().await;
        let mut live_watches = 0;
        for actor in &self.actors {
            let watched = history.check_actor(&actor.class, actor.start, &actor.watch.got());
            if !watched.over {
                history.is_level(&watched);
                live_watches += 1;
            }
        }
        for (stream, log) in &self.streams {
            let live = history.check_stream(&log.creates, &log.responses);
            for watched in live.values() {
                history.is_level(watched);
            }
            live_watches += live.len();
            let state = stream.state();
            assert!(state.is_quiet(), "{state:?}");
            let reached = live.values().all(|it| it.start <= history.last() + 1);
            if !live.is_empty() && reached && live.values().all(|it| it.told_from <= history.last())
            {
                let told = Response::Progress(-1, history.last());
                assert!(log.responses.contains(&told), "{state:?} owes progress");
            }
        }
        assert_eq!(self.test.counts().await, (live_watches, 0, 0));
        // Those that were given up while they were busy from the beginning have got nothing at all.
        let past_actors = self
            .past_actors
            .iter()
            .filter(|(_, _, got)| !got.is_empty());
        for (class, start, got) in past_actors {
            history.check_actor(class, *start, got);
        }
        for log in &self.past_streams {
            history.check_stream(&log.creates, &log.responses);
        }
        drop((self.actors, self.streams));
        settle().await;
        let shared = Arc::clone(&self.test.worker().shared);
        assert_eq!(self.test.counts().await, (0, 0, 0));
        assert_eq!(shared.watches.load(Ordering::SeqCst), 0);
        assert_eq!(shared.prev_wanted.load(Ordering::SeqCst), 0);
        assert_eq!(self.test.worker().streams_for_test(), 0);
        self.test.engine.stop().await.expect("stopped");
    }
}

fn delete(range: KeyRange) -> DeleteRange {
    DeleteRange {
        range,
        prev_kv: false,
    }
}

fn pick<'a, T>(chance: &mut Chance, all: &'a mut [T]) -> Option<&'a mut T> {
    let at = chance.below(all.len().max(1));
    all.get_mut(at)
}

/// `VIGIL_SEED` and `VIGIL_SEEDS` say where to begin and how many to try.
fn number_from(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |it| it.parse().expect("a number"))
}

fn simulate(seed: u64) {
    run(|| async {
        let mut simulation = Simulation::start(seed).await;
        for _ in 0..STEPS {
            simulation.step().await;
        }
        simulation.check().await;
    });
}

#[test]
fn whatever_happens_every_watcher_sees_exactly_what_it_asked_for() {
    let (first, seeds) = (number_from("VIGIL_SEED", 0), number_from("VIGIL_SEEDS", 20));
    for seed in first..first + seeds {
        println!("seed {seed}");
        simulate(seed);
    }
}
