//! How far a stream has come: one answer for all of its watches, whichever covers they are in.
//!
//! What an answer says is compared with the very events that the client was told of before and after it.

use super::{Client, Test, run, wanted};
use crate::actors::{StreamItem, WatchCreate};
use crate::backend::WatchControl;
use crate::model::{KeyRange, Revision, WatchId};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

#[test]
fn progress_is_that_of_the_cluster_now() {
    run(async {
        let test = Test::start().await;
        let mut client = test.client();
        client.watch(KeyRange::prefix("/a/"), 0).await;
        client.watch(KeyRange::single("/a/1"), 0).await;
        for round in 0..10 {
            // Nobody watches this.
            let put = test.put("c", &round.to_string()).await;
            client.control.request_progress().await;
            match client.next().await {
                StreamItem::Progress { watch_id, revision } => {
                    assert_eq!((watch_id, revision), (WatchId::STREAM, put));
                }
                other => panic!("no progress: {other:?}"),
            }
        }
        test.stop().await;
    });
}

/// What a client was told, checked as it comes: after an answer nothing comes up to there, and before it nothing behind.
#[derive(Default)]
struct Told {
    progress: Revision,
    furthest: Revision,
    /// By key, in order.
    events: BTreeMap<String, Vec<i64>>,
}

impl Told {
    /// Takes in what comes until progress is told; answers how far.
    async fn until_progress(&mut self, client: &mut Client) -> Revision {
        loop {
            match client.next().await {
                StreamItem::Events { batch, .. } => {
                    for event in batch.events() {
                        let revision = event.kv.mod_revision;
                        assert!(
                            revision > self.progress,
                            "{revision} after {}",
                            self.progress
                        );
                        self.furthest = self.furthest.max(revision);
                        let key = String::from_utf8(event.kv.key.to_vec()).unwrap();
                        self.events.entry(key).or_default().push(revision.0);
                    }
                }
                StreamItem::Progress { watch_id, revision } => {
                    assert_eq!(watch_id, WatchId::STREAM);
                    assert!(
                        revision >= self.furthest,
                        "{revision} is behind {}",
                        self.furthest
                    );
                    assert!(revision >= self.progress);
                    self.progress = revision;
                    return revision;
                }
                other => panic!("neither events nor progress: {other:?}"),
            }
        }
    }
}

#[test]
fn progress_of_a_stream_in_several_covers_is_one_answer() {
    run(async {
        let test = Test::start().await;
        let mut client = test.client();
        let (one, _) = client.watch(KeyRange::prefix("/a/"), 0).await;
        client.watch(KeyRange::prefix("/b/"), 0).await;
        assert_eq!(test.covers.len(), 2);
        let mut told = Told::default();
        for round in 0..10 {
            let key = ["/a/1", "/b/1", "c"][round % 3];
            let put = test.put(key, &round.to_string()).await;
            client.control.request_progress().await;
            assert_eq!(told.until_progress(&mut client).await, put);
        }
        assert_eq!(
            (told.events["/a/1"].len(), told.events["/b/1"].len()),
            (4, 3)
        );
        client.control.cancel(one).await;
        assert!(matches!(client.next().await, StreamItem::Canceled { .. }));
        let put = test.put("c", "last").await;
        client.control.request_progress().await;
        assert_eq!(told.until_progress(&mut client).await, put);
        test.stop().await;
    });
}

// Covers move on one by one: whoever answers for all of them has to bring those that are behind to where the first one is.
#[test]
fn progress_of_several_covers_under_writes_is_true_of_each() {
    run(async {
        let test = Test::start().await;
        let mut client = test.client();
        for name in ["/a/", "/b/", "/c/"] {
            client.watch(KeyRange::prefix(name), 0).await;
        }
        assert_eq!(test.covers.len(), 3);
        let writers: Vec<_> = ["/a/", "/b/", "/c/"]
            .into_iter()
            .map(|name| {
                let engine = test.engine.clone();
                actix_rt::spawn(async move {
                    for number in 0..400 {
                        let key = format!("{name}{}", number % 7);
                        engine.put(key, "v").await.unwrap();
                    }
                })
            })
            .collect();
        let mut told = Told::default();
        let mut answers = 0;
        loop {
            client.control.request_progress().await;
            let revision = told.until_progress(&mut client).await;
            answers += 1;
            if revision == Revision(1201) {
                break;
            }
        }
        assert!(answers > 1, "all of it was written before the first answer");
        for writer in writers {
            writer.await.unwrap();
        }
        let mut revisions: Vec<_> = told.events.values().flatten().copied().collect();
        for of_key in told.events.values() {
            assert!(of_key.is_sorted());
        }
        revisions.sort_unstable();
        assert!(revisions.into_iter().eq(2..=1201));
        test.stop().await;
    });
}

