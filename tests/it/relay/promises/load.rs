//! The clients: writers that go on whatever they are told, and watchers that come back to where they were.
//!
//! They record all they ask and see, and judge nothing.

use crate::support::recorder::RecordedStream;
use crate::support::stream::is_progress;
use crate::support::{Client, Cluster, Recorder, eventually};
use crate::validator::answers::single;
use crate::validator::record::{Create, Outcome, Range, Request};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long a stream may be silent before it is asked how far it has come.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Responses after which some watchers leave and come back.
const PATIENCE: usize = 40;

/// The load on a relay.
pub(super) struct Load {
    recorder: Recorder,
    members: Vec<String>,
    relay: RefCell<String>,
    /// Each is for one request.
    permits: Semaphore,
    /// The newest revision that a writer was answered.
    last: Cell<i64>,
    /// Where each watcher is.
    seen: Vec<Cell<i64>>,
    /// Watchers leave no stream that lives.
    stay: Cell<bool>,
    /// Where watchers may stop.
    goal: Cell<i64>,
    numbers: Cell<u64>,
}

/// What a watcher goes on with, for each of its watches.
type Places = BTreeMap<i64, i64>;

fn range(key: &'static str, end: &'static str) -> Range {
    let (key, end) = (key.into(), end.into());
    Range { key, end }
}

fn put(key: String, value: String, prev_kv: bool) -> Request {
    Request::Put {
        key: key.into(),
        value: value.into(),
        lease: 0,
        prev_kv,
    }
}

fn request(number: u64, value: String) -> Request {
    let key = format!("k{}", number % 7);
    match number % 11 {
        0..6 => put(key, value, number.is_multiple_of(2)),
        6 => Request::Delete {
            range: single(key),
            prev_kv: true,
        },
        7 => Request::Delete {
            range: range("k2", "k4"),
            prev_kv: false,
        },
        8..10 => Request::Txn {
            compares: Vec::new(),
            success: (0..3)
                .map(|at| put(format!("k{at}"), format!("{value}/{at}"), false))
                .collect(),
            failure: Vec::new(),
        },
        _ => Request::Range {
            range: range("k", "l"),
            revision: 0,
            limit: 0,
            keys_only: false,
            count_only: false,
        },
    }
}

/// The watches of one watcher: apart, nested, overlapping, and one that has the relay widen what it watches.
fn creates(watcher: u64) -> Vec<Create> {
    let wide = match watcher % 4 {
        0 => range("\0", "\0"),
        1 => range("k1", "k3"),
        2 => range("k2", "k5"),
        _ => range("k", "l"),
    };
    let wide = Create {
        watch_id: 1,
        range: wide,
        no_put: watcher == 4,
        no_delete: watcher == 5,
        prev_kv: watcher % 2 == 1,
        fragment: watcher.is_multiple_of(3),
        ..Create::default()
    };
    let narrow = Create {
        watch_id: 2,
        range: single(format!("k{watcher}")),
        prev_kv: watcher.is_multiple_of(3),
        ..Create::default()
    };
    vec![wide, narrow]
}

impl Load {
    pub(super) fn new(recorder: Recorder, cluster: &Cluster, relay: &str, watchers: u64) -> Self {
        let members = cluster.endpoints().into_iter().map(str::to_owned);
        Self {
            recorder,
            members: members.collect(),
            relay: RefCell::new(relay.to_owned()),
            permits: Semaphore::new(0),
            last: Cell::new(1),
            seen: (0..watchers).map(|_| Cell::new(1)).collect(),
            stay: Cell::new(false),
            goal: Cell::new(i64::MAX),
            numbers: Cell::new(0),
        }
    }

    /// The relay was started again.
    pub(super) fn relay_is_at(&self, endpoint: &str) {
        endpoint.clone_into(&mut self.relay.borrow_mut());
    }

    /// A connection to whoever is there.
    async fn connect(&self, through: bool) -> Client {
        eventually("somebody takes connections", async || {
            let mut endpoint = self.relay.borrow().clone();
            if !through {
                let number = self.numbers.replace(self.numbers.get() + 1);
                let at = usize::try_from(number).expect("few") % self.members.len();
                endpoint.clone_from(&self.members[at]);
            }
            Client::connect(&endpoint).await
        })
        .await
    }

    /// Writes as long as there are permits.
    pub(super) async fn write(&self, writer: u64, through: bool) {
        let mut client = self.connect(through).await;
        for number in 0.. {
            let Ok(permit) = self.permits.acquire().await else {
                return;
            };
            permit.forget();
            let request = request(number + 3 * writer, format!("{writer}-{number}"));
            if !self.call(&client, request).await {
                client = self.connect(through).await;
            }
        }
    }

