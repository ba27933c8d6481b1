//! A simulation: random writes, compactions, failures and watchers on one thread under a paused clock.
//!
//! What every client asked and saw is recorded, and the verdict over the record comes from `tests/validator`, which knows
//! nothing of the engine. A seed decides everything, so that a seed that fails fails again.

mod clients;
mod convert;
mod engine;
mod leases;
mod reached;
mod recorder;
mod requests;
mod steps;
mod upkeep;
#[path = "../../../tests/validator/mod.rs"]
mod validator;
mod world;

use super::support::{pass, run, settle};
use crate::actors::tests::support::counts;
use crate::actors::{Inspection, hooks};
use crate::fault;
use crate::storage::testing::{held_reads, hold_reads};
use clients::{ActorClient, StreamClient};
use reached::Counts;
use recorder::Recorder;
use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use steps::Simulation;
use tokio::task::JoinHandle;
use validator::judge;
use validator::record::{self, Line, Server};
use validator::verdict::Verdict;

const STEPS: usize = 1000;
/// Whoever is told more and more though nothing happens is told the same again and again.
const ROUNDS_MAX: usize = 20_000;
/// How many seeds every run of the tests tries.
const SEEDS: u64 = 30;
/// Seeds that found something. A change of the simulation gives a seed another meaning, so what was found has a test of
/// its own beside it.
const FOUND: [u64; 1] = [786];
/// No step takes as long, not even one in which everybody gets level in [`ROUNDS_MAX`] rounds: whoever waits still waits
/// for ever.
const STEP_TIME_MAX: Duration = Duration::from_hours(6);

impl Simulation {
    async fn run(&mut self) {
        for _ in 0..STEPS {
            let step = tokio::time::timeout(STEP_TIME_MAX, self.step());
            step.await.expect("a step that ends");
            let recorder = self.recorder.clone();
            recorder.digest(tokio::time::Instant::now().duration_since(self.began));
            if self.chance.once_in(20) {
                let states = self.machine.engine.inspect().await;
                recorder.digest(format!("{states:?}"));
                self.look_at_bounds(&states);
                self.look_at_leases();
                self.upkeep.look();
            }
        }
    }

    /// Lets everybody go on until nothing happens any more, and asks every stream how far it has come.
    async fn finish(&mut self) {
        if self.store_fails() {
            self.cut_power().await;
        }
        hooks::on_this_thread(None);
        // Before anybody asks for progress: who is asked looks at what it has missed.
        self.get_level().await;
        self.weather.reads_busy = false;
        self.weather.reads_fail = false;
        for stream in &mut self.streams {
            stream.progress().await;
        }
        self.read_everything().await;
        self.recorder.note(Line::Quiet);
    }

    /// Nothing more goes wrong until everybody has everything; then it goes on as before.
    async fn get_level(&mut self) {
        let before = self.weather;
        self.weather.reads_busy = false;
        self.weather.reads_fail = false;
        for actor in &self.actors {
            actor.go_on();
        }
        self.upkeep.give_up_snapshot();
        self.read_everything().await;
        self.look_at_leases();
        self.upkeep.look();
        self.look_for_stragglers().await;
        self.recorder.note(Line::Quiet);
        self.weather = before;
    }

    /// Nobody waits for an answer, for a read or for room.
    async fn look_for_stragglers(&mut self) {
        assert!(
            self.calls.iter().all(JoinHandle::is_finished),
            "an answer is owed"
        );
        let has_to_end = self.streams.iter().any(|stream| stream.has_to_end);
        assert!(!has_to_end, "a watcher died, and its stream did not");
        let of_streams: usize = self.streams.iter().map(StreamClient::watches).sum();
        let of_actors = self.actors.iter().filter(|actor| !actor.is_over()).count();
        let synced = of_streams + of_actors;
        assert_eq!(counts(&self.machine.engine).await, (synced, 0, 0));
    }

    /// Whoever stalls takes no more than what is meant for it.
    fn look_at_bounds(&self, states: &[Inspection]) {
        let limits = self.machine.limits;
        for state in states {
            let is_bounded = match state {
                Inspection::Store { queued, .. } => *queued <= limits.store.requests_in_flight_max,
                Inspection::VictimRetry { pinned_bytes, .. } => {
                    *pinned_bytes <= limits.pinned_bytes_max
                }
                _ => true,
            };
            assert!(is_bounded, "{state:?} is over a limit");
        }
        let of_actors = self.actors.iter().map(ActorClient::on_their_way);
        let of_streams = self.streams.iter();
        let of_streams = of_streams.map(|it| it.on_their_way(limits.mailbox_messages_max));
        for (messages, most) in of_actors.chain(of_streams) {
            assert!(messages <= most, "{messages} messages wait, {most} may");
        }
    }

