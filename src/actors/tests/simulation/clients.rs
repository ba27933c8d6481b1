//! Those who watch in a simulation: streams that are read by hand, and actors of an application that can be stalled.
//!
//! Each writes down what it asks and is told, and knows where it would go on if it had to come back.

use super::convert;
use super::reached::Reached;
use super::recorder::Recorder;
use super::validator::record::{Ask, Create, Line, Response};
use crate::actors::outbox::{Next, OutboxReader, StreamItem};
use crate::actors::protocol::ToWatcher;
use crate::actors::stream::StreamState;
use crate::actors::tests::deaths::poison_watcher;
use crate::actors::{Engine, Watch, WatchStream};
use crate::model::{Revision, WatchClass, WatchId, WatchSpec};
use actix::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use tokio::sync::watch;

/// Messages that are counted for a watcher beside those in its mailbox: the one that it handles, the one that a sender
/// may always leave, and `created`.
const BESIDE: usize = 3;

/// The watches of one stream, as its client knows them.
#[derive(Debug, Default)]
struct Position {
    asked: VecDeque<Create>,
    /// Each with its next revision as its start, and the start that it was asked for with.
    live: BTreeMap<i64, (Create, i64)>,
    /// The last progress of all watches together.
    progress: i64,
    /// Watches that were told that they are compacted.
    compacted: Vec<Create>,
}

impl Position {
    fn take(&mut self, told: &Response) {
        let revision = told.revision.unwrap_or_default();
        if told.created {
            let asked = self.asked.pop_front();
            let Some(mut create) = asked.filter(|_| !told.canceled) else {
                return;
            };
            let asked = create.start_revision;
            if asked == 0 {
                create.start_revision = revision + 1;
            }
            self.live.insert(told.watch_id, (create, asked));
        } else if told.canceled {
            let gone = self.live.remove(&told.watch_id);
            if let Some((create, _)) = gone.filter(|_| told.compact_revision > 0) {
                let start_revision = told.compact_revision;
                self.compacted.push(Create {
                    start_revision,
                    ..create
                });
            }
        } else {
            let last = told.events.last().map(|event| event.kv.mod_revision);
            let next = last.unwrap_or(revision) + 1;
            if told.watch_id == -1 {
                self.progress = revision;
            }
            let is_told = |id: &i64| told.watch_id == -1 || *id == told.watch_id;
            for (_, (create, _)) in self.live.iter_mut().filter(|(id, _)| is_told(id)) {
                create.start_revision = create.start_revision.max(next);
            }
        }
    }

    /// Where everything that is not over goes on.
    fn resume(&mut self) -> Vec<Create> {
        let live = std::mem::take(&mut self.live).into_values();
        let live = live.map(|(create, _)| create);
        let rest = live.chain(self.asked.drain(..));
        rest.chain(self.compacted.drain(..)).collect()
    }
}

/// A watch stream.
pub(super) struct StreamClient {
    number: u64,
    control: WatchStream,
    reader: OutboxReader,
    position: Position,
    recorder: Recorder,
    pub(super) ended: bool,
    /// One of its watchers has died.
    pub(super) has_to_end: bool,
    /// Responses that were not progress.
    pub(super) heard: u64,
}

impl StreamClient {
    pub(super) fn open(engine: &Engine, recorder: &Recorder) -> Option<Self> {
        let (control, reader) = engine.open_stream(0).ok()?;
        Some(Self {
            number: recorder.number(),
            control,
            reader,
            position: Position::default(),
            recorder: recorder.clone(),
            ended: false,
            has_to_end: false,
            heard: 0,
        })
    }

    fn ask(&self, ask: Ask) {
        let stream = self.number;
        self.recorder.note(Line::Ask { stream, ask });
    }

    pub(super) async fn create(&mut self, create: Create, progress_notify: bool) {
        self.ask(Ask::Create(create.clone()));
        let request = convert::watch_create(&create, progress_notify);
        self.position.asked.push_back(create);
        self.control.create([request]).await;
    }

    pub(super) async fn cancel(&mut self, watch_id: i64) {
        self.ask(Ask::Cancel { watch_id });
        self.control.cancel(WatchId(watch_id)).await;
    }

    pub(super) async fn progress(&mut self) {
        self.ask(Ask::Progress);
        self.control.request_progress().await;
    }

