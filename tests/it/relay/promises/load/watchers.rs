//! Watchers: they come back to where they were, some leave their streams or cancel and begin again in the past, and one stalls.

use super::{Load, OF_THE_STALLED, range};
use crate::support::recorder::RecordedStream;
use crate::support::stream::is_progress;
use crate::support::{Client, Http, eventually};
use crate::validator::answers::single;
use crate::validator::record::Create;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::timeout;

/// How long a stream may be silent before it is asked how far it has come.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Responses after which some watchers leave and come back, or stall.
const PATIENCE: usize = 40;
/// Responses after which one watcher cancels a watch, and how far in the past it begins again.
const CANCEL_AFTER: usize = 15;
const BACK: i64 = 20;

/// How many there are; the last two have habits of their own.
pub(in super::super) const WATCHERS: u64 = 8;
const STALLS: u64 = 6;
const CANCELS: u64 = 7;
/// Which of its watches is cancelled.
const CANCELED: i64 = 2;
/// Looks for a victim, of which the later half lets the one that stalls catch up.
const LOOKS: usize = 200;
/// What may be on its way to the one that stalls and was not read.
const NARROW_BYTES: u32 = 1 << 10;

/// What a watcher goes on with, for each of its watches.
type Places = BTreeMap<i64, i64>;

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
        watch_id: CANCELED,
        range: match watcher {
            CANCELS => range("k3", "k6"),
            _ => single(format!("k{watcher}")),
        },
        prev_kv: watcher.is_multiple_of(3),
        ..Create::default()
    };
    vec![wide, narrow]
}

/// A watcher on a stream.
struct Following<'s> {
    watcher: u64,
    stream: &'s mut RecordedStream,
    places: &'s mut Places,
    /// Watches that were asked for and are not there yet: no progress of the stream is theirs.
    unborn: BTreeSet<i64>,
    /// Responses with events or progress so far.
    told: usize,
    /// It has asked how far the stream has come, and was not answered.
    asks: bool,
}

impl Following<'_> {
    fn create(&mut self, create: Create) {
        let create = Create {
            start_revision: self.places[&create.watch_id],
            ..create
        };
        self.unborn.insert(create.watch_id);
        let progress_notify = self.watcher.is_multiple_of(2);
        self.stream.create(&create, progress_notify);
    }

    /// Begins a cancelled watch again, in the past.
    fn begin_again(&mut self) {
        let place = self.places.entry(CANCELED).or_default();
        *place = (*place - BACK).max(1);
        for create in creates(self.watcher) {
            if create.watch_id == CANCELED {
                self.create(create);
            }
        }
    }

    /// Everything before this was seen by all of its watches.
    fn place(&self) -> i64 {
        self.places.values().min().copied().unwrap_or_default()
    }
}

impl Load {
    /// Watches through relays, and comes back after each end, until everything was seen. Gives the stream, which lives.
    pub(in super::super) async fn watch(&self, watcher: u64) -> RecordedStream {
        // Some begin with the past, and some from now on.
        let start = i64::from(!watcher.is_multiple_of(3));
        let mut places: Places = [(1, start), (2, start)].into();
        loop {
            let client = match watcher {
                STALLS => self.connect_narrow().await,
                _ => self.connect(true).await,
            };
            let mut stream = self.recorder.watch(&client);
            let mut following = Following {
                watcher,
                stream: &mut stream,
                places: &mut places,
                unborn: BTreeSet::new(),
                told: 0,
                asks: false,
            };
            for create in creates(watcher) {
                following.create(create);
            }
            if self.follow(following).await {
                return stream;
            }
            stream.leave();
        }
    }

    async fn connect_narrow(&self) -> Client {
        eventually("the relay takes connections", async || {
            let endpoint = self.relays.borrow()[OF_THE_STALLED].clone();
            Client::connect_narrow(&endpoint, NARROW_BYTES).await
        })
        .await
    }

    /// Follows a stream; true when everything was seen, and false when another stream is wanted.
    async fn follow(&self, mut following: Following<'_>) -> bool {
        let watcher = following.watcher;
        let seen = &self.seen[usize::try_from(watcher).expect("few")];
        loop {
            // Who waits for that is held back until it has read what is on its way, and is no victim.
            let may_stall = watcher == STALLS && !following.asks;
            if may_stall && following.told.is_multiple_of(PATIENCE) {
                self.stall().await;
            }
            let place = following.place();
            seen.set(seen.get().max(place - 1));
            if place > self.goal.get() && following.unborn.is_empty() {
                return true;
            }
            let Ok(received) = timeout(ASK_AGAIN, following.stream.receive()).await else {
                following.stream.progress();
                following.asks = true;
                continue;
            };
            let Some(response) = received else {
                return false;
            };
            let revision = response.header.as_ref().map_or(0, |it| it.revision);
            let places = &mut *following.places;
            if response.canceled && response.compact_revision == 0 {
                following.begin_again();
                continue;
            }
            if response.canceled {
                places.insert(response.watch_id, response.compact_revision);
                return false;
            }
            if is_progress(&response) && response.watch_id == -1 {
                following.asks = false;
                let born = places.iter_mut();
                for (_, place) in born.filter(|(id, _)| !following.unborn.contains(id)) {
                    *place = (*place).max(revision + 1);
                }
                continue;
            }
            let events_end = response.events.last().and_then(|event| event.kv.as_ref());
            let through = match events_end {
                // Of a revision that is cut in pieces the rest is still to come.
                Some(_) if response.fragment => continue,
                Some(kv) => kv.mod_revision,
                None if response.created => {
                    following.unborn.remove(&response.watch_id);
                    match places.get(&response.watch_id) {
                        Some(0) => revision,
                        _ => continue,
                    }
                }
                None => revision,
            };
            let place = places.entry(response.watch_id).or_default();
            *place = (*place).max(through + 1);
            following.told += 1;
            if self.stay.get() {
                continue;
            }
            if watcher == CANCELS && following.told.is_multiple_of(CANCEL_AFTER) {
                following.stream.cancel(CANCELED);
            }
            if watcher.is_multiple_of(2) && watcher != STALLS && following.told > PATIENCE {
                return false;
            }
        }
    }

    /// Reads nothing while requests are under way, and not before the test says so.
    async fn stall(&self) {
        eventually("who stalls may go on", async || {
            let left = self.permits.available_permits();
            let may_go_on = self.stay.get() || (left == 0 && !self.is_held.get());
            may_go_on.then_some(()).ok_or(left)
        })
        .await;
    }

    /// Has requests made until the relay keeps back what it has for the one that stalls, and lets that one go on.
    pub(in super::super) async fn has_a_victim(&self) {
        let http = Http::at(&self.relays.borrow()[OF_THE_STALLED]);
        let mut looks = 0;
        eventually("a watch is a victim", async || {
            // One that fell behind what the relay remembers is no victim but late, for as long as it reads nothing: now and
            // then it may read, with nothing written, and then stalls again.
            looks += 1;
            let may_catch_up = looks % LOOKS >= LOOKS / 2;
            self.is_held.set(!may_catch_up);
            if may_catch_up {
                return Err("it may catch up".to_owned());
            }
            let metrics = http.get("/metrics").await.text;
            let mut lines = metrics.lines();
            let victims = lines.find_map(|line| line.strip_prefix("vigil_victims "));
            if victims.is_some_and(|victims| victims != "0") {
                return Ok(());
            }
            if self.permits.available_permits() == 0 {
                self.allow(20);
            }
            Err(victims.unwrap_or("none are told of").to_owned())
        })
        .await;
        self.is_held.set(false);
    }
}
