//! Every promise through two relays before three etcds, whatever becomes of them, of the network between and of the relays.
//!
//! Clients write through the relays and past them, watch through them and read from their memory; leases end; what clients
//! asked and saw is recorded, and the validator judges the record. How much is written is given out in permits, so that a record is as long as the test wants it.

mod load;
mod trouble;

use crate::support::{Cluster, PeerKind, Recorder, Relay, Wire, eventually};
use crate::validator::judge;
use crate::validator::record::{self, Line, Outcome, Request};
use crate::validator::verdict::Property;
use futures_util::future::join_all;
use load::{Load, PREFIX, WATCHERS};
use std::collections::BTreeSet;
use std::env;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use tempfile::TempDir;

/// How often each trouble is made, unless `VIGIL_RELAY_ROUNDS` says otherwise.
const ROUNDS: usize = 1;
const WRITERS_THROUGH: u64 = 2;
const WRITERS_PAST: u64 = 2;
const READERS: u64 = 2;
/// The first relay has room for little, so that whoever is behind is soon a victim, and soon off the ring.
const NARROW: [&str; 6] = [
    "--outbox-bytes-max",
    "4096",
    "--mailbox-messages-max",
    "1",
    "--ring-revisions-max",
    "50",
];

/// What can go wrong.
struct Scene<'l> {
    cluster: Cluster,
    /// Between the relays and each member.
    wires: Vec<Wire>,
    relays: Vec<Relay>,
    load: &'l Load,
}

impl Scene<'_> {
    fn upstreams(&self) -> Vec<&str> {
        self.wires.iter().map(Wire::endpoint).collect()
    }

    async fn start_relay(&mut self, relay: usize) {
        self.relays[relay] = start_relay(relay, &self.upstreams()).await;
        self.load.relay_is_at(relay, self.relays[relay].endpoint());
    }

    /// The member that the first relay uses.
    async fn in_use(&self) -> usize {
        super::upstream_in_use(self.relays[0].endpoint(), &self.upstreams()).await
    }
}

/// Starts a relay, whose cache has all that this is about.
async fn start_relay(relay: usize, upstreams: &[&str]) -> Relay {
    let mut flags = vec!["--cache", PREFIX];
    if relay == 0 {
        flags.extend(NARROW);
    }
    Relay::with_flags(upstreams, &flags).await
}

fn rounds() -> usize {
    match env::var("VIGIL_RELAY_ROUNDS") {
        Ok(number) => number.parse().expect("a number"),
        Err(_) => ROUNDS,
    }
}

/// Makes trouble under load, and holds what clients saw against every promise.
async fn kept(trouble: impl AsyncFnOnce(&mut Scene<'_>)) {
    let mut directory = TempDir::new().expect("a directory");
    // For whoever looks for the cause of a failure.
    directory.disable_cleanup(env::var_os("VIGIL_RELAY_KEEP").is_some());
    let path = directory.path().join("record.jsonl");
    let recorder = Recorder::create(&path, PeerKind::Vigil);
    let cluster = Cluster::start().await;
    let mut wires = Vec::new();
    for endpoint in cluster.endpoints() {
        wires.push(Wire::to(endpoint).await);
    }
    let upstreams: Vec<_> = wires.iter().map(Wire::endpoint).collect();
    let mut relays = Vec::new();
    for relay in 0..2 {
        relays.push(start_relay(relay, &upstreams).await);
    }
    let endpoints = relays.iter().map(|relay| relay.endpoint().to_owned());
    let load = Load::new(recorder.clone(), &cluster, endpoints.collect());
    // Members and relays are killed, so streams may end.
    recorder.note(&Line::Trouble);
    let through = (0..WRITERS_THROUGH).map(|writer| load.write(writer, true));
    let past = (0..WRITERS_PAST).map(|writer| load.write(WRITERS_THROUGH + writer, false));
    let writers = join_all(through.map(Box::pin).collect::<Vec<_>>());
    let writers_past = join_all(past.map(Box::pin).collect::<Vec<_>>());
    let readers = join_all((0..READERS).map(|reader| load.read(reader)));
    let watchers = join_all((0..WATCHERS).map(|watcher| load.watch(watcher)));
    let making = async {
        let mut scene = Scene {
            cluster,
            wires,
            relays,
            load: &load,
        };
        let lease = load.lease_that_ends().await;
        load.has_a_victim().await;
        load.all_see("what is written before any trouble", 100)
            .await;
        trouble(&mut scene).await;
        load.has_ended(lease).await;
        load.all_see("what is written after all trouble", 100).await;
        load.stay();
        load.no_more_requests();
        scene
    };
    let writing = async { tokio::join!(Box::pin(making), writers, writers_past, readers).0 };
    let finishing = async {
        let scene = Box::pin(writing).await;
        load.end_leases().await;
        load.last_write().await;
        scene
    };
    let (scene, streams) = tokio::join!(Box::pin(finishing), watchers);
    recorder.note(&Line::Quiet);
    drop((scene, streams));
    recorder.flush();
    holds(&path);
}

/// Holds a record against every promise, and looks whether all of it was about something.
fn holds(path: &Path) {
    let file = BufReader::new(File::open(path).expect("the record"));
    let lines = record::read(file).expect("a record");
    let verdict = judge(&lines);
    eprintln!("{verdict}");
    for (what, kind) in KINDS {
        let answered = answered(&lines, kind);
        eprintln!("{answered} {what}");
        assert!(answered > 0, "no {what}");
    }
    let faults = verdict.faults.iter().take(20).collect::<Vec<_>>();
    assert!(verdict.holds(), "{faults:#?}");
    for property in [
        Property::Ordered,
        Property::Unique,
        Property::Reliable,
        Property::Atomic,
        Property::Resumable,
        Property::Bookmarkable,
        Property::Filter,
        Property::PrevKv,
        Property::IsCreate,
        Property::Sequential,
    ] {
        assert!(
            verdict.checks(property) > 0,
            "{property:?} was not looked at"
        );
    }
}

/// What has to be answered now and then.
const KINDS: [(&str, IsKind); 4] = [
    ("reads of now", |it| matches!(it, Request::Range { .. })),
    ("reads of any revision", |it| {
        matches!(it, Request::Stale { .. })
    }),
    ("puts with a lease", |it| {
        matches!(it, Request::Put { lease: 1.., .. })
    }),
    ("revocations", |it| matches!(it, Request::LeaseEnd { .. })),
];

type IsKind = fn(&Request) -> bool;

/// How many requests of a kind were answered.
fn answered(lines: &[Line], is_kind: IsKind) -> usize {
    let of_kind = lines.iter().filter_map(|line| match line {
        Line::Call { call, request } if is_kind(request) => Some(*call),
        _ => None,
    });
    let of_kind: BTreeSet<u64> = of_kind.collect();
    let is_answer = |line: &&Line| match line {
        Line::Return {
            call,
            outcome: Outcome::Done { .. },
        } => of_kind.contains(call),
        _ => false,
    };
    lines.iter().filter(is_answer).count()
}

/// Waits until a member answers again.
async fn is_back(scene: &Scene<'_>, member: usize) {
    let endpoint = &scene.cluster.members[member].endpoint;
    eventually("the member is back", async || {
        let client = crate::support::Client::connect(endpoint).await;
        let client = client.map_err(|error| error.to_string())?;
        let read = client.range(crate::support::requests::get("back")).await;
        read.map(drop).map_err(|status| status.to_string())
    })
    .await;
}