    async fn read_everything(&mut self) {
        let (mut quiet, mut rounds) = (0, 0);
        while quiet < 3 {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "it never gets quiet");
            self.answer_reads(usize::MAX);
            // Longer than the net of those whose read was refused.
            pass(world::PROGRESS * 2 / 3).await;
            quiet += 1;
            for stream in &mut self.streams {
                let before = stream.heard;
                while stream.read().await {}
                if stream.heard > before {
                    quiet = 0;
                }
            }
            if held_reads() > 0 || !self.leases_are_over().await {
                quiet = 0;
            }
            self.bury();
        }
    }

    /// What only the engine can say: nobody is left anywhere, and whoever could be told of progress was told.
    async fn look_inside(mut self) {
        let engine = self.machine.engine.clone();
        let revision = engine.revision().0;
        self.look_for_stragglers().await;
        for stream in &self.streams {
            let state = stream.state();
            assert!(state.is_quiet(), "{state:?}");
            assert!(
                !stream.is_owed_progress(revision),
                "{state:?} owes progress"
            );
        }
        self.leave_all();
        settle().await;
        let worker = engine.worker_for_test(0).expect("a worker");
        let shared = Arc::clone(&worker.shared);
        assert_eq!(counts(&engine).await, (0, 0, 0));
        assert_eq!(shared.watches.load(Ordering::SeqCst), 0);
        assert_eq!(shared.prev_wanted.load(Ordering::SeqCst), 0);
        assert_eq!(worker.streams_for_test(), 0);
        engine.stop().await.expect("stopped");
    }
}

/// Says which seed it was when a simulation fails, and leaves its record.
struct Seed {
    number: u64,
    recorder: Recorder,
}

impl Drop for Seed {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let number = self.number;
        let next = number + 1;
        eprintln!("seed {number} fails; again: VIGIL_SIM_SEEDS={number}..{next}");
        let file = std::env::temp_dir().join(format!("vigil-simulation-{number}.jsonl"));
        let (lines, _) = self.recorder.finish();
        let written = File::create(&file).and_then(|file| {
            let mut file = BufWriter::new(file);
            lines
                .iter()
                .try_for_each(|line| record::write(&mut file, line))
        });
        match written {
            Ok(()) => eprintln!("its record: {}", file.display()),
            Err(error) => eprintln!("its record cannot be written: {error}"),
        }
    }
}

/// What a run of one seed has come to.
struct Simulated {
    verdict: Verdict,
    digest: u64,
    lines: usize,
    reached: Counts,
}

fn simulate(number: u64) -> Simulated {
    fault::begin_anew();
    hooks::take_met();
    let recorder = Recorder::default();
    recorder.note(Line::Begin {
        server: Server::Vigil,
    });
    let seed = Seed {
        number,
        recorder: recorder.clone(),
    };
    run(|| async {
        let mut simulation = Simulation::start(number, recorder.clone()).await;
        simulation.run().await;
        simulation.finish().await;
        simulation.look_inside().await;
    });
    hooks::on_this_thread(None);
    hold_reads(false);
    let (lines, digest) = recorder.finish();
    let mut reached = recorder.take_reached();
    reached.add_met(hooks::take_met());
    let verdict = judge(&lines);
    if !verdict.holds() {
        recorder.give_back(lines);
        let few = &verdict.faults[..verdict.faults.len().min(10)];
        let faults: Vec<String> = few.iter().map(ToString::to_string).collect();
        drop(recorder);
        panic!("{verdict}\n{}", faults.join("\n"));
    }
    drop(seed);
    Simulated {
        verdict,
        digest,
        lines: lines.len(),
        reached,
    }
}

/// `VIGIL_SIM_SEEDS=a..b` tries others.
fn seeds() -> Range<u64> {
    let Ok(given) = std::env::var("VIGIL_SIM_SEEDS") else {
        return 0..SEEDS;
    };
    let number = |text: &str| text.parse().expect("a number");
    let (first, end) = given.split_once("..").expect("VIGIL_SIM_SEEDS=a..b");
    number(first)..number(end)
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how fast it is, is told in real time"
)]
fn whatever_happens_every_watcher_sees_exactly_what_it_asked_for() {
    let began = std::time::Instant::now();
    let (mut events, mut progress, mut calls) = (0, 0, 0);
    let mut reached = Counts::default();
    let seeds = seeds();
    for seed in seeds.clone() {
        let simulated = simulate(seed);
        events += simulated.verdict.events;
        progress += simulated.verdict.progress;
        calls += simulated.verdict.calls;
        reached.add_all(&simulated.reached);
        if seed % 1000 == 999 {
            eprintln!("seed {seed}: {events} events so far");
        }
    }
    let time = began.elapsed();
    let per_second = u128::from(events) * 1000 / time.as_millis().max(1);
    eprintln!(
        "seeds {seeds:?}: {events} events delivered, {progress} progress, {calls} answers; {time:.1?}, \
         {per_second} events/s"
    );
    eprintln!("reached: {reached}");
    if seeds == (0..SEEDS) {
        let missing = reached.missing();
        assert!(missing.is_empty(), "never reached: {missing:?}");
    }
}

#[test]
fn seeds_that_once_found_a_fault_find_none() {
    for seed in FOUND {
        let simulated = simulate(seed);
        assert!(simulated.verdict.events > 0, "seed {seed} saw nothing");
    }
}

#[test]
fn t5_a_seed_replays_exactly() {
    for seed in 0..8 {
        let (first, second) = (simulate(seed), simulate(seed));
        assert_eq!(first.lines, second.lines, "seed {seed}");
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}
