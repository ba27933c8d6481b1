//! Seats in covers: as long as somebody sits there, what is watched on the cluster is as wide as it has to be.
//!
//! Covers are fitted when the test says so, and never by luck.

use super::{Client, Test, run, wanted};
use crate::actors::{StreamItem, WatchCreate};
use crate::backend::WatchControl;
use crate::model::{KeyRange, Revision, WatchId};
use crate::relay::RelayLimits;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use tokio::task::yield_now;

// The ring of a cover that becomes wider has nothing of what happened in the rest of its range, though it has the revisions.
#[test]
fn a_watch_that_widens_a_cover_and_begins_within_its_ring_lacks_nothing() {
    run(async {
        let test = Test::start().await;
        let mut narrow = test.client();
        narrow.watch(KeyRange::single("/a/1"), 0).await;
        let first = test.put("/a/1", "v").await;
        for number in 0..19 {
            test.put(&format!("/a/{}", number % 3), "v").await;
        }
        // All of it is in the ring.
        narrow.events(7).await;
        let mut wide = test.client();
        wide.watch(KeyRange::prefix("/a/"), first.0).await;
        let mut pending = VecDeque::new();
        for revision in first.0..first.0 + 20 {
            expect(&mut wide, &mut pending, revision).await;
        }
        assert_eq!(test.covers.len(), 1);
        test.stop().await;
    });
}

#[test]
fn a_cover_is_held_until_both_of_two_watches_of_one_range_have_gone() {
    run(async {
        let test = Test::start().await;
        let (mut one, mut other) = (test.client(), test.client());
        one.watch(KeyRange::single("/a"), 0).await;
        other.watch(KeyRange::single("/a"), 0).await;
        drop(one);
        test.covers.tidy_for_test();
        assert_eq!(test.covers.ranges(), [KeyRange::single("/a")]);
        let put = test.put("/a", "v").await;
        assert_eq!(other.events(1).await, [(0, "/a".to_owned(), put.0)]);
        drop(other);
        test.covers.tidy_for_test();
        assert_eq!(test.covers.len(), 0);
        test.stop().await;
    });
}

#[test]
fn a_cover_is_narrowed_to_all_that_is_still_watched_and_no_further() {
    run(async {
        let test = Test::start().await;
        let (mut wide, mut narrow) = (test.client(), test.client());
        wide.watch(KeyRange::everything(), 0).await;
        narrow.watch(KeyRange::single("/b"), 0).await;
        narrow.watch(KeyRange::single("/d"), 0).await;
        assert_eq!(test.covers.len(), 1);
        drop(wide);
        test.covers.tidy_for_test();
        assert_eq!(test.covers.ranges(), [KeyRange::prefix("/")]);
        let mut due = Vec::new();
        for (id, key) in [(0, "/b"), (1, "/d"), (0, "/b")] {
            test.put("/a", "v").await;
            let put = test.put(key, "v").await;
            due.push((id, key.to_owned(), put.0));
        }
        let mut events = narrow.events(3).await;
        events.sort_by_key(|it| it.2);
        assert_eq!(events, due);
        test.stop().await;
    });
}

/// The next event has to be of this revision.
pub(super) async fn expect(client: &mut Client, pending: &mut VecDeque<i64>, revision: i64) {
    while pending.is_empty() {
        if let StreamItem::Events { batch, .. } = client.next().await {
            pending.extend(batch.events().iter().map(|event| event.kv.mod_revision.0));
        }
    }
    assert_eq!(pending.pop_front(), Some(revision));
}

/// A relay that reads and hands out the past in small pieces.
fn in_pieces() -> RelayLimits {
    let mut limits = RelayLimits::default();
    limits.engine.batch.revisions_per_batch_max = 10;
    limits.engine.outbox.outbox_bytes_max = 1;
    limits.engine.mailbox_messages_max = 1;
    limits
}

// What the cluster sends at once is more than is handed out at once.
#[test]
fn the_past_is_told_as_a_whole_though_it_is_handed_out_in_pieces() {
    run(async {
        let test = Test::with(&in_pieces()).await;
        for number in 0..300 {
            test.put(&format!("/a/{}", number % 10), "v").await;
        }
        let (mut client, mut pending) = (test.client(), VecDeque::new());
        client.watch(KeyRange::prefix("/a/"), 1).await;
        for revision in 2..302 {
            expect(&mut client, &mut pending, revision).await;
        }
        test.stop().await;
    });
}

