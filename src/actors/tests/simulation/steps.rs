//! What can happen in a simulation: each step is one thing that a client, the disk or the clock does.
//!
//! The order of steps is the seed's; between two of them the actors run for as long as the seed lets them.

use super::clients::{ActorClient, Manners, StreamClient};
use super::convert;
use super::engine::Machine;
use super::recorder::Recorder;
use super::validator::answers::single;
use super::validator::record::{Compare, Create, Range, Relation, Request, Target};
use super::world::{Chance, PROGRESS, Weather};
use crate::actors::tests::support::{pass, settle};
use crate::model::Revision;
use crate::storage::testing::{HeldAnswer, answer_held, held_reads};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::Instant;

const KEYS: usize = 4;
const STREAMS_MAX: usize = 6;
/// Herds of actors, and actors that come alone.
const HERDS_MAX: usize = 5;

/// A simulation on its way.
pub(super) struct Simulation {
    pub(super) chance: Chance,
    pub(super) weather: Weather,
    pub(super) machine: Machine,
    pub(super) recorder: Recorder,
    pub(super) calls: Vec<JoinHandle<()>>,
    pub(super) actors: Vec<ActorClient>,
    pub(super) streams: Vec<StreamClient>,
    /// Watches whose clients have not come back yet.
    resumes: Vec<Create>,
    written: usize,
    disk_will_fail: bool,
    pub(super) began: Instant,
}

fn range(key: &str, end: &str) -> Range {
    let (key, end) = (key.to_owned().into(), end.to_owned().into());
    Range { key, end }
}

impl Simulation {
    pub(super) async fn start(seed: u64, recorder: Recorder) -> Self {
        let mut chance = Chance(seed);
        let weather = Weather::of(&mut chance);
        let machine = Machine::start(&mut chance, weather, recorder.clone()).await;
        Self {
            chance,
            weather,
            machine,
            recorder,
            calls: Vec::new(),
            actors: Vec::new(),
            streams: Vec::new(),
            resumes: Vec::new(),
            written: 0,
            disk_will_fail: false,
            began: Instant::now(),
        }
    }

    pub(super) async fn step(&mut self) {
        self.fate().await;
        match self.chance.below(30) {
            0..9 => self.write(),
            9 => self.compact(),
            10 => self.range(),
            11 => self.watch().await,
            12 => self.open().await,
            13..15 => self.create().await,
            15 => self.cancel().await,
            16..18 => self.ask().await,
            18..23 => self.read().await,
            23 => self.stall(),
            24 => (0..=self.weather.herd).for_each(|_| self.go_on()),
            25 => self.give_up(),
            26..28 => {
                for _ in 0..=self.resumes.len() / 4 {
                    self.come_back().await;
                }
            }
            28 => self.answer_reads(usize::MAX),
            _ => pass(PROGRESS / 3).await,
        }
        let answers = self.chance.below(3);
        self.answer_reads(answers);
        match self.chance.below(4) {
            0 => settle().await,
            more => {
                for _ in 0..more * more * 2 {
                    yield_now().await;
                }
            }
        }
        self.calls.retain(|call| !call.is_finished());
    }

    /// The rare events.
    async fn fate(&mut self) {
        let calm = self.weather.calm;
        if self.weather.no_space && self.chance.once_in(calm / 4) {
            let bytes = self.chance.of(&[0, u64::MAX, u64::MAX]);
            self.machine.set_free_bytes(bytes);
        }
        if self.recorder.store_failed() && self.chance.once_in(4) {
            return self.cut_power().await;
        }
        if self.weather.power_cuts && self.chance.once_in(calm) {
            if self.chance.once_in(3) {
                return self.cut_power().await;
            }
            self.disk_will_fail = true;
            self.machine.fail_after(self.chance.below(6));
        } else if !self.disk_will_fail && self.chance.once_in(calm * 2) {
            self.leave_all();
            self.machine.restart(&mut self.chance).await;
        }
    }

    /// Everybody loses the engine, and what they were asking is never answered.
    pub(super) async fn cut_power(&mut self) {
        self.leave_all();
        self.machine.cut_power(&mut self.chance).await;
        self.disk_will_fail = false;
    }

    /// True when the disk fails, or is going to.
    pub(super) fn store_fails(&self) -> bool {
        self.disk_will_fail || self.recorder.store_failed()
    }

    pub(super) fn leave_all(&mut self) {
        for call in self.calls.drain(..) {
            call.abort();
        }
        let streams = self.streams.drain(..).flat_map(StreamClient::leave);
        self.resumes.extend(streams);
        let actors = self.actors.drain(..).flat_map(ActorClient::leave);
        self.resumes.extend(actors);
    }

