//! What the actors' tests share: an engine on one thread, watchers that can be made to stall, and streams read by hand.

mod streams;

use crate::actors::protocol::ToWatcher;
use crate::actors::stream::{InFlight, LinkState};
use crate::actors::supervision::Worker;
use crate::actors::{Engine, EngineConfig, EngineLimits, Inspection, Placement, Watch};
use crate::model::{
    DeleteRange, Event, EventKind, KeyRange, Op, Put, Revision, Txn, WatchSpec, Write,
};
use crate::storage::StorageLimits;
use actix::prelude::*;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;

pub(super) use streams::{Response, TestStream, create};

/// Runs a test inside a System, under a paused clock: time moves only when nobody has anything to do. It is paused before
/// the runtime is there: how long that takes to build would decide in which order timers of one moment go off (T5).
pub(super) fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let paused = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap()
    };
    System::with_tokio_rt(paused).block_on(async move { test().await });
}

/// Returns when every actor of this thread has done all it can do now.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Lets so much time pass.
pub(super) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// An engine on the test's own arbiter.
pub(super) struct TestEngine {
    pub(super) engine: Engine,
    dir: TempDir,
}

impl TestEngine {
    pub(super) async fn start(limits: EngineLimits) -> Self {
        Self::start_with(limits, StorageLimits::default()).await
    }

    pub(super) async fn start_with(limits: EngineLimits, storage: StorageLimits) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = EngineConfig {
            data_dir: dir.path().to_owned(),
            placement: Placement::Current,
            limits,
            storage,
        };
        Self {
            engine: Engine::start(config).await.expect("an engine"),
            dir,
        }
    }

    /// The same store, opened again.
    pub(super) async fn restart(self, limits: EngineLimits) -> Self {
        self.engine.stop().await.expect("stopped");
        settle().await;
        let Self { engine, dir } = self;
        drop(engine);
        let config = EngineConfig {
            data_dir: dir.path().to_owned(),
            placement: Placement::Current,
            limits,
            storage: StorageLimits::default(),
        };
        Self {
            engine: Engine::start(config).await.expect("an engine"),
            dir,
        }
    }

    pub(super) async fn put(&self, key: &str, value: &str) -> Revision {
        self.engine
            .put(key.to_owned(), value.to_owned())
            .await
            .expect("a put")
    }

    pub(super) async fn delete(&self, key: &str) -> Revision {
        let delete = DeleteRange {
            range: KeyRange::single(key.to_owned()),
            prev_kv: false,
        };
        self.engine
            .write(Write::Delete(delete))
            .await
            .expect("a delete")
            .revision
    }

    /// One transaction that puts all these keys.
    pub(super) async fn put_all(&self, keys: &[&str]) -> Revision {
        let put = |key: &&str| {
            Op::Put(Put {
                key: (*key).to_owned().into(),
                ..Put::default()
            })
        };
        let txn = Txn {
            success: keys.iter().map(put).collect(),
            ..Txn::default()
        };
        self.engine
            .write(Write::Txn(txn))
            .await
            .expect("a txn")
            .revision
    }

    pub(super) fn worker(&self) -> Arc<Worker> {
        self.engine.worker_for_test(0).expect("a worker")
    }

    /// An actor of the application's own that watches.
    pub(super) async fn watch(&self, spec: WatchSpec, capacity: usize) -> TestWatch {
        TestWatch::start(&self.engine, spec, capacity, false).await
    }

    /// The same, by an actor that is busy with something else when it is registered.
    pub(super) async fn watch_while_busy(&self, spec: WatchSpec, capacity: usize) -> TestWatch {
        TestWatch::start(&self.engine, spec, capacity, true).await
    }

    /// A stream whose outbox is read by hand.
    pub(super) fn stream(&self) -> TestStream {
        let (control, reader) = self.engine.open_stream(0).expect("a stream");
        TestStream { control, reader }
    }

    /// How often history was read from the disk, by stretches and by revision numbers.
    pub(super) async fn reads(&self) -> (u64, u64) {
        let states = self.engine.inspect().await;
        let reads = states.iter().find_map(|state| match state {
            Inspection::Sync {
                stretches_read,
                picks_read,
                ..
            } => Some((*stretches_read, *picks_read)),
            _ => None,
        });
        reads.expect("a Sync")
    }

    pub(super) async fn synced(&self) -> usize {
        self.counts().await.0
    }

    /// Synced, unsynced and victims.
    pub(super) async fn counts(&self) -> (usize, usize, usize) {
        counts(&self.engine).await
    }

    /// Everything has ended, and no watcher was left behind.
    /// Where the store lies.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) async fn finish(self) {
        settle().await;
        // The nets sweep what nobody was told of.
        pass(Duration::from_secs(2)).await;
        assert_eq!(self.counts().await, (0, 0, 0), "watchers were left behind");
        self.engine.stop().await.expect("stopped");
    }
}

/// What a watcher saw of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) revision: i64,
    pub(super) kind: EventKind,
    pub(super) key: String,
    pub(super) prev: Option<String>,
}

