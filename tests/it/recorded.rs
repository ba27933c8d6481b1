//! Clients under load, recorded: whatever they asked and saw fits one history and every promise, also over a kill.
//!
//! The record is read from its file, as anybody would validate it.

use crate::support::{Client, Peer, PeerKind, Recorder, on_both_peers, within};
use crate::validator::answers::single;
use crate::validator::judge;
use crate::validator::record::{
    self, Compare, Create, Line, Outcome, Range, Relation, Request, Target,
};
use crate::validator::verdict::Property;
use futures_util::future::join_all;
use std::fs::File;
use std::io::BufReader;
use tempfile::TempDir;

on_both_peers! { what_clients_see_fits_one_history_and_every_promise }

const WRITERS: u64 = 6;
const REQUESTS: u64 = 150;
const WATCHERS: u64 = 8;
/// Few compactions, and not of what a watcher may be about to be told: all of them would end before they see anything.
const COMPACT_ONE_IN: u64 = 12;
const KEPT: i64 = 60;
/// Responses after which a watcher leaves its stream and comes back.
const PATIENCE: usize = 12;

/// Chance, the same for the same writer.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn key(&mut self) -> String {
        format!("k{}", self.below(6))
    }
}

fn range(key: &'static str, end: &'static str) -> Range {
    let (key, end) = (key.into(), end.into());
    Range { key, end }
}

fn put(chance: &mut Chance, key: String, value: String) -> Request {
    Request::Put {
        key: key.into(),
        value: value.into(),
        lease: 0,
        prev_kv: chance.below(2) == 0,
    }
}

fn read(range: Range, revision: i64, limit: i64) -> Request {
    Request::Range {
        range,
        revision,
        limit,
        keys_only: false,
        count_only: false,
    }
}

fn request(chance: &mut Chance, value: String, seen: i64) -> Request {
    let key = chance.key();
    let near = seen - i64::try_from(chance.below(20)).expect("few");
    match chance.below(16) {
        0..7 => put(chance, key, value),
        7 => Request::Delete {
            range: single(key),
            prev_kv: true,
        },
        8 => Request::Delete {
            range: range("k2", "k4"),
            prev_kv: false,
        },
        9..11 => Request::Txn {
            compares: Vec::new(),
            success: (0..3)
                .map(|number| put(chance, format!("k{number}"), format!("{value}/{number}")))
                .collect(),
            failure: Vec::new(),
        },
        11..13 => Request::Txn {
            compares: vec![Compare {
                range: single(key.clone()),
                relation: Relation::Less,
                target: Target::Mod(near),
            }],
            success: vec![
                read(range("k", "l"), 0, 2),
                put(chance, key.clone(), value),
                read(single(key.clone()), 0, 0),
            ],
            failure: vec![read(single(key), 0, 0)],
        },
        13 => read(range("k", "l"), near.max(1), 0),
        14 if chance.below(COMPACT_ONE_IN) == 0 => Request::Compact {
            revision: (near - KEPT).max(1),
        },
        _ => read(range("k", "l"), 0, 3),
    }
}

async fn write(client: Client, recorder: &Recorder, writer: u64, round: u64) {
    let mut chance = Chance(writer + 100 * round);
    let mut seen = 1;
    for number in 0..REQUESTS {
        let value = format!("{round}-{writer}-{number}");
        let request = request(&mut chance, value, seen);
        match recorder.call(&client, request).await {
            Outcome::Done { revision, .. } => seen = revision,
            // The server was killed.
            Outcome::Unknown { .. } => return,
            _ => {}
        }
    }
}

fn create(watcher: u64, start_revision: i64) -> Create {
    Create {
        range: match watcher % 4 {
            0 => single("k1"),
            1 => range("k1", "k3"),
            2 => range("k4", "\0"),
            _ => range("\0", "\0"),
        },
        start_revision,
        no_put: watcher == 6,
        no_delete: watcher == 7,
        prev_kv: watcher % 2 == 1,
        fragment: watcher.is_multiple_of(3),
        ..Create::default()
    }
}