// A watch on the cluster that waits for somebody to read on is of the range that was wanted when it began.
#[test]
fn the_past_of_a_narrow_watch_is_not_read_on_for_a_wide_one() {
    run(async {
        let test = Test::with(&in_pieces()).await;
        for number in 0..1500 {
            test.put(&format!("/a/{}", number % 10), "v").await;
        }
        // It does not read, so what is read for it stops somewhere: ten of its events, and a hundred revisions, at a time.
        let mut narrow = test.client();
        let stalled = wanted(KeyRange::single("/a/1"), 2);
        narrow.control.create(vec![stalled]).await;
        let (mut wide, mut pending) = (test.client(), VecDeque::new());
        // In steps that meet it.
        wide.watch(KeyRange::prefix("/a/"), 3).await;
        for revision in 3..1502 {
            expect(&mut wide, &mut pending, revision).await;
        }
        let mut pending = VecDeque::new();
        for revision in (3..1502).step_by(10) {
            expect(&mut narrow, &mut pending, revision).await;
        }
        test.stop().await;
    });
}

/// A server that has nothing before revision 8.
async fn compacted() -> Test {
    let test = Test::start().await;
    for _ in 0..10 {
        test.put("/a/", "v").await;
    }
    test.engine.compact(Revision(8), true).await.unwrap();
    test
}

async fn expect_compacted(client: &mut Client) {
    let next = client.next().await;
    assert!(matches!(next, StreamItem::Compacted { .. }), "{next:?}");
}

#[test]
fn the_id_of_a_watch_that_was_compacted_away_is_free_though_its_part_of_the_stream_has_gone() {
    run(async {
        let test = compacted().await;
        let mut client = test.client();
        client.watch(KeyRange::prefix("/b/"), 0).await;
        let chosen = |range, start| WatchCreate {
            watch_id: WatchId(5),
            ..wanted(range, start)
        };
        let late = chosen(KeyRange::prefix("/a/"), 3);
        client.control.create(vec![late]).await;
        assert!(matches!(client.next().await, StreamItem::Created { .. }));
        expect_compacted(&mut client).await;
        // Whoever asks how far the stream has come lets go of parts without watches.
        client.control.request_progress().await;
        let next = client.next().await;
        assert!(matches!(next, StreamItem::Progress { .. }), "{next:?}");
        let again = chosen(KeyRange::prefix("/b/"), 0);
        client.control.create(vec![again]).await;
        let next = client.next().await;
        assert!(matches!(next, StreamItem::Created { .. }), "{next:?}");
        test.stop().await;
    });
}

#[test]
fn a_watch_that_was_compacted_away_holds_no_cover() {
    run(async {
        let test = compacted().await;
        let mut client = test.client();
        client.watch(KeyRange::prefix("/a/"), 3).await;
        expect_compacted(&mut client).await;
        while test.covers.len() > 0 {
            test.covers.tidy_for_test();
            yield_now().await;
        }
        test.stop().await;
    });
}

// Nobody reads on, and a stream that stays open kept what its cover had begun to read.
#[test]
fn nothing_is_read_on_for_a_stream_without_watches() {
    run(async {
        let test = Test::with(&in_pieces()).await;
        for number in 0..1500 {
            test.put(&format!("/a/{}", number % 10), "v").await;
        }
        let watched = || {
            let worker = test.engine.worker_for_test(0).unwrap();
            worker.shared.watches.load(Ordering::SeqCst)
        };
        let mut client = test.client();
        client.watch(KeyRange::prefix("/a/"), 2).await;
        // Of what comes the client takes one piece, and the rest of it waits with the watch that it is read by.
        client.events(10).await;
        while watched() < 2 {
            yield_now().await;
        }
        client.control.cancel(WatchId(0)).await;
        while watched() > 0 {
            test.covers.tidy_for_test();
            yield_now().await;
        }
        assert_eq!(test.covers.len(), 0);
        drop(client);
        test.stop().await;
    });
}