impl Seen {
    fn of(event: &Event, with_prev: bool) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let prev = if with_prev {
            event.prev().flatten()
        } else {
            None
        };
        Self {
            revision: event.kv.mod_revision.0,
            kind: event.kind,
            key: text(&event.kv.key),
            prev: prev.map(|kv| text(&kv.value)),
        }
    }
}

/// A watching actor that can be stalled.
struct Taker {
    seen: Arc<Mutex<Vec<Got>>>,
    open: watch::Receiver<bool>,
    capacity: usize,
}

/// One message, as the taker got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Created(i64),
    Events(Vec<Seen>),
    Progress(i64),
    Compacted(i64),
    Cancelled,
}

impl Actor for Taker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.capacity);
    }
}

impl Handler<ToWatcher> for Taker {
    type Result = ();

    fn handle(&mut self, message: ToWatcher, ctx: &mut Self::Context) {
        let got = match &message {
            ToWatcher::Created { revision, .. } => Got::Created(revision.0),
            ToWatcher::Events(delivery) => {
                Got::Events(seen_of(delivery.batch.events(), delivery.batch.with_prev()))
            }
            ToWatcher::Progress { revision, .. } => Got::Progress(revision.0),
            ToWatcher::Compacted {
                compact_revision, ..
            } => Got::Compacted(compact_revision.0),
            ToWatcher::Cancelled => Got::Cancelled,
        };
        if got != Got::Progress(OWN.0) {
            self.seen.lock().expect("seen").push(got);
        }
        let mut open = self.open.clone();
        // Busy with this message until the gate opens: the mailbox fills behind it.
        let busy = async move {
            let _ = open.wait_for(|open| *open).await;
            drop(message);
        };
        ctx.wait(busy.into_actor(self));
    }
}

/// No engine tells this progress.
const OWN: Revision = Revision(-1);

/// What keeps a taker busy without being noted.
fn own_message() -> ToWatcher {
    ToWatcher::Progress {
        revision: OWN,
        in_flight: InFlight::of_nothing(),
    }
}

fn seen_of(events: &[Arc<Event>], with_prev: bool) -> Vec<Seen> {
    events
        .iter()
        .map(|event| Seen::of(event, with_prev))
        .collect()
}

/// A watch of the application's own, as the test sees it.
pub(super) struct TestWatch {
    seen: Arc<Mutex<Vec<Got>>>,
    gate: watch::Sender<bool>,
    pub(super) watch: Watch,
    /// The application's own handle; the engine's is a slot of its own.
    _actor: Addr<Taker>,
}

impl TestWatch {
    /// Works on any engine, one on threads of its own included.
    pub(super) async fn start(
        engine: &Engine,
        spec: WatchSpec,
        capacity: usize,
        busy: bool,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (gate, open) = watch::channel(!busy);
        let actor = Taker {
            seen: Arc::clone(&seen),
            open,
            capacity,
        };
        let actor = actor.start();
        if busy {
            actor.do_send(own_message());
            settle().await;
        }
        let recipient = actor.clone().recipient();
        let watch = engine.watch(spec, recipient).await.expect("a watch");
        Self {
            seen,
            gate,
            watch,
            _actor: actor,
        }
    }

    pub(super) fn stall(&self) {
        self.gate.send_replace(false);
    }

    pub(super) fn go_on(&self) {
        self.gate.send_replace(true);
    }

    pub(super) fn got(&self) -> Vec<Got> {
        self.seen.lock().expect("seen").clone()
    }

    pub(super) fn events(&self) -> Vec<Seen> {
        let events = self.got().into_iter().filter_map(|got| match got {
            Got::Events(events) => Some(events),
            _ => None,
        });
        events.flatten().collect()
    }

    /// What the actors share about it.
    pub(super) fn shared(&self) -> Arc<LinkState> {
        let live = self.watch.live_for_test().expect("a live watch");
        live.shared.upgrade().expect("an entry")
    }

    /// Puts a message of the test's own in its mailbox.
    pub(super) fn push(&self) {
        let live = self.watch.live_for_test().expect("a live watch");
        let actor = live.address.upgrade().expect("an actor");
        actor.do_send(own_message());
    }

    pub(super) fn revisions(&self) -> Vec<i64> {
        self.events().iter().map(|seen| seen.revision).collect()
    }
}

/// A spec for everything, from a revision on.
pub(super) fn everything_from(start: i64) -> WatchSpec {
    WatchSpec::new(
        KeyRange::everything(),
        (start > 0).then_some(Revision(start)),
    )
}

/// Revisions as a list.
pub(super) fn upto(first: i64, last: i64) -> Vec<i64> {
    (first..=last).collect()
}

/// Synced, unsynced and victims.
pub(super) async fn counts(engine: &Engine) -> (usize, usize, usize) {
    let mut counts = (0, 0, 0);
    for state in engine.inspect().await {
        match state {
            Inspection::WatcherGroup { synced, held, .. } => counts.0 += synced + held,
            Inspection::Sync { unsynced, .. } => counts.1 += unsynced,
            Inspection::VictimRetry { victims, .. } => counts.2 += victims,
            Inspection::Store { .. } => {}
        }
    }
    counts
}