    fn key(&mut self) -> String {
        format!("k{}", self.chance.below(KEYS))
    }

    fn put(&mut self, key: String) -> Request {
        self.written += 1;
        let long = if self.chance.once_in(8) { 150 } else { 0 };
        Request::Put {
            key: key.into(),
            value: format!("v{}{}", self.written, ".".repeat(long)).into(),
            lease: 0,
            prev_kv: self.chance.once_in(4),
        }
    }

    fn delete(&mut self, range: Range) -> Request {
        let prev_kv = self.chance.once_in(4);
        Request::Delete { range, prev_kv }
    }

    fn write(&mut self) {
        let key = self.key();
        let request = match self.chance.below(9) {
            0..5 => self.put(key),
            5 => self.delete(single(key)),
            6 => self.delete(range("k", "l")),
            7 => self.compare_and_swap(key),
            _ => {
                let puts = (0..2 + self.chance.below(KEYS - 1)).map(|key| format!("k{key}"));
                let puts: Vec<String> = puts.collect();
                Request::Txn {
                    compares: Vec::new(),
                    success: puts.into_iter().map(|key| self.put(key)).collect(),
                    failure: Vec::new(),
                }
            }
        };
        let engine = self.machine.engine.clone();
        let (recorder, call) = (self.recorder.clone(), self.recorder.call(&request));
        let Some(write) = convert::write(&request) else {
            return;
        };
        self.calls.push(actix::spawn(async move {
            recorder.answered(call, convert::of_write(engine.write(write).await));
        }));
    }

    /// Puts a key, and deletes and reads others, unless it is not as it was thought to be.
    fn compare_and_swap(&mut self, key: String) -> Request {
        let near = self.machine.engine.revision().0 - self.chance.few(6);
        let target = match self.chance.below(4) {
            0 => Target::Mod(near),
            1 => Target::Create(near),
            2 => Target::Version(self.chance.few(3)),
            _ => Target::Value("v".into()),
        };
        let relation = self.chance.of(&[
            Relation::Equal,
            Relation::NotEqual,
            Relation::Less,
            Relation::Greater,
        ]);
        let compare = Compare {
            range: single(key.clone()),
            relation,
            target,
        };
        let put = self.put(key);
        let gone = self.delete(single(format!("l{}", self.chance.clone().below(2))));
        Request::Txn {
            compares: vec![compare],
            success: vec![self.range_request(0), put, gone, self.range_request(0)],
            failure: vec![self.range_request(0)],
        }
    }

    fn range_request(&mut self, revision: i64) -> Request {
        let key = self.key();
        Request::Range {
            range: match self.chance.below(3) {
                0 => single(key),
                1 => range("k", "l"),
                _ => range("\0", "\0"),
            },
            revision,
            limit: self.chance.of(&[0, 0, 1, 2]),
            keys_only: self.chance.once_in(4),
            count_only: self.chance.once_in(4),
        }
    }

    fn range(&mut self) {
        let current = self.machine.engine.revision().0;
        let revision = match self.chance.below(3) {
            0 => 0,
            1 => current + 1 - self.chance.few(4),
            _ => 1 + self.chance.few(current),
        };
        let request = self.range_request(revision);
        let Some(query) = convert::query(&request) else {
            return;
        };
        let engine = self.machine.engine.clone();
        let (recorder, call) = (self.recorder.clone(), self.recorder.call(&request));
        self.calls.push(actix::spawn(async move {
            let answer = engine.range(query).await;
            recorder.answered(call, convert::of_range(answer));
        }));
    }

    fn compact(&mut self) {
        let current = self.machine.engine.revision().0;
        if self.chance.once_in(2) || current < 4 {
            return;
        }
        let span = self.chance.of(&[current / 2, 4, 20]).min(current - 1);
        let revision = current - self.chance.few(span);
        let physical = self.chance.once_in(2);
        let engine = self.machine.engine.clone();
        let call = self.recorder.call(&Request::Compact { revision });
        let recorder = self.recorder.clone();
        self.calls.push(actix::spawn(async move {
            let answer = engine.compact(Revision(revision), physical).await;
            recorder.answered(call, convert::of_compact(answer));
        }));
    }

    /// A watch that starts anywhere: now, in the past, in what is compacted, in the future.
    fn new_watch(&mut self) -> Create {
        let key = self.key();
        let range = match self.chance.below(5) {
            0 | 1 => single(key),
            2 => range("k1", "k3"),
            _ => range("\0", "\0"),
        };
        let current = self.machine.engine.revision().0;
        let start_revision = match self.chance.below(6) {
            0 | 1 => 0,
            2 => current + self.chance.few(4),
            3 => 1,
            4 => current - self.chance.few(current),
            _ => (current - self.chance.few(8)).max(1),
        };
        Create {
            watch_id: self.chance.of(&[0, 0, 1, 2]),
            range,
            start_revision,
            no_put: self.chance.once_in(6),
            no_delete: self.chance.once_in(6),
            prev_kv: self.chance.once_in(2),
            fragment: false,
        }
    }

