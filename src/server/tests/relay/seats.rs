//! Seats in covers: as long as somebody sits there, what is watched on the cluster is as wide as it has to be.
//!
//! Covers are fitted when the test says so, and never by luck.

use super::{Test, run, wanted};
use crate::backend::WatchControl;
use crate::model::KeyRange;

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
        let events = wide.events(20).await;
        let due = first.0..first.0 + 20;
        assert!(events.iter().map(|it| it.2).eq(due), "{events:?}");
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

/// More ranges than are told apart when what came before is read for them.
const CROWD: i64 = 20;

// For a crowd all of its cover is read, and what was read for a narrow one is not all there is for who comes with a widening.
#[test]
fn a_late_watch_that_widens_the_cover_of_a_crowd_misses_nothing() {
    run(async {
        let test = Test::start().await;
        for number in 0..1500 {
            test.put(&format!("/a/{}", number % 10), "v").await;
        }
        for _ in 0..5 {
            let (mut crowd, mut wide) = (test.client(), test.client());
            let narrow = KeyRange::from_wire("/a/1".into(), "/a/2".into());
            crowd.watch(narrow.clone(), 0).await;
            let each =
                (0..CROWD).map(|number| wanted(KeyRange::single(format!("/a/1{number}")), 2));
            let all = each.chain([wanted(narrow, 2)]).collect();
            crowd.control.create(all).await;
            wide.watch(KeyRange::prefix("/a/"), 2).await;
            let events = wide.events(1500).await;
            assert!(events.iter().map(|it| it.2).eq(2..1502));
            let events = crowd.events(150).await;
            assert!(events.iter().all(|it| it.0 == CROWD + 1), "{events:?}");
            assert_eq!(test.covers.len(), 1);
            drop((crowd, wide));
            while test.covers.len() > 0 {
                test.covers.tidy_for_test();
            }
        }
        test.stop().await;
    });
}
