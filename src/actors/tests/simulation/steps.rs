//! What can happen in a simulation: each step is one thing that a client, the disk or the clock does.
//!
//! The order of steps is the seed's; between two of them the actors run for as long as the seed lets them.

use super::clients::{ActorClient, Manners, StreamClient};
use super::engine::Machine;
use super::leases::HeldLease;
use super::reached::Reached;
use super::recorder::Recorder;
use super::upkeep::Upkeep;
use super::validator::record::{Create, Line};
use super::world::{Chance, PROGRESS, Place, Weather};
use crate::actors::tests::support::{pass, settle};
use crate::model::LeaseId;
use crate::storage::testing::{HeldAnswer, answer_held, held_reads};
use std::cell::Cell;
use std::rc::Rc;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep_until};

const STREAMS_MAX: usize = 6;
/// Steps between two moments in which everybody gets level, about.
const QUIET_ONE_IN: usize = 300;
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
    pub(super) written: usize,
    disk_will_fail: bool,
    /// The leases that were asked for last.
    pub(super) leases: Vec<HeldLease>,
    pub(super) leases_granted: i64,
    /// One that a keep-alive did not find though its time was not over.
    pub(super) lease_ended_early: Rc<Cell<Option<LeaseId>>>,
    pub(super) began: Instant,
    pub(super) upkeep: Upkeep,
}

impl Simulation {
    pub(super) async fn start(seed: u64, recorder: Recorder) -> Self {
        let mut chance = Chance(seed);
        let weather = Weather::of(&mut chance);
        let machine = Machine::start(&mut chance, weather, recorder.clone()).await;
        let is_logged = weather.place == Place::Logged;
        recorder.reached(Reached::CommitLog, usize::from(is_logged));
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
            leases: Vec::new(),
            leases_granted: 0,
            lease_ended_early: Rc::default(),
            began: Instant::now(),
            upkeep: Upkeep::default(),
        }
    }

    pub(super) async fn step(&mut self) {
        self.fate().await;
        match self.chance.below(35) {
            0..9 => {
                // Now and then so many at once that they are committed together.
                for _ in 0..self.chance.of(&[1, 1, 1, 1, 1, 5]) {
                    self.write();
                }
            }
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
            29 => self.tick().await,
            30 | 31 => self.lease(),
            32 | 33 => self.maintain(),
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

    /// Something happens in the very moment in which the engine's clocks strike.
    async fn tick(&mut self) {
        let passed = Instant::now().duration_since(self.machine.started);
        let ticks = passed.as_nanos() / PROGRESS.as_nanos() + 1;
        let next = PROGRESS * u32::try_from(ticks).expect("few ticks");
        sleep_until(self.machine.started + next).await;
        match self.chance.below(3) {
            0 => self.write(),
            1 => self.cancel().await,
            _ => self.ask().await,
        }
    }

    /// The rare events.
    async fn fate(&mut self) {
        let calm = self.weather.calm;
        if self.weather.deaths && self.chance.once_in(calm) {
            self.recorder.note(Line::Trouble);
            self.recorder.reached(Reached::Death, 1);
            let place = self.chance.below(8);
            match self.chance.pick(&mut self.streams) {
                Some(stream) if place < 3 => {
                    if let Some(watch_id) = stream.watch_at(place) {
                        stream.kill_watcher(watch_id);
                    }
                }
                _ => self.machine.kill_one(&mut self.chance),
            }
        }
        if !self.store_fails() && self.chance.once_in(QUIET_ONE_IN) {
            self.get_level().await;
        }
        if self.weather.no_space && self.chance.once_in(calm / 4) {
            let bytes = self.chance.of(&[0, u64::MAX, u64::MAX]);
            self.machine.set_free_bytes(bytes);
        }
        if self.recorder.store_failed() && self.chance.once_in(4) {
            return self.cut_power().await;
        }
        if self.weather.power_cuts && self.chance.once_in(calm / 2) {
            if self.chance.once_in(3) {
                return self.cut_power().await;
            }
            self.disk_will_fail = true;
            self.recorder.note(Line::Trouble);
            let calls = self.chance.below(6);
            self.machine.fail_after(calls, &mut self.chance);
        } else if !self.disk_will_fail && self.chance.once_in(calm * 2) {
            if self.chance.once_in(2) {
                self.get_level().await;
            }
            self.leave_all();
            self.recorder.reached(Reached::Restart, 1);
            self.machine.restart(&mut self.chance).await;
        }
    }

    /// Everybody loses the engine, and what they were asking is never answered.
    pub(super) async fn cut_power(&mut self) {
        self.leave_all();
        self.recorder.reached(Reached::PowerCut, 1);
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
        self.upkeep.leave();
        let streams = self.streams.drain(..).flat_map(StreamClient::leave);
        self.resumes.extend(streams);
        let actors = self.actors.drain(..).flat_map(ActorClient::leave);
        self.resumes.extend(actors);
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
        self.recorder.reached(Reached::ComeBack, 1);
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
        let any = self.chance.of(&[0, 1, 2, 3, 77]);
        let (is_live, place) = (self.chance.once_in(2), self.chance.below(8));
        if let Some(stream) = self.chance.pick(&mut self.streams) {
            let live = stream.watch_at(place).filter(|_| is_live);
            let watch_id = live.unwrap_or(any);
            stream.cancel(watch_id).await;
        }
    }

    /// Asks for progress, and perhaps for another watch before the answer can be there.
    async fn ask(&mut self) {
        let at = self.chance.below(self.streams.len());
        let Some(stream) = self.streams.get_mut(at) else {
            return;
        };
        stream.progress().await;
        if self.chance.once_in(2) {
            return;
        }
        self.write();
        for _ in 0..self.chance.below(20) {
            yield_now().await;
        }
        let (create, progress_notify) = (self.new_watch(), self.chance.once_in(2));
        let create = Create {
            start_revision: 0,
            ..create
        };
        if let Some(stream) = self.streams.get_mut(at) {
            stream.create(create, progress_notify).await;
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
                // Who needs what cannot be read is told to come back.
                self.recorder.note(Line::Trouble);
                self.recorder.reached(Reached::FailedRead, 1);
                HeldAnswer::Failed
            } else if self.weather.reads_busy && self.chance.once_in(10) {
                self.recorder.reached(Reached::FailedRead, 1);
                HeldAnswer::Busy
            } else {
                HeldAnswer::Read
            };
            answer_held(self.chance.below(held), answer);
        }
    }
}
