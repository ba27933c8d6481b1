//! Kills of the real server under clients that write, compact and watch over gRPC.
//!
//! What a client was told, as an answer or as an event, is in the store that is served afterwards; what was under way is
//! there whole or not at all; and a watch that resumes gets everything after what it has seen, once.

use super::{Dice, count};
use crate::support::mvccpb::event::EventType;
use crate::support::mvccpb::{Event, KeyValue};
use crate::support::pb::{RangeRequest, WatchCreateRequest, WatchResponse};
use crate::support::process::Process;
use crate::support::requests::{all_of, get, get_prefix, on_everything, op_delete, op_put};
use crate::support::{Client, Peer, PeerKind, Setup, within};
use bytes::Bytes;
use futures_util::future::join_all;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use tonic::Code;

const KILLS: usize = 12;
const WRITERS: usize = 6;
const KEYS_OF_A_WRITER: u64 = 8;

/// A key with its new value, or nothing for a deletion, which has no effect where the key is not.
type Write = Vec<(Bytes, Option<Bytes>)>;

/// What all clients know.
#[derive(Default)]
struct Told {
    acknowledged: RefCell<BTreeMap<i64, Write>>,
    compacted: Cell<i64>,
    /// A compaction whose answer the kill took may have been made.
    compaction_asked: Cell<i64>,
    /// What the watch has seen before each kill.
    seen: RefCell<Vec<Event>>,
    answers: Cell<usize>,
}

/// Writes until the server is gone; answers what was under way then.
async fn write(client: Client, told: &Told, mut dice: Dice, writer: usize) -> Write {
    loop {
        let mut write = Write::new();
        for _ in 0..=dice.below(3) {
            let key = Bytes::from(format!("w{writer}/{}", dice.below(KEYS_OF_A_WRITER)));
            if write.iter().any(|(known, _)| *known == key) {
                continue;
            }
            let bytes = if dice.percent(5) { 70_000 } else { 200 };
            let number = dice.next();
            let value = format!("{number} {}", "v".repeat(dice.below(bytes) as usize));
            let is_put = write.is_empty() || dice.percent(60);
            write.push((key, is_put.then(|| Bytes::from(value))));
        }
        let ops = write.iter().map(|(key, value)| match value {
            Some(value) => op_put(key.clone(), value.clone()),
            None => op_delete(key.clone(), ""),
        });
        let Ok(answer) = client.txn(all_of(ops.collect())).await else {
            return write;
        };
        let revision = answer.header.expect("a header").revision;
        let earlier = told.acknowledged.borrow_mut().insert(revision, write);
        assert!(earlier.is_none(), "revision {revision} was given out twice");
        told.answers.set(told.answers.get() + 1);
    }
}

/// Compacts behind the writers until the server is gone.
async fn compact(client: Client, told: &Told, checked: i64) {
    let mut last = 0;
    loop {
        let target = checked - 20 + (told.answers.get() as i64) / 4;
        if target > last && target < checked {
            last = target;
            told.compaction_asked.set(target);
            if let Err(status) = client.compact(target).await {
                // What was compacted before is refused with a word of its own.
                if status.code() != Code::OutOfRange {
                    return;
                }
            }
            told.compacted.set(told.compacted.get().max(target));
        }
        if client.range(get("compact")).await.is_err() {
            return;
        }
    }
}

/// Watches everything from a revision on until the server is gone.
async fn watch(client: Client, told: &Told, start_revision: i64) {
    let mut stream = client.watch();
    stream.create(WatchCreateRequest {
        start_revision,
        ..on_everything()
    });
    while let Ok(Some(response)) = stream.receive().await {
        assert!(!response.canceled, "a watch was cancelled: {response:?}");
        told.seen.borrow_mut().extend(response.events);
    }
}

/// The keys as they should be, made of what was told and of what the events show of writes that were under way.
#[derive(Default)]
struct Model {
    live: BTreeMap<Bytes, KeyValue>,
    /// All events by revision.
    history: BTreeMap<i64, Vec<Event>>,
    /// Up to where.
    revision: i64,
}

impl Model {
    /// What a write does here.
    fn effects(&self, revision: i64, write: &Write) -> Vec<Event> {
        let effect = |(key, value): &(Bytes, Option<Bytes>)| {
            let before = self.live.get(key);
            let (kind, kv) = match value {
                Some(value) => (
                    EventType::Put,
                    KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: before.map_or(revision, |kv| kv.create_revision),
                        mod_revision: revision,
                        version: before.map_or(0, |kv| kv.version) + 1,
                        ..KeyValue::default()
                    },
                ),
                None => (
                    EventType::Delete,
                    KeyValue {
                        key: before?.key.clone(),
                        mod_revision: revision,
                        ..KeyValue::default()
                    },
                ),
            };
            Some(Event {
                r#type: kind.into(),
                kv: Some(kv),
                ..Event::default()
            })
        };
        write.iter().filter_map(effect).collect()
    }

    fn take(&mut self, revision: i64, events: Vec<Event>) {
        for event in &events {
            let kv = event.kv.clone().expect("a key");
            if event.r#type() == EventType::Put {
                self.live.insert(kv.key.clone(), kv);
            } else {
                self.live.remove(&kv.key);
            }
        }
        self.history.insert(revision, events);
        self.revision = revision;
    }

    /// Takes what a watch says has happened since, if it is what clients know of it.
    fn go_on(&mut self, events: Vec<Event>, told: &Told, mut under_way: Vec<Write>, last: i64) {
        let mut by_revision = group(events);
        for revision in self.revision + 1..=last {
            let events = by_revision.remove(&revision);
            let events = events.unwrap_or_else(|| panic!("revision {revision} is a hole"));
            let known = told.acknowledged.borrow_mut().remove(&revision);
            if let Some(write) = known {
                assert_eq!(events, self.effects(revision, &write), "as acknowledged");
            } else {
                let found = under_way
                    .iter()
                    .position(|write| self.effects(revision, write) == events);
                let found = found.unwrap_or_else(|| panic!("nobody wrote this: {events:?}"));
                under_way.swap_remove(found);
            }
            self.take(revision, events);
        }
        let lost = told.acknowledged.borrow();
        assert!(lost.is_empty(), "lost though acknowledged: {lost:?}");
        assert!(by_revision.is_empty(), "beyond the end: {by_revision:?}");
    }
}

