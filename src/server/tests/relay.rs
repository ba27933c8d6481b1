//! A relay's watches before a server of the API, in one process: what a client's stream is told, whatever becomes of the
//! covers behind it.
//!
//! Real clusters, and what happens to them, are in `tests/it`.

mod deaths;
mod progress;
mod refused;
mod seats;

use crate::actors::{
    Engine, EngineConfig, Inspection, Next, OutboxReader, Placement, StreamItem, WatchCreate,
    WatchRejection,
};
use crate::api::{HttpSettings, Member};
use crate::backend::WatchControl;
use crate::model::{DeleteRange, EventFilters, KeyRange, Revision, WatchId, Write};
use crate::relay::{Covers, Endpoints, RelayLimits, RelayStream};
use crate::server::{self, Server, ServerLimits, engine_workers};
use crate::tls::{ClientFiles, Target};
use actix_rt::Arbiter;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::TcpListener;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// A store that is served, and a relay before it.
struct Test {
    _dir: tempfile::TempDir,
    engine: Engine,
    _server: Server,
    covers: Covers,
    arbiter: Arbiter,
}

impl Test {
    async fn with(limits: &RelayLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            placement: Placement::Threads { workers: 1 },
            ..EngineConfig::new(dir.path())
        };
        let engine = Engine::start(config).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = server::start(
            listener,
            engine_workers(&engine),
            Member::default(),
            HttpSettings::default(),
            ServerLimits::default(),
        )
        .unwrap();
        let arbiter = Arbiter::new();
        let covers = before(&server, limits, &arbiter).await;
        Self {
            _dir: dir,
            engine,
            _server: server,
            covers,
            arbiter,
        }
    }

    async fn start() -> Self {
        Self::with(&RelayLimits::default()).await
    }

    fn client(&self) -> Client {
        Client::of(&self.covers)
    }

    async fn put(&self, key: &str, value: &str) -> Revision {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.engine.put(key, value).await.unwrap()
    }

    async fn stop(self) {
        self.engine.stop().await.unwrap();
        self.arbiter.stop();
    }
}

/// What watches this server, on a thread of its own, for clients on this one.
async fn before(server: &Server, limits: &RelayLimits, arbiter: &Arbiter) -> Covers {
    let target = Target::read(&server.local_addr().to_string(), &ClientFiles::default()).unwrap();
    let (sender, endpoints) = oneshot::channel();
    arbiter.spawn_fn(move || drop(sender.send(Endpoints::start(&[target], None))));
    let endpoints = endpoints.await.unwrap().unwrap();
    let workers = vec![Arbiter::current()];
    Covers::start(endpoints, limits, &arbiter.handle(), workers)
}

/// A client's stream.
struct Client {
    control: RelayStream,
    reader: OutboxReader,
}

impl Client {
    fn of(covers: &Covers) -> Self {
        let (control, reader) = RelayStream::open(covers, 0);
        Self { control, reader }
    }

    async fn next(&mut self) -> StreamItem {
        match self.said().await {
            Next::Item(item) => item,
            Next::End(end) => panic!("the stream has ended: {end:?}"),
        }
    }

    async fn said(&mut self) -> Next {
        let next = timeout(PATIENCE, poll_fn(|cx| self.reader.poll_next(cx))).await;
        next.expect("something is said")
    }

    async fn watch(&mut self, range: KeyRange, start_revision: i64) -> (WatchId, Revision) {
        self.control
            .create(vec![wanted(range, start_revision)])
            .await;
        match self.next().await {
            StreamItem::Created { watch_id, revision } => (watch_id, revision),
            other => panic!("not created: {other:?}"),
        }
    }

    /// So many events, as watch, key and revision; all else is passed over.
    async fn events(&mut self, count: usize) -> Vec<(i64, String, i64)> {
        let mut events = Vec::new();
        while events.len() < count {
            if let StreamItem::Events {
                watch_id, batch, ..
            } = self.next().await
            {
                for event in batch.events() {
                    let key = String::from_utf8(event.kv.key.to_vec()).unwrap();
                    events.push((watch_id.0, key, event.kv.mod_revision.0));
                }
            }
        }
        assert_eq!(events.len(), count, "{events:?}");
        events
    }
}

fn wanted(range: KeyRange, start_revision: i64) -> WatchCreate {
    WatchCreate {
        watch_id: WatchId::AUTO,
        range,
        start_revision,
        filters: EventFilters::default(),
        prev_kv: false,
        fragment: false,
        progress_notify: false,
    }
}

