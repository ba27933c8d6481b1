//! The clients: writers that go on whatever they are told, readers, and watchers that come back to where they were.
//!
//! They record all they ask and see, and judge nothing.

mod leases;
mod readers;
mod watchers;

use crate::support::{Client, Cluster, Recorder, eventually};
use crate::validator::answers::single;
use crate::validator::record::{Outcome, Range, Request};
use leases::{LONG, Lease, SHORT};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use tokio::sync::Semaphore;
pub(super) use watchers::WATCHERS;

/// The keys that all of this is about begin so.
pub(super) const PREFIX: &str = "k";
/// The relay that who stalls comes back to: the first.
const OF_THE_STALLED: usize = 0;

/// The load on relays before one cluster.
pub(super) struct Load {
    recorder: Recorder,
    members: Vec<String>,
    relays: RefCell<Vec<String>>,
    /// Each is for one request that may write, and one read.
    permits: Semaphore,
    reads: Semaphore,
    /// The newest revision that a writer was answered.
    last: Cell<i64>,
    /// Where each watcher is.
    seen: Vec<Cell<i64>>,
    /// Who stalls does not read on, whatever is under way.
    is_held: Cell<bool>,
    /// Watchers leave no stream that lives.
    stay: Cell<bool>,
    /// Where watchers may stop.
    goal: Cell<i64>,
    numbers: Cell<u64>,
    leases_granted: Cell<i64>,
    /// Those that are to be revoked, the oldest first.
    leases: RefCell<VecDeque<Lease>>,
}

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

impl Load {
    pub(super) fn new(recorder: Recorder, cluster: &Cluster, relays: Vec<String>) -> Self {
        let members = cluster.endpoints().into_iter().map(str::to_owned);
        Self {
            recorder,
            members: members.collect(),
            relays: RefCell::new(relays),
            permits: Semaphore::new(0),
            reads: Semaphore::new(0),
            last: Cell::new(1),
            seen: (0..WATCHERS).map(|_| Cell::new(1)).collect(),
            is_held: Cell::new(true),
            stay: Cell::new(false),
            goal: Cell::new(i64::MAX),
            numbers: Cell::new(0),
            leases_granted: Cell::new(0),
            leases: RefCell::default(),
        }
    }

    /// A relay was started again.
    pub(super) fn relay_is_at(&self, relay: usize, endpoint: &str) {
        endpoint.clone_into(&mut self.relays.borrow_mut()[relay]);
    }

    /// One of so many, the next in turn.
    fn turn(&self, of: usize) -> usize {
        let number = self.numbers.replace(self.numbers.get() + 1);
        usize::try_from(number).expect("few") % of
    }

    /// A connection to whoever is there: one of the relays, or one of the members.
    async fn connect(&self, through: bool) -> Client {
        eventually("somebody takes connections", async || {
            let endpoint = if through {
                let relays = self.relays.borrow();
                relays[self.turn(relays.len())].clone()
            } else {
                self.members[self.turn(self.members.len())].clone()
            };
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
            let step = number + 3 * writer;
            let is_known = match step % 16 {
                5 => self.lease(&client, LONG).await,
                10 => self.lease(&client, SHORT).await,
                13 => self.revoke_one(&client).await,
                _ => {
                    let request = request(step, format!("{writer}-{number}"));
                    self.call(&client, request).await
                }
            };
            if !is_known {
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
        self.reads.add_permits(requests);
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

    /// Writers and readers end.
    pub(super) fn no_more_requests(&self) {
        self.permits.close();
        self.reads.close();
    }

    /// Watchers do not leave their streams any more.
    pub(super) fn stay(&self) {
        self.stay.set(true);
    }

    /// Writes once more and says that watchers may stop when they have seen it.
    pub(super) async fn last_write(&self) {
        eventually("a last write", async || {
            let client = self.connect(true).await;
            let number = self.turn(usize::MAX);
            let last = put("k0".to_owned(), format!("last-{number}"), false);
            let is_done = self.call(&client, last).await;
            is_done.then_some(()).ok_or("nobody knows")
        })
        .await;
        self.goal.set(self.last.get());
    }
}
