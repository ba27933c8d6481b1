//! A relay before a cluster that refuses: clients hear of it in the cluster's own words, and wait for nothing.
//!
//! The cluster is made up, so that it refuses just when the test says so.

use super::super::fake::Fake;
use super::super::{eventually, serve};
use super::{Client, before, run, wanted};
use crate::actors::{Next, StreamEnd, StreamItem, WatchCreate, WatchRejection};
use crate::backend::WatchControl;
use crate::model::{KeyRange, Refusal, Revision, WatchId};
use crate::relay::{Covers, RelayLimits};
use crate::server::{Server, ServerLimits};
use actix_rt::Arbiter;
use std::time::Duration;

/// What etcd says of somebody who may not watch.
const DENIED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

/// A cluster that is made up, and a relay before it whose covers are never fitted by the clock.
struct Refusing {
    fake: Fake,
    _server: Server,
    covers: Covers,
    arbiter: Arbiter,
}

impl Refusing {
    async fn start() -> Self {
        let fake = Fake::new();
        let server = serve(&fake, ServerLimits::default());
        let arbiter = Arbiter::new();
        let limits = RelayLimits {
            tidy_interval: Duration::from_hours(1),
            ..RelayLimits::default()
        };
        let covers = before(&server, &limits, &arbiter).await;
        Self {
            fake,
            _server: server,
            covers,
            arbiter,
        }
    }

    fn client(&self) -> Client {
        Client::of(&self.covers)
    }

    /// Watches that the cluster was asked for so far.
    fn asked(&self) -> usize {
        self.fake.state().creates.len()
    }

    /// The cluster ends the watch that was asked for last.
    fn cancel(&self) {
        self.fake.outbox().push(StreamItem::Canceled {
            watch_id: WatchId(0),
            revision: Revision(1),
        });
    }
}

fn one(key: &'static str) -> WatchCreate {
    wanted(KeyRange::single(key), 0)
}

async fn rejected(client: &mut Client) -> WatchRejection {
    match client.next().await {
        StreamItem::Rejected { reason, .. } => reason,
        other => panic!("not rejected: {other:?}"),
    }
}

async fn ended(client: &mut Client) -> StreamEnd {
    match client.said().await {
        Next::End(end) => end,
        Next::Item(item) => panic!("not the end: {item:?}"),
    }
}

#[test]
fn a_watch_that_the_cluster_refuses_is_rejected_in_its_words_and_no_other() {
    run(async {
        let test = Refusing::start().await;
        test.fake.state().refuses_watches = Some(("secret", DENIED));
        let mut client = test.client();
        for _ in 0..3 {
            client
                .control
                .create(vec![one("secret"), one("open")])
                .await;
            let reason = rejected(&mut client).await;
            assert_eq!(reason, WatchRejection::Refused(DENIED.into()));
            assert!(matches!(client.next().await, StreamItem::Created { .. }));
        }
        eventually(|| test.covers.ranges() == [KeyRange::single("open")]).await;
        test.arbiter.stop();
    });
}

// What the cluster has taken it may end for reasons that pass, and then nobody needs to hear of it.
#[test]
fn a_watch_that_the_cluster_ends_goes_on_unless_the_next_is_refused() {
    run(async {
        let test = Refusing::start().await;
        let mut client = test.client();
        client.watch(KeyRange::single("a"), 0).await;
        assert_eq!(test.asked(), 1);
        test.cancel();
        eventually(|| test.asked() == 2).await;
        client.control.request_progress().await;
        assert!(matches!(client.next().await, StreamItem::Progress { .. }));

        test.fake.state().refuses_watches = Some(("a", DENIED));
        test.cancel();
        let end = ended(&mut client).await;
        assert!(matches!(end, StreamEnd::Unavailable(_)), "{end:?}");
        let mut again = test.client();
        again.control.create(vec![one("a")]).await;
        let reason = rejected(&mut again).await;
        assert_eq!(reason, WatchRejection::Refused(DENIED.into()));
        test.arbiter.stop();
    });
}

// Who has a seat already when the refusal comes, and has not begun, is told the same as whoever comes later.
#[test]
fn a_watch_that_widens_a_cover_beyond_what_may_be_watched_is_rejected_and_the_others_come_back() {
    run(async {
        let test = Refusing::start().await;
        test.fake.state().refuses_watches = Some(("/b", DENIED));
        let mut narrow = test.client();
        narrow.watch(KeyRange::single("/a"), 0).await;
        let mut wide = test.client();
        let all = wanted(KeyRange::prefix("/"), 0);
        wide.control.create(vec![all]).await;
        let reason = rejected(&mut wide).await;
        assert_eq!(reason, WatchRejection::Refused(DENIED.into()));
        let end = ended(&mut narrow).await;
        assert!(matches!(end, StreamEnd::Unavailable(_)), "{end:?}");
        let mut narrow = test.client();
        narrow.watch(KeyRange::single("/a"), 0).await;
        assert_eq!(test.covers.ranges(), [KeyRange::single("/a")]);
        test.arbiter.stop();
    });
}

// Who is level is still told of what happens; who reads the past would wait for ever, since that has to be asked for.
#[test]
fn a_past_that_the_cluster_refuses_is_told_to_whoever_waits_for_it() {
    run(async {
        let test = Refusing::start().await;
        test.fake.state().revision = 5;
        let mut level = test.client();
        level.watch(KeyRange::single("a"), 0).await;
        test.fake.state().refuses_watches = Some(("a", DENIED));
        let mut late = test.client();
        late.watch(KeyRange::single("a"), 2).await;
        for client in [&mut late, &mut level] {
            let end = ended(client).await;
            assert!(matches!(end, StreamEnd::Unavailable(_)), "{end:?}");
        }
        let mut late = test.client();
        late.control
            .create(vec![wanted(KeyRange::single("a"), 2)])
            .await;
        let reason = rejected(&mut late).await;
        assert_eq!(reason, WatchRejection::Refused(DENIED.into()));
        test.arbiter.stop();
    });
}

// A feed that goes on asking for what is refused would keep its cover, and the cluster busy.
#[test]
fn nobody_goes_on_asking_for_a_revision_that_is_refused() {
    run(async {
        let test = Refusing::start().await;
        test.fake.state().refuses_queries = Some(Refusal::EmptyKey);
        let mut client = test.client();
        client.control.create(vec![one("a")]).await;
        let words = "rpc error: code = InvalidArgument desc = etcdserver: key is not provided";
        let reason = rejected(&mut client).await;
        assert_eq!(reason, WatchRejection::Refused(words.into()));
        eventually(|| test.covers.len() == 0).await;
        assert_eq!(test.asked(), 0);
        test.arbiter.stop();
    });
}