fn group(events: Vec<Event>) -> BTreeMap<i64, Vec<Event>> {
    let mut by_revision: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    for event in events {
        let revision = event.kv.as_ref().expect("a key").mod_revision;
        by_revision.entry(revision).or_default().push(event);
    }
    by_revision
}

/// All events from a revision through another.
async fn events(client: &Client, start_revision: i64, last: i64) -> Vec<Event> {
    // A watch of the future says nothing, not even how far it is.
    if start_revision > last {
        return Vec::new();
    }
    let mut stream = client.watch();
    stream
        .created(WatchCreateRequest {
            start_revision,
            ..on_everything()
        })
        .await;
    let responses = stream.read_through(|| Some(last)).await;
    let cancelled = responses.iter().find(|response| response.canceled);
    assert!(cancelled.is_none(), "from {start_revision}: {cancelled:?}");
    let events = |response: WatchResponse| response.events;
    responses.into_iter().flat_map(events).collect()
}

/// Loads the server until so many answers were given, and kills it.
async fn load_and_kill(peer: &mut Peer, told: &Told, model: &Model, dice: &mut Dice) -> Vec<Write> {
    let mut clients = Vec::new();
    for _ in 0..WRITERS {
        clients.push(peer.connect().await);
    }
    let writers = clients.into_iter().enumerate().map(|(writer, client)| {
        let dice = Dice(dice.next());
        write(client, told, dice, writer)
    });
    let writers: Vec<_> = writers.collect();
    let (compacting, watching) = (peer.connect().await, peer.connect().await);
    let enough = dice.below(200) as usize;
    let turns = dice.below(50);
    told.answers.set(0);
    let kill = async {
        while told.answers.get() < enough {
            tokio::task::yield_now().await;
        }
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        peer.process().kill();
    };
    let (under_way, (), (), ()) = within("a load and a kill", async {
        tokio::join!(
            join_all(writers),
            compact(compacting, told, model.revision),
            watch(watching, told, model.revision + 1),
            kill
        )
    })
    .await;
    under_way
}

/// Holds the server that is there now against what was told before the kill.
async fn check(peer: &Peer, told: &Told, model: &mut Model, under_way: Vec<Write>) {
    let client = peer.client();
    let last = client.revision().await;
    // The watch of before resumes behind what it saw; together that is everything, once.
    let mut seen = told.seen.take();
    let seen_through = seen.last().and_then(|event| event.kv.as_ref());
    let seen_through = seen_through.map_or(model.revision, |kv| kv.mod_revision);
    assert!(
        seen_through <= last,
        "{seen_through} was seen, {last} is left"
    );
    let from = model.revision + 1;
    seen.extend(events(&client, seen_through + 1, last).await);
    model.go_on(seen, told, under_way, last);
    // What is told anew is the same.
    let asked = told.compaction_asked.get();
    let compacted = told.compacted.get().max(asked).max(from - 200).max(1);
    let anew = group(events(&client, compacted + 1, last).await);
    let kept = model.history.range(compacted + 1..);
    let kept: BTreeMap<i64, Vec<Event>> = kept.map(|(at, of)| (*at, of.clone())).collect();
    assert_eq!(anew, kept, "history is what it was");
    let answer = client.range(get_prefix("w")).await.expect("a range");
    let live: Vec<KeyValue> = model.live.values().cloned().collect();
    assert_eq!(answer.kvs, live, "the keys");
    if told.compacted.get() > 1 {
        let below = RangeRequest {
            revision: told.compacted.get() - 1,
            ..get_prefix("w")
        };
        let refused = client.range(below).await.expect_err("it stays compacted");
        assert_eq!(refused.code(), Code::OutOfRange);
    }
}

#[tokio::test]
async fn a_killed_server_has_everything_that_it_said() {
    let kills = count("VIGIL_CRASH_KILLS", KILLS);
    let mut dice = Dice(count("VIGIL_CRASH_SEED", 1) as u64);
    let mut peer = Peer::start(PeerKind::Vigil).await;
    let told = Told::default();
    let mut model = Model {
        revision: 1,
        ..Model::default()
    };
    for _ in 0..kills {
        let under_way = load_and_kill(&mut peer, &told, &model, &mut dice).await;
        if dice.percent(30) {
            // One that is killed while it opens.
            let command = Setup::new(PeerKind::Vigil).command(&peer.data_dir());
            let home = tempfile::tempdir().expect("a temporary directory");
            let mut opening = Process::spawn(command, home.path());
            for _ in 0..dice.below(3_000) {
                assert!(opening.exit().is_none(), "{}", opening.output());
            }
            opening.kill();
        }
        peer.restart().await;
        check(&peer, &told, &mut model, under_way).await;
    }
    eprintln!("{kills} kills, {} revisions, none lost", model.revision);
}