fn run(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(async {
        timeout(3 * PATIENCE, test).await.expect("the test hangs");
    });
}

#[test]
fn watches_from_now_on_are_told_of_what_comes_and_of_nothing_before() {
    run(async {
        let test = Test::start().await;
        for round in 0..20 {
            test.put("a", "before").await;
            let mut client = test.client();
            let (id, revision) = client.watch(KeyRange::single("a"), 0).await;
            assert_eq!((id, revision), (WatchId(0), Revision(2 + 2 * round)));
            let put = test.put("a", "after").await;
            assert_eq!(client.events(1).await, [(0, "a".to_owned(), put.0)]);
        }
        assert_eq!(test.covers.len(), 1);
        test.stop().await;
    });
}

#[test]
fn nested_ranges_share_one_watch_on_the_cluster_and_late_ones_have_all_of_the_past() {
    run(async {
        let test = Test::start().await;
        for number in 0..300 {
            test.put(&format!("/a/{:02}", number % 20), "v").await;
        }
        let mut client = test.client();
        let (all, _) = client.watch(KeyRange::prefix("/a/"), 1).await;
        let events = client.events(300).await;
        assert!(events.iter().map(|it| it.2).eq(2..302));
        assert!(events.iter().all(|it| it.0 == all.0));
        let (one, _) = client.watch(KeyRange::single("/a/07"), 2).await;
        let events = client.events(15).await;
        assert!(events.iter().all(|it| it.0 == one.0 && it.1 == "/a/07"));
        assert_eq!(test.covers.len(), 1);
        test.stop().await;
    });
}

#[test]
fn a_cover_that_is_widened_under_writes_has_no_gap_and_no_repeat() {
    run(async {
        let test = Test::start().await;
        let mut client = test.client();
        client.watch(KeyRange::prefix("/a/5"), 0).await;
        let writer = {
            let engine = test.engine.clone();
            actix_rt::spawn(async move {
                for number in 0..400 {
                    let key = format!("/a/{}", number % 10);
                    engine.put(key, "v").await.unwrap();
                }
            })
        };
        let mut others = Vec::new();
        for number in (0..10).rev() {
            let mut other = test.client();
            let range = KeyRange::from_wire(format!("/a/{number}").into(), "/a/9\0".into());
            let (_, revision) = other.watch(range.clone(), 0).await;
            others.push((other, range, revision));
        }
        writer.await.unwrap();
        assert_eq!(test.engine.revision(), Revision(401));
        // The put at revision r was to key (r - 2) % 10.
        let all = |range: &KeyRange, from: i64| -> Vec<i64> {
            (from..=401)
                .filter(|at| range.contains(format!("/a/{}", (at - 2) % 10).as_bytes()))
                .collect()
        };
        for (mut other, range, revision) in others {
            let due = all(&range, revision.0 + 1);
            let events = other.events(due.len()).await;
            let told: Vec<_> = events.iter().map(|it| it.2).collect();
            assert_eq!(told, due, "{range:?}");
        }
        let events = client.events(40).await;
        assert!(events.iter().all(|it| it.1 == "/a/5"));
        // The first of the others touched nothing yet.
        assert_eq!(test.covers.len(), 2);
        // Whoever watched before had all of it from memory.
        let stretches = test.covers.inspect().await.into_iter().map(|it| match it {
            Inspection::Sync { stretches_read, .. } => stretches_read,
            _ => 0,
        });
        assert_eq!(stretches.sum::<u64>(), 0);
        test.stop().await;
    });
}

// What was read for the narrow range was taken for all there is by a watch that came with the widening meanwhile.
#[test]
fn a_late_watch_that_widens_a_cover_while_its_past_is_read_misses_nothing() {
    run(async {
        let test = Test::start().await;
        for number in 0..1500 {
            test.put(&format!("/a/{}", number % 10), "v").await;
        }
        for _ in 0..5 {
            let mut narrow = test.client();
            narrow.watch(KeyRange::single("/a/1"), 2).await;
            let mut wide = test.client();
            wide.watch(KeyRange::prefix("/a/"), 2).await;
            let mut pending = VecDeque::new();
            for revision in 2..1502 {
                seats::expect(&mut wide, &mut pending, revision).await;
            }
            narrow.events(150).await;
            drop((narrow, wide));
            while test.covers.len() > 0 {
                test.covers.tidy_for_test();
            }
        }
        test.stop().await;
    });
}