    /// Reads the next response, if there is one now; true when there was.
    pub(super) async fn read(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let next = poll_fn(|cx| match self.reader.poll_next(cx) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending => Poll::Ready(None),
        });
        let stream = self.number;
        match next.await {
            None => return false,
            Some(Next::End(end)) => {
                self.ended = true;
                let why = format!("{end:?}");
                self.recorder.note(Line::Broken { stream, why });
            }
            Some(Next::Item(item)) => {
                self.check_fragment(&item);
                let response = convert::response(&item);
                drop(item);
                self.position.take(&response);
                self.heard += u64::from(!response.is_progress());
                self.recorder.note(Line::Told { stream, response });
            }
        }
        true
    }

    /// The edge may cut a response exactly when its client said so. (It cuts when it encodes, which nobody does here.)
    fn check_fragment(&self, item: &StreamItem) {
        let StreamItem::Events {
            watch_id, fragment, ..
        } = item
        else {
            return;
        };
        if let Some((create, _)) = self.position.live.get(&watch_id.0) {
            assert_eq!(*fragment, create.fragment, "{create:?}");
        }
    }

    /// The id of one of its watches, if it has any.
    pub(super) fn watch_at(&self, place: usize) -> Option<i64> {
        let place = place % self.watches().max(1);
        self.position.live.keys().nth(place).copied()
    }

    /// Lets one of its watchers die, and the stream has to end. A watch that has
    /// ended already, unheard by us, has none.
    pub(super) fn kill_watcher(&mut self, watch_id: i64) {
        self.has_to_end |= poison_watcher(&self.control, watch_id);
    }

    /// Messages on their way to its watchers, and how many there can be at most, with such a mailbox each.
    pub(super) fn on_their_way(&self, mailbox_messages_max: usize) -> (usize, usize) {
        let state = self.state();
        // One that has just ended is not listed any more, and what was on its way to it may still be.
        let watches = state.watches().len() + 1;
        (state.in_flight(), watches * (mailbox_messages_max + BESIDE))
    }

    /// Watches that were compacted and begin anew, on this stream.
    pub(super) fn compacted(&mut self) -> Vec<Create> {
        self.position.compacted.drain(..).collect()
    }

    /// Leaves; what it watched goes on elsewhere.
    pub(super) fn leave(mut self) -> Vec<Create> {
        if !self.ended {
            let stream = self.number;
            self.recorder.note(Line::Ended { stream });
        }
        self.position.resume()
    }

    /// What the actors share about the stream.
    pub(super) fn state(&self) -> Arc<StreamState> {
        self.control.state_for_test()
    }

    /// How many watches it has.
    pub(super) fn watches(&self) -> usize {
        self.position.live.len()
    }

    /// True when it asked for progress at this revision and can be told of it, but was not.
    pub(super) fn is_owed_progress(&self, revision: i64) -> bool {
        let mut starts = self.position.live.values().map(|(_, asked)| *asked);
        let can_be_told = self.watches() > 0 && starts.all(|start| start <= revision);
        can_be_told && self.position.progress < revision
    }
}

/// A watching actor of an application.
pub(super) struct ActorClient {
    number: u64,
    position: Arc<Mutex<ActorPosition>>,
    gate: watch::Sender<bool>,
    capacity: usize,
    recorder: Recorder,
    watch: Option<Watch>,
    _actor: Addr<Taker>,
}

#[derive(Debug, Default)]
struct ActorPosition {
    position: Position,
    ended: bool,
}

struct Taker {
    number: u64,
    position: Arc<Mutex<ActorPosition>>,
    open: watch::Receiver<bool>,
    capacity: usize,
    recorder: Recorder,
    start: u64,
}

/// Be busy from now on, before anything else comes.
#[derive(Message)]
#[rtype(result = "()")]
struct Busy;

impl Actor for Taker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.capacity);
    }
}

impl Taker {
    /// Keeps something until the gate opens: the mailbox fills behind it.
    fn be_busy<T: 'static>(&self, with: T, ctx: &mut Context<Self>) {
        let mut open = self.open.clone();
        let busy = async move {
            let _ = open.wait_for(|open| *open).await;
            drop(with);
        };
        ctx.wait(busy.into_actor(self));
    }

    fn note(&self, told: Option<Response>) {
        let mut position = self.position.lock().expect("a position");
        if position.ended || self.recorder.start() != self.start {
            return;
        }
        let stream = self.number;
        if let Some(response) = told {
            position.position.take(&response);
            self.recorder.note(Line::Told { stream, response });
        } else {
            position.ended = true;
            let why = "cancelled".to_owned();
            self.recorder.note(Line::Broken { stream, why });
        }
    }
}