// The past of one cover is read while the other is told of progress; nothing of it may come after an answer.
#[test]
fn progress_waits_for_a_late_watch_of_another_cover() {
    run(async {
        let test = Test::start().await;
        for number in 0..300 {
            test.put(&format!("/a/{}", number % 10), "v").await;
        }
        let mut client = test.client();
        client.watch(KeyRange::prefix("/b/"), 0).await;
        client.watch(KeyRange::prefix("/a/"), 2).await;
        let mut told = Told::default();
        for _ in 0..3 {
            client.control.request_progress().await;
        }
        assert_eq!(told.until_progress(&mut client).await, Revision(301));
        assert_eq!(told.events.values().map(Vec::len).sum::<usize>(), 300);
        test.stop().await;
    });
}

#[test]
fn a_start_in_the_future_is_not_told_of_less_in_whichever_cover() {
    run(async {
        let test = Test::start().await;
        let mut client = test.client();
        client.watch(KeyRange::prefix("/a/"), 0).await;
        client
            .control
            .create(vec![wanted(KeyRange::prefix("/b/"), 5)])
            .await;
        assert!(matches!(client.next().await, StreamItem::Created { .. }));
        client.control.request_progress().await;
        let mut told = Told::default();
        for value in 2..6 {
            test.put("c", &value.to_string()).await;
        }
        assert_eq!(told.until_progress(&mut client).await, Revision(5));
        test.stop().await;
    });
}

#[test]
fn watches_that_come_while_progress_is_asked_for_are_not_told_of_what_they_lack() {
    run(async {
        let test = Test::start().await;
        for number in 0..200 {
            test.put(&format!("/{}/x", ["a", "b", "c", "d"][number % 4]), "v")
                .await;
        }
        let mut client = test.client();
        client.watch(KeyRange::prefix("/a/"), 0).await;
        client.watch(KeyRange::prefix("/b/"), 0).await;
        // Each of them begins in the past, in a cover of its own, with an answer under way.
        for name in ["/c/", "/d/"] {
            client.control.request_progress().await;
            let create = WatchCreate {
                watch_id: WatchId(100 + i64::from(name == "/d/")),
                ..wanted(KeyRange::prefix(name), 2)
            };
            client.control.create(vec![create]).await;
        }
        client.control.request_progress().await;
        let (mut created, mut events, mut answered) = (Vec::new(), 0, false);
        while !(answered && created.len() == 2 && events == 100) {
            match client.next().await {
                StreamItem::Created { watch_id, .. } => created.push(watch_id),
                StreamItem::Events { batch, .. } => {
                    events += batch.events().len();
                }
                StreamItem::Progress { watch_id, .. } => {
                    assert_eq!(watch_id, WatchId::STREAM);
                    // Whoever is registered has all of its past.
                    assert_eq!(events, 50 * created.len());
                    answered = true;
                }
                other => panic!("neither: {other:?}"),
            }
        }
        test.stop().await;
    });
}

// What is on its way to a client that reads slowly arrives as slowly, and until then its parts have to be held.
#[test]
fn a_client_that_reads_slowly_from_several_covers_is_answered() {
    run(async {
        let test = Test::start().await;
        let mut client = test.client();
        client.watch(KeyRange::prefix("/a/"), 0).await;
        client.watch(KeyRange::prefix("/b/"), 0).await;
        let is_answered = Rc::new(Cell::new(false));
        let writers = ["/a/1", "/b/1"].map(|key| {
            let (engine, is_answered) = (test.engine.clone(), Rc::clone(&is_answered));
            actix_rt::spawn(async move {
                while !is_answered.get() {
                    engine.put(key, vec![b'v'; 32 << 10]).await.unwrap();
                    sleep(Duration::from_millis(5)).await;
                }
            })
        });
        let (mut told, mut is_asked) = (0, false);
        loop {
            match client.next().await {
                // It keeps what it was given until it has read it.
                StreamItem::Events { batch, room, .. } => {
                    told += batch.events().len();
                    sleep(Duration::from_millis(20)).await;
                    drop(room);
                }
                StreamItem::Progress { revision, .. } => {
                    let due = usize::try_from(revision.0 - 1).unwrap();
                    assert_eq!(told, due);
                    break;
                }
                other => panic!("neither events nor progress: {other:?}"),
            }
            // More is on its way than it reads in a while.
            if told > 40 && !is_asked {
                is_asked = true;
                client.control.request_progress().await;
            }
        }
        is_answered.set(true);
        for writer in writers {
            writer.await.unwrap();
        }
        test.stop().await;
    });
}