    async fn watch(&mut self) {
        let create = Create {
            watch_id: 0,
            ..self.new_watch()
        };
        for _ in 0..self.weather.herd {
            self.watch_with(create.clone()).await;
        }
    }

    fn actors_max(&self) -> usize {
        HERDS_MAX * self.weather.herd + HERDS_MAX
    }

    async fn watch_with(&mut self, create: Create) {
        if self.actors.len() >= self.actors_max() {
            return;
        }
        let manners = Manners {
            capacity: 1 + self.chance.below(3),
            busy: self.chance.once_in(3),
            progress_notify: self.chance.once_in(2),
        };
        let (engine, recorder) = (&self.machine.engine, &self.recorder);
        let actor = ActorClient::start(engine, recorder, create, manners).await;
        self.actors.push(actor);
    }

    async fn open(&mut self) {
        if self.streams.len() < STREAMS_MAX {
            let stream = StreamClient::open(&self.machine.engine, &self.recorder);
            self.streams.extend(stream);
            self.create().await;
        }
    }

    async fn create(&mut self) {
        let (create, progress_notify) = (self.new_watch(), self.chance.once_in(2));
        if let Some(stream) = self.chance.pick(&mut self.streams) {
            stream.create(create, progress_notify).await;
        }
    }

    /// Somebody who has lost a watch goes on where it was lost.
    async fn come_back(&mut self) {
        if self.resumes.is_empty() {
            return;
        }
        let at = self.chance.below(self.resumes.len());
        let create = Create {
            watch_id: 0,
            ..self.resumes.swap_remove(at)
        };
        if self.chance.once_in(3) {
            return self.watch_with(create).await;
        }
        if self.streams.len() < STREAMS_MAX && self.chance.once_in(2) {
            let stream = StreamClient::open(&self.machine.engine, &self.recorder);
            self.streams.extend(stream);
        }
        let progress_notify = self.chance.once_in(2);
        if let Some(stream) = self.chance.pick(&mut self.streams) {
            stream.create(create, progress_notify).await;
        }
    }

    async fn cancel(&mut self) {
        let watch_id = self.chance.of(&[0, 1, 2, 3]);
        if let Some(stream) = self.chance.pick(&mut self.streams) {
            stream.cancel(watch_id).await;
        }
    }

    async fn ask(&mut self) {
        if let Some(stream) = self.chance.pick(&mut self.streams) {
            stream.progress().await;
        }
    }

    async fn read(&mut self) {
        for _ in 0..self.chance.of(&[1, STREAMS_MAX]) {
            let responses_max = self.chance.of(&[1, 3, 30, 100]);
            let Some(stream) = self.chance.pick(&mut self.streams) else {
                return;
            };
            for _ in 0..responses_max {
                if !stream.read().await {
                    break;
                }
            }
            self.resumes.extend(stream.compacted());
        }
        self.bury();
    }

    /// Takes leave of streams that have ended.
    pub(super) fn bury(&mut self) {
        for ended in self.streams.extract_if(.., |stream| stream.ended) {
            self.resumes.extend(ended.leave());
        }
        // More would come back than ever left.
        let most = self.actors_max();
        self.resumes.truncate(most);
    }

    fn stall(&mut self) {
        if let Some(actor) = self.chance.pick(&mut self.actors) {
            actor.stall();
        }
    }

    fn go_on(&mut self) {
        if let Some(actor) = self.chance.pick(&mut self.actors) {
            actor.go_on();
        }
    }

    fn give_up(&mut self) {
        let left = if self.chance.once_in(3) {
            if self.streams.is_empty() {
                return;
            }
            let at = self.chance.below(self.streams.len());
            self.streams.swap_remove(at).leave()
        } else {
            if self.actors.is_empty() {
                return;
            }
            let at = self.chance.below(self.actors.len());
            self.actors.swap_remove(at).leave()
        };
        self.resumes.extend(left);
    }

    /// Answers some of the reads that wait, in any order.
    pub(super) fn answer_reads(&mut self, count: usize) {
        for _ in 0..count {
            let held = held_reads();
            if held == 0 {
                return;
            }
            let answer = if self.weather.reads_fail && self.chance.once_in(40) {
                HeldAnswer::Failed
            } else if self.weather.reads_busy && self.chance.once_in(10) {
                HeldAnswer::Busy
            } else {
                HeldAnswer::Read
            };
            answer_held(self.chance.below(held), answer);
        }
    }
}