impl Handler<Busy> for Taker {
    type Result = ();

    fn handle(&mut self, busy: Busy, ctx: &mut Self::Context) {
        self.be_busy(busy, ctx);
    }
}

impl Handler<ToWatcher> for Taker {
    type Result = ();

    fn handle(&mut self, message: ToWatcher, ctx: &mut Self::Context) {
        let of = |revision: Revision| Response {
            revision: Some(revision.0),
            ..Response::default()
        };
        self.note(match &message {
            ToWatcher::Created { revision, .. } => Some(Response {
                created: true,
                ..of(*revision)
            }),
            ToWatcher::Events(delivery) => Some(Response {
                events: convert::events(&delivery.batch),
                ..Response::default()
            }),
            ToWatcher::Progress { revision, .. } => Some(of(*revision)),
            ToWatcher::Compacted {
                compact_revision, ..
            } => Some(Response {
                canceled: true,
                compact_revision: compact_revision.0,
                ..Response::default()
            }),
            ToWatcher::Cancelled => None,
        });
        self.be_busy(message, ctx);
    }
}

/// How an actor of an application takes what it is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manners {
    /// Messages in its mailbox.
    pub(super) capacity: usize,
    /// It is busy when it is registered.
    pub(super) busy: bool,
    pub(super) progress_notify: bool,
}

impl ActorClient {
    pub(super) async fn start(
        engine: &Engine,
        recorder: &Recorder,
        create: Create,
        manners: Manners,
    ) -> Self {
        let number = recorder.number();
        let position = Arc::new(Mutex::new(ActorPosition::default()));
        let (gate, open) = watch::channel(!manners.busy);
        let taker = Taker {
            number,
            position: Arc::clone(&position),
            open,
            capacity: manners.capacity,
            recorder: recorder.clone(),
            start: recorder.start(),
        };
        let actor = taker.start();
        if manners.busy {
            actor.do_send(Busy);
        }
        let ask = Ask::Create(create.clone());
        let stream = number;
        recorder.note(Line::Ask { stream, ask });
        let before = |it: &mut ActorPosition| it.position.asked.push_back(create.clone());
        before(&mut position.lock().expect("a position"));
        let class = WatchClass {
            range: convert::key_range(&create.range),
            filters: convert::filters(&create),
            prev_kv: create.prev_kv,
        };
        let start = create.start_revision;
        let spec = WatchSpec {
            class: Arc::new(class.clone()),
            progress_notify: manners.progress_notify,
            ..WatchSpec::new(class.range, (start > 0).then_some(Revision(start)))
        };
        let watch = engine.watch(spec, actor.clone().recipient()).await.ok();
        let mut ended = position.lock().expect("a position");
        if watch.is_none() && !std::mem::replace(&mut ended.ended, true) {
            let why = "refused".to_owned();
            recorder.note(Line::Broken { stream, why });
        }
        drop(ended);
        Self {
            number,
            position,
            gate,
            capacity: manners.capacity,
            recorder: recorder.clone(),
            watch,
            _actor: actor,
        }
    }

    pub(super) fn stall(&self) {
        self.recorder.reached(Reached::Stall, 1);
        self.gate.send_replace(false);
    }

    pub(super) fn go_on(&self) {
        if !self.gate.send_replace(true) {
            self.recorder.reached(Reached::GoOn, 1);
        }
    }

    /// Messages on their way to it, and how many there can be at most.
    pub(super) fn on_their_way(&self) -> (usize, usize) {
        let live = self.watch.as_ref().and_then(Watch::live_for_test);
        let shared = live.and_then(|live| live.shared.upgrade());
        let in_flight = shared.map_or(0, |shared| shared.in_flight());
        (in_flight as usize, self.capacity + BESIDE)
    }

    /// True when it is told nothing more.
    pub(super) fn is_over(&self) -> bool {
        let position = self.position.lock().expect("a position");
        position.ended || (position.position.live.is_empty() && position.position.asked.is_empty())
    }

    /// Leaves; what it watched goes on elsewhere.
    pub(super) fn leave(self) -> Vec<Create> {
        self.gate.send_replace(true);
        let mut position = self.position.lock().expect("a position");
        if !std::mem::replace(&mut position.ended, true) {
            let stream = self.number;
            self.recorder.note(Line::Ended { stream });
        }
        position.position.resume()
    }
}