    /// False when nobody knows what has become of it.
    async fn call(&self, client: &Client, request: Request) -> bool {
        match self.recorder.call(client, request).await {
            Outcome::Done { revision, .. } => self.last.set(self.last.get().max(revision)),
            Outcome::Unknown { .. } => return false,
            _ => {}
        }
        true
    }

    /// Allows so many more requests.
    pub(super) fn allow(&self, requests: usize) {
        self.permits.add_permits(requests);
    }

    /// Waits until no more than so many requests are left of those that were allowed.
    pub(super) async fn are_left(&self, requests: usize) {
        eventually("writers go on", async || {
            let left = self.permits.available_permits();
            (left <= requests).then_some(()).ok_or(left)
        })
        .await;
    }

    /// Has so many requests made, and waits until each watcher has seen what they did.
    pub(super) async fn all_see(&self, what: &str, requests: usize) {
        self.allow(requests);
        self.are_left(0).await;
        let last = self.last.get();
        eventually(what, async || {
            let mut watchers = self.seen.iter().enumerate();
            let behind = watchers.find(|(_, seen)| seen.get() < last);
            let Some((at, seen)) = behind else {
                return Ok(());
            };
            // A watch that begins with the next revision says nothing, for its whole stream, until there is one.
            if self.permits.available_permits() == 0 {
                self.allow(1);
            }
            Err(format!("watcher {at}: {} of {last}", seen.get()))
        })
        .await;
    }

    /// The newest revision that a writer was answered.
    pub(super) fn last(&self) -> i64 {
        self.last.get()
    }

    /// Compacts, past the relay.
    pub(super) async fn compact(&self, revision: i64) {
        let client = self.connect(false).await;
        let outcome = self.recorder.call(&client, Request::Compact { revision });
        assert!(matches!(outcome.await, Outcome::Done { .. }));
    }

    /// Writers end.
    pub(super) fn no_more_writes(&self) {
        self.permits.close();
    }

    /// Watchers do not leave their streams any more.
    pub(super) fn stay(&self) {
        self.stay.set(true);
    }

    /// Writes once more and says that watchers may stop when they have seen it.
    pub(super) async fn last_write(&self) {
        eventually("a last write", async || {
            let client = self.connect(true).await;
            let number = self.numbers.replace(self.numbers.get() + 1);
            let last = put("k0".to_owned(), format!("last-{number}"), false);
            let is_done = self.call(&client, last).await;
            is_done.then_some(()).ok_or("nobody knows")
        })
        .await;
        self.goal.set(self.last.get());
    }

    /// Watches through the relay, and comes back after each end, until everything was seen. Gives the stream, which lives.
    pub(super) async fn watch(&self, watcher: u64) -> RecordedStream {
        // Some begin with the past, and some from now on.
        let start = i64::from(!watcher.is_multiple_of(3));
        let mut places: Places = [(1, start), (2, start)].into();
        loop {
            let client = self.connect(true).await;
            let mut stream = self.recorder.watch(&client);
            for create in creates(watcher) {
                let create = Create {
                    start_revision: places[&create.watch_id],
                    ..create
                };
                stream.create(&create, watcher.is_multiple_of(2));
            }
            if self.follow(&mut stream, watcher, &mut places).await {
                return stream;
            }
            stream.leave();
        }
    }

    /// Follows a stream; true when everything was seen, and false when another stream is wanted.
    async fn follow(&self, stream: &mut RecordedStream, watcher: u64, places: &mut Places) -> bool {
        let at = usize::try_from(watcher).expect("few");
        let mut told = 0;
        loop {
            let place = places.values().min().copied().unwrap_or_default();
            let seen = &self.seen[at];
            seen.set(seen.get().max(place - 1));
            if seen.get() >= self.goal.get() {
                return true;
            }
            let Ok(received) = timeout(ASK_AGAIN, stream.receive()).await else {
                stream.progress();
                continue;
            };
            let Some(response) = received else {
                return false;
            };
            let revision = response.header.as_ref().map_or(0, |it| it.revision);
            if response.canceled {
                places.insert(response.watch_id, response.compact_revision);
                return false;
            }
            if is_progress(&response) && response.watch_id == -1 {
                for place in places.values_mut() {
                    *place = (*place).max(revision + 1);
                }
                continue;
            }
            let events_end = response.events.last().and_then(|event| event.kv.as_ref());
            let through = match events_end {
                // Of a revision that is cut in pieces the rest is still to come.
                Some(_) if response.fragment => continue,
                Some(kv) => kv.mod_revision,
                None if response.created => match places.get(&response.watch_id) {
                    Some(0) => revision,
                    _ => continue,
                },
                None => revision,
            };
            let place = places.entry(response.watch_id).or_default();
            *place = (*place).max(through + 1);
            told += 1;
            if told > PATIENCE && watcher.is_multiple_of(2) && !self.stay.get() {
                return false;
            }
        }
    }
}
