//! What opens watches on the cluster dies of a panic: nobody's watches end, and nobody who comes waits for it.
//!
//! It is killed by a message, so that the test knows what has come before and what comes after.

use super::{Test, run};
use crate::model::KeyRange;
use crate::relay::RelayLimits;
use std::time::Duration;
use tokio::time::sleep;

#[test]
fn covers_are_opened_and_fitted_after_a_death_and_the_watches_of_others_go_on() {
    run(async {
        let limits = RelayLimits {
            tidy_interval: Duration::from_millis(20),
            ..RelayLimits::default()
        };
        let test = Test::with(&limits).await;
        let mut before = test.client();
        before.watch(KeyRange::single("a"), 0).await;
        let mut due = Vec::new();
        for round in 0..3 {
            test.covers.kill_upstream_for_test();
            let mut after = test.client();
            let key = format!("after/{round}");
            after.watch(KeyRange::single(key.clone()), 0).await;
            let put = test.put(&key, "v").await;
            assert_eq!(after.events(1).await, [(0, key, put.0)]);
            let put = test.put("a", "v").await;
            due.push((0, "a".to_owned(), put.0));
            drop(after);
            // Whoever fits covers now lets go of it.
            while test.covers.len() > 1 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(before.events(3).await, due);
        test.stop().await;
    });
}

// What was asked for is lost with the mailbox of the dead, or comes to its successor in two ways.
#[test]
fn covers_that_are_asked_for_around_a_death_are_fed_once_each() {
    run(async {
        let test = Test::start().await;
        let limits = RelayLimits::default();
        let ranges = (0..limits.covers_max).map(|number| format!("{number}/k"));
        let ranges: Vec<_> = ranges.collect();
        let mut clients = Vec::new();
        for round in 0..20 {
            let creates = ranges.iter().map(|key| {
                let mut client = test.client();
                let range = KeyRange::single(key.clone());
                async move {
                    client.watch(range, 0).await;
                    client
                }
            });
            // Each of them asks for its cover at its first turn, and the next one is asked for after one more death.
            let killed = creates.map(|create| {
                let covers = &test.covers;
                async move {
                    covers.kill_upstream_for_test();
                    create.await
                }
            });
            clients = futures_util::future::join_all(killed).await;
            test.covers.kill_upstream_for_test();
            for (key, client) in ranges.iter().zip(&mut clients) {
                let put = test.put(key, "v").await;
                // A second feed would publish it twice, or not at all.
                let next = test.put(key, "w").await;
                let told = [(0, key.clone(), put.0), (0, key.clone(), next.0)];
                assert_eq!(client.events(2).await, told, "round {round}");
            }
            clients.clear();
            while test.covers.len() > 0 {
                test.covers.tidy_for_test();
            }
        }
        assert!(clients.is_empty());
        test.stop().await;
    });
}
