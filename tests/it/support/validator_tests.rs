//! What the stubs received has to reach the validator whole: each kind of fault is found in generated messages too.
//!
//! Logs are written by hand here; no server runs.

use super::history::{Change, History, Replay};
use super::mvccpb::Event;
use super::pb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use super::peer::PeerKind;
use super::requests::{on_everything, on_prefix};
use super::validator::Validator;

/// Revisions 2 to 6: put a, put b, both of c and d, delete a, put a.
fn replay() -> Replay {
    let put = |key: &'static str| Change::Put {
        key: key.into(),
        value: "v".into(),
    };
    let history = History::default();
    history.record(2, vec![put("a")]);
    history.record(3, vec![put("b")]);
    history.record(4, vec![put("c"), put("d")]);
    let delete = Change::Delete {
        key: "a".into(),
        range_end: "".into(),
    };
    history.record(5, vec![delete]);
    history.record(6, vec![put("a")]);
    history.note_compaction(4);
    history.replay()
}

fn response(watch_id: i64, revision: i64) -> WatchResponse {
    let header = ResponseHeader {
        cluster_id: 1,
        member_id: 1,
        revision,
        raft_term: 1,
    };
    WatchResponse {
        header: Some(header),
        watch_id,
        ..WatchResponse::default()
    }
}

fn created(revision: i64) -> WatchResponse {
    WatchResponse {
        created: true,
        ..response(0, revision)
    }
}

fn compacted(compact_revision: i64, revision: i64) -> WatchResponse {
    WatchResponse {
        canceled: true,
        compact_revision,
        ..response(0, revision)
    }
}

/// The events with these places in the history, as one response.
fn events(places: &[usize]) -> WatchResponse {
    let events: Vec<Event> = places
        .iter()
        .map(|place| Event {
            prev_kv: None,
            ..replay().events[*place].clone()
        })
        .collect();
    let last = events.last().and_then(|event| event.kv.as_ref());
    let revision = last.expect("an event").mod_revision;
    WatchResponse {
        events,
        ..response(0, revision)
    }
}

fn fragment(places: &[usize], revision: i64, more: bool) -> WatchResponse {
    let mut response = events(places);
    response.fragment = more;
    response.header.as_mut().expect("a header").revision = revision;
    response
}

fn from_one() -> WatchCreateRequest {
    WatchCreateRequest {
        start_revision: 1,
        fragment: true,
        ..on_everything()
    }
}

/// Judges a log of one watch; the verdict is the fault, or nothing.
fn verdict(create: WatchCreateRequest, log: &[WatchResponse]) -> String {
    let replay = replay();
    let mut validator = Validator::new(PeerKind::Vigil, &replay, [(0, create)]);
    let judged = validator.check_all(log);
    judged.err().unwrap_or_default()
}

fn fault(log: &[WatchResponse], said: &str) {
    let verdict = verdict(from_one(), log);
    assert!(verdict.contains(said), "{said:?} is not in {verdict:?}");
}

#[test]
fn what_was_written_passes() {
    let log = [
        created(6),
        events(&[0, 1]),
        events(&[2, 3]),
        events(&[4, 5]),
    ];
    assert_eq!(verdict(from_one(), &log), "");
    let log = [
        created(1),
        events(&[0]),
        response(-1, 2),
        events(&[1]),
        response(0, 3),
    ];
    assert_eq!(verdict(from_one(), &log), "");
    let log = [
        created(6),
        fragment(&[0, 1, 2], 6, true),
        fragment(&[3, 4, 5], 6, false),
    ];
    assert_eq!(verdict(from_one(), &log), "");
    let log = [created(6), events(&[0]), compacted(4, 0)];
    assert_eq!(verdict(from_one(), &log), "");
    let narrow = WatchCreateRequest {
        filters: vec![1],
        ..on_prefix("a")
    };
    assert_eq!(
        verdict(narrow, &[created(1), events(&[0]), events(&[5])]),
        ""
    );
}

#[test]
fn a_gap_a_repeat_and_a_wrong_order_are_found() {
    fault(
        &[created(6), events(&[0]), events(&[4])],
        "Reliable: line 3",
    );
    fault(
        &[created(6), events(&[0, 1]), events(&[1])],
        "Unique: line 3",
    );
    fault(&[created(6), events(&[1, 0])], "Ordered: line 2");
    fault(&[created(6), events(&[1])], "Resumable: line 2");
}

#[test]
fn a_split_revision_is_found() {
    fault(
        &[created(6), events(&[0, 1, 2]), events(&[3])],
        "Atomic: line 3",
    );
}

#[test]
fn progress_that_overtakes_is_found() {
    fault(
        &[created(6), events(&[0]), response(-1, 3)],
        "progress 3 overtakes 1",
    );
    fault(&[created(6), response(0, 2)], "progress 2 overtakes 1");
    let log = [created(1), response(0, 1), events(&[0]), response(0, 4)];
    fault(&log, "progress 4 overtakes 3");
}

#[test]
fn events_for_a_watch_that_is_over_or_not_there_are_found() {
    fault(&[events(&[0])], "no live watch 0");
    fault(
        &[created(6), compacted(4, 0), events(&[0])],
        "no live watch 0",
    );
    fault(&[created(6), created(6)], "nobody asked for it");
    let stranger = WatchResponse {
        watch_id: 8,
        ..events(&[0])
    };
    fault(&[created(6), stranger], "no live watch 8");
}

/// Which of a log and a compaction came first, a log alone does not say.
#[test]
fn a_compaction_counts_from_the_first_response_on() {
    assert_eq!(verdict(from_one(), &[created(6), compacted(4, 0)]), "");
}

#[test]
fn a_compaction_that_was_not_due_is_found() {
    fault(&[created(6), compacted(5, 0)], "nobody compacted at 5");
    fault(&[created(6), compacted(4, 6)], "without a revision");
    let log = [created(6), events(&[0, 1, 2, 3]), compacted(4, 0)];
    fault(&log, "owed from 5 on");
}

#[test]
fn fragments_that_do_not_belong_together_are_found() {
    let log = [created(6), fragment(&[0], 6, true), response(-1, 1)];
    fault(&log, "not the next fragment");
    let log = [
        created(6),
        fragment(&[0], 6, true),
        fragment(&[1], 3, false),
    ];
    fault(&log, "not the next fragment");
    let unasked = WatchCreateRequest {
        fragment: false,
        ..from_one()
    };
    let said = verdict(unasked, &[created(6), fragment(&[0], 6, true)]);
    assert!(said.contains("did not ask"), "{said}");
}

#[test]
fn a_wrong_previous_value_is_found() {
    let asking = WatchCreateRequest {
        prev_kv: true,
        ..from_one()
    };
    // The delete at 5 is above the compaction at 4, so it has to carry what it deleted.
    let log = [created(6), events(&[0, 1, 2, 3]), events(&[4])];
    let said = verdict(asking, &log);
    assert!(said.contains("wrong previous value"), "{said}");
    let mut unasked = events(&[0]);
    unasked.events[0].prev_kv = Some(replay().events[1].kv.clone().expect("a key"));
    fault(&[created(6), unasked], "wrong previous value");
}

#[test]
fn a_watch_that_stops_short_is_found() {
    let replay = replay();
    let mut validator = Validator::new(PeerKind::Vigil, &replay, [(0, from_one())]);
    validator
        .check_all(&[created(6), events(&[0])])
        .expect("a good start");
    assert!(validator.complete(2).is_ok());
    assert!(validator.complete(3).is_err());
}