#[test]
fn a_start_that_the_cluster_has_compacted_is_said_to_be_so() {
    run(async {
        let test = Test::start().await;
        for _ in 0..10 {
            test.put("a", "v").await;
        }
        test.engine.compact(Revision(8), true).await.unwrap();
        let mut client = test.client();
        client.watch(KeyRange::single("a"), 3).await;
        match client.next().await {
            StreamItem::Compacted {
                watch_id,
                compact_revision,
            } => {
                assert_eq!((watch_id, compact_revision), (WatchId(0), Revision(8)));
            }
            other => panic!("not compacted: {other:?}"),
        }
        client.watch(KeyRange::single("a"), 8).await;
        let events = client.events(4).await;
        assert!(events.iter().map(|it| it.2).eq(8..=11));
        test.stop().await;
    });
}

#[test]
fn ids_are_the_clients_and_free_again_when_their_watch_has_ended() {
    run(async {
        let test = Test::start().await;
        let mut client = test.client();
        let chosen = WatchCreate {
            watch_id: WatchId(7),
            ..wanted(KeyRange::prefix("a"), 0)
        };
        let elsewhere = WatchCreate {
            watch_id: WatchId(7),
            ..wanted(KeyRange::prefix("b"), 0)
        };
        client.control.create(vec![chosen, elsewhere.clone()]).await;
        assert!(matches!(
            client.next().await,
            StreamItem::Created {
                watch_id: WatchId(7),
                ..
            }
        ));
        let StreamItem::Rejected { reason, .. } = client.next().await else {
            panic!("the id is in use");
        };
        assert_eq!(reason, WatchRejection::DuplicateId);
        client.control.cancel(WatchId(7)).await;
        assert!(matches!(
            client.next().await,
            StreamItem::Canceled {
                watch_id: WatchId(7),
                ..
            }
        ));
        client.control.create(vec![elsewhere]).await;
        assert!(matches!(
            client.next().await,
            StreamItem::Created {
                watch_id: WatchId(7),
                ..
            }
        ));
        test.put("b", "v").await;
        assert_eq!(client.events(1).await[0].0, 7);
        test.stop().await;
    });
}

#[test]
fn previous_values_are_there_for_those_who_want_them_also_of_what_came_before_they_did() {
    run(async {
        let test = Test::start().await;
        let mut first = test.client();
        first.watch(KeyRange::single("a"), 0).await;
        for value in ["1", "2", "3"] {
            test.put("a", value).await;
        }
        first.events(3).await;
        let delete = Write::Delete(DeleteRange {
            range: KeyRange::single("a"),
            prev_kv: false,
        });
        test.engine.write(delete).await.unwrap();
        let mut client = test.client();
        let create = WatchCreate {
            prev_kv: true,
            ..wanted(KeyRange::single("a"), 2)
        };
        client.control.create(vec![create]).await;
        test.put("a", "4").await;
        test.put("a", "5").await;
        let mut seen = Vec::new();
        while seen.len() < 6 {
            if let StreamItem::Events { batch, .. } = client.next().await {
                for event in batch.events() {
                    let prev = event.prev().expect("it is known");
                    seen.push(prev.map(|prev| String::from_utf8(prev.value.to_vec()).unwrap()));
                }
            }
        }
        let some = |value: &str| Some(value.to_owned());
        let due = [None, some("1"), some("2"), some("3"), None, some("4")];
        assert_eq!(seen, due);
        test.stop().await;
    });
}

#[test]
fn covers_that_nobody_watches_any_more_are_let_go_of_and_wide_ones_narrowed() {
    run(async {
        let limits = RelayLimits {
            tidy_interval: Duration::from_millis(20),
            ..RelayLimits::default()
        };
        let test = Test::with(&limits).await;
        let mut client = test.client();
        let mut wide = test.client();
        wide.watch(KeyRange::prefix("/"), 0).await;
        client.watch(KeyRange::single("/a"), 0).await;
        drop(wide);
        let narrow = || test.covers.ranges() == [KeyRange::single("/a")];
        while !narrow() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        test.put("/b", "v").await;
        let put = test.put("/a", "v").await;
        assert_eq!(client.events(1).await, [(0, "/a".to_owned(), put.0)]);
        drop(client);
        while test.covers.len() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        test.stop().await;
    });
}