/// Watches until the stream breaks, and comes back again and again to where it was; gives where that is.
async fn watch(client: Client, recorder: &Recorder, watcher: u64, mut next: i64) -> i64 {
    loop {
        let mut stream = recorder.watch(&client);
        stream.create(&create(watcher, next), watcher.is_multiple_of(2));
        for told in 0.. {
            let Some(response) = stream.receive().await else {
                stream.leave();
                return next;
            };
            if response.canceled {
                next = response.compact_revision;
                break;
            }
            let last = response.events.last().and_then(|event| event.kv.as_ref());
            let last = last.map_or(0, |kv| kv.mod_revision);
            // Of a revision that is cut in pieces the rest is still to come.
            if last > 0 && !response.fragment {
                next = last + 1;
                if told > PATIENCE {
                    break;
                }
            }
        }
        stream.leave();
    }
}

/// Writers and watchers beside each other, until the writers are done and the server is killed.
async fn round(peer: &mut Peer, recorder: &Recorder, round: u64, positions: Vec<i64>) -> Vec<i64> {
    let (mut writers, mut watchers) = (Vec::new(), Vec::new());
    for writer in 0..WRITERS {
        writers.push(write(peer.connect().await, recorder, writer, round));
    }
    for (watcher, next) in (0..).zip(positions) {
        watchers.push(watch(peer.connect().await, recorder, watcher, next));
    }
    let idle = peer.connect().await;
    let kill = async {
        join_all(writers).await;
        // One more is under way when the server goes.
        let last = put(&mut Chance(round), "k0".to_owned(), format!("{round}-last"));
        recorder.note(&Line::Trouble);
        let killing = async { peer.process().kill() };
        tokio::join!(recorder.call(&idle, last), killing);
    };
    let both = async { tokio::join!(join_all(watchers), kill).0 };
    let positions = within("a load and a kill", Box::pin(both)).await;
    peer.restart().await;
    recorder.note(&Line::Restart);
    positions
}

async fn what_clients_see_fits_one_history_and_every_promise(mut peer: Peer) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("record.jsonl");
    let recorder = Recorder::create(&path, peer.kind());
    let mut positions = vec![1; usize::try_from(WATCHERS).expect("few")];
    for number in 0..2 {
        positions = round(&mut peer, &recorder, number, positions).await;
    }
    let client = peer.client();
    recorder.call(&client, read(range("\0", "\0"), 0, 0)).await;
    // A watch that has everything begins after it, and is told of progress once there is something.
    let last = put(&mut Chance(0), "k1".to_owned(), "last".to_owned());
    let Outcome::Done { revision, .. } = recorder.call(&client, last).await else {
        panic!("a put is answered");
    };
    let catching_up = (0..).zip(positions).map(|(watcher, next)| {
        let (client, recorder) = (client.clone(), recorder.clone());
        async move {
            let mut stream = recorder.watch(&client);
            stream.create(&create(watcher, next), false);
            stream.read_through(revision).await;
            stream
        }
    });
    let streams = join_all(catching_up).await;
    recorder.note(&Line::Quiet);
    drop(streams);
    recorder.flush();
    let file = BufReader::new(File::open(&path).expect("the record"));
    let verdict = judge(&record::read(file).expect("a record"));
    eprintln!("{verdict}");
    assert!(verdict.holds(), "{:#?}", verdict.faults);
    assert!(
        verdict.calls > WRITERS * REQUESTS,
        "most calls are answered"
    );
    for property in Property::ALL {
        // etcd drops a request for progress while a watch of the stream is behind, and may drop all of them here.
        let may_be_absent = peer.kind() == PeerKind::Etcd && property == Property::Bookmarkable;
        assert!(
            may_be_absent || verdict.checks(property) > 0,
            "{property:?} was not looked at"
        );
    }
}
