//! Faults of watches, each alone.

use super::script::{Script, delete, done, everything, from, of_put, put, response};
use super::validator::answers::single;
use super::validator::record::{Answer, Ask, Create, Kind, Line, Outcome, Response, Server};
use super::validator::verdict::Property;
use super::validator::{judge, record};

fn watched() -> Script {
    Script::written().watch(from(1), 7)
}

#[test]
fn what_was_written_passes() {
    let all = watched().events(&[0, 1]).events(&[2, 3]);
    all.clone()
        .events(&[4, 5])
        .events(&[6])
        .line(Line::Quiet)
        .passes();
    let told = watched().events(&[0]).progress(0, 2).events(&[1]);
    told.progress(-1, 3).passes();
    let prev_kv = Create {
        prev_kv: true,
        ..from(1)
    };
    let mut script = Script::written().watch(prev_kv, 7);
    let mut rest = script.response_with(&[0, 1, 2, 3, 4, 5, 6]);
    let history = super::validator::history_of(&script.lines);
    for (place, event) in rest.events.iter_mut().enumerate() {
        event.prev_kv = history.at(place).expect("an event").prev_kv.clone();
    }
    script = script.tell(rest).line(Line::Quiet);
    script.passes();
    let narrow = Create {
        range: single("a"),
        no_delete: true,
        ..from(0)
    };
    Script::new(Server::Vigil).watch(narrow, 1).passes();
}

#[test]
fn a_verdict_counts_what_it_has_checked() {
    let verdict = watched().events(&[0, 1]).progress(0, 3).verdict();
    let counts = (verdict.events, verdict.progress, verdict.calls);
    assert_eq!(counts, (2, 1, 6));
    assert_eq!(verdict.checks(Property::Ordered), 2);
    assert_eq!(verdict.checks(Property::Bookmarkable), 1);
    assert_eq!(verdict.checks(Property::Sequential), 6 + 6);
}

#[test]
fn a_written_record_is_read_back_as_it_was() {
    let mut script = watched().events(&[0, 1, 2, 3, 4, 5]);
    script.begin(put("\u{0}\\n\n\"x", "\u{ff}~"));
    let mut file = Vec::new();
    for line in &script.lines {
        record::write(&mut file, line).expect("memory");
    }
    let read = record::read(&file[..]).expect("what was written");
    assert_eq!(read, script.lines);
    assert!(judge(&read).holds());
    let damaged = record::read(&b"{\"quiet\"\n"[..]).expect_err("no JSON");
    assert!(damaged.starts_with("line 1:"), "{damaged}");
}

#[test]
fn an_order_that_is_wrong_is_found() {
    watched()
        .events(&[1, 0])
        .breaks(Property::Ordered, "comes too late");
    let across = watched().events(&[0]).events(&[4]).events(&[1]);
    across
        .events(&[2, 3])
        .breaks(Property::Ordered, "comes too late");
}

#[test]
fn an_event_that_comes_twice_is_found() {
    let twice = watched().events(&[0, 1]).events(&[1, 2, 3]);
    twice.breaks(Property::Unique, "told before");
    watched()
        .events(&[0, 0])
        .breaks(Property::Unique, "told before");
}

#[test]
fn a_split_revision_is_found() {
    let split = watched().events(&[0, 1, 2]).events(&[3]).events(&[4]);
    split.breaks(Property::Atomic, "another response");
    let lost = watched().events(&[0, 1, 2]).events(&[4]);
    lost.breaks(Property::Atomic, "passed over");
}

#[test]
fn a_gap_is_found() {
    watched()
        .events(&[0])
        .events(&[2, 3])
        .breaks(Property::Reliable, "passed over");
    let short = watched().events(&[0]).line(Line::Quiet);
    short.breaks(Property::Reliable, "lacks 6 events up to 7");
}

#[test]
fn an_event_that_was_never_written_or_is_another_is_found() {
    let mut made_up = watched().response_with(&[0]);
    made_up.events[0].kv.key = "x".into();
    watched()
        .tell(made_up)
        .breaks(Property::Reliable, "never written");
    let mut changed = watched().response_with(&[0]);
    changed.events[0].kv.value = "x".into();
    watched()
        .tell(changed)
        .breaks(Property::Reliable, "ought to be");
}

#[test]
fn a_watch_that_does_not_begin_at_its_start_is_found() {
    watched()
        .events(&[1])
        .breaks(Property::Resumable, "passed over");
    let early = Script::written().watch(from(3), 7).events(&[0]);
    early.breaks(Property::Resumable, "before the start");
    let old = Script::written().watch(from(0), 7).events(&[6]);
    old.breaks(Property::Resumable, "before the start");
}

#[test]
fn progress_that_overtakes_or_goes_back_is_found() {
    let overtakes = watched().events(&[0]).progress(-1, 3).events(&[1]);
    overtakes.breaks(Property::Bookmarkable, "overtakes 1");
    let back = watched().events(&[0, 1]).progress(0, 3).progress(0, 2);
    back.breaks(Property::Bookmarkable, "goes back");
    let behind = watched().events(&[0, 1]).progress(0, 2);
    behind.breaks(Property::Bookmarkable, "goes back");
    let created = Script::written().watch(from(0), 7).progress(-1, 6);
    created.breaks(Property::Bookmarkable, "progress 6 goes back");
}

#[test]
fn a_wrong_previous_value_is_found_and_a_compacted_one_is_not_asked_for() {
    let create = Create {
        prev_kv: true,
        ..from(5)
    };
    // The delete at 5 has to carry what it deleted, unless that may be compacted.
    let script = Script::written();
    let watched = |script: Script| script.watch(create.clone(), 7).events(&[4]);
    watched(script.clone()).breaks(Property::PrevKv, "wrong previous value");
    watched(script.clone().compacted(4)).breaks(Property::PrevKv, "wrong previous value");
    watched(script.compacted(5)).passes();
    let mut unasked = self::watched().response_with(&[0]);
    unasked.events[0].prev_kv = Some(unasked.events[0].kv.clone());
    self::watched()
        .tell(unasked)
        .breaks(Property::PrevKv, "wrong previous value");
}

#[test]
fn a_wrong_create_is_found() {
    let watched = || Script::written().watch(from(7), 7);
    let mut create = watched().response_with(&[6]);
    create.events[0].kv.create_revision = 7;
    watched()
        .tell(create)
        .breaks(Property::IsCreate, "ought to be");
}

#[test]
fn an_event_that_was_not_asked_for_is_found() {
    let narrow = |no_put: bool| Create {
        range: single("a"),
        no_put,
        ..from(2)
    };
    let script = Script::written().watch(narrow(false), 7).events(&[0]);
    script
        .events(&[1])
        .breaks(Property::Filter, "not asked for");
    let script = Script::written().watch(narrow(true), 7).events(&[4]);
    script
        .events(&[5])
        .breaks(Property::Filter, "not asked for");
}

#[test]
fn an_event_that_a_restart_took_back_is_found() {
    let mut script = Script::new(Server::Vigil);
    script.begin(put("a", "1"));
    let mut script = script.watch(from(2), 1);
    let seen = script.response_with_put("a", "1", 2);
    script = script.tell(seen).line(Line::Restart);
    script.clone().passes();
    script.call(put("a", "2"), done(2, of_put()));
    script.breaks(Property::Durable, "before the restart");
}

#[test]
fn responses_for_a_watch_that_is_over_or_not_there_are_found() {
    Script::written()
        .events(&[0])
        .breaks(Property::Protocol, "no live watch 0");
    let canceled = Response {
        canceled: true,
        ..response(0, 7)
    };
    let over = watched().tell(canceled).events(&[0]);
    over.breaks(Property::Protocol, "no live watch 0");
    let twice = watched().watch(from(1), 7).events(&[0]);
    twice.breaks(Property::Protocol, "created twice");
    let other = Create {
        watch_id: 5,
        ..from(1)
    };
    Script::written()
        .watch(other, 7)
        .breaks(Property::Protocol, "5 was asked for");
    let mut stranger = response(0, 7);
    stranger.ids = Some((2, 2));
    watched()
        .tell(stranger)
        .breaks(Property::Protocol, "another cluster");
}

#[test]
fn headers_that_are_wrong_are_found() {
    let mut late = watched().response_with(&[0]);
    late.revision = Some(7);
    watched()
        .tell(late.clone())
        .breaks(Property::Protocol, "not that of the last");
    let mut script = watched();
    script.lines[0] = Line::Begin {
        server: Server::Etcd,
    };
    script.clone().tell(late.clone()).passes();
    late.revision = Some(1);
    script
        .tell(late)
        .breaks(Property::Protocol, "before the last event");
    let future = Script::written().watch(from(9), 7).progress(0, 7);
    future.breaks(Property::Protocol, "before the start");
}

#[test]
fn a_compaction_that_was_not_due_is_found() {
    let compacted = |compact_revision: i64, revision: i64| Response {
        canceled: true,
        compact_revision,
        ..response(0, revision)
    };
    let script = || Script::written().compacted(4).watch(from(1), 7);
    script().tell(compacted(4, 0)).line(Line::Quiet).passes();
    script()
        .tell(compacted(5, 0))
        .breaks(Property::Protocol, "nobody compacted at 5");
    script()
        .tell(compacted(4, 7))
        .breaks(Property::Protocol, "without a revision");
    let late = script().events(&[0, 1, 2, 3]).tell(compacted(4, 0));
    late.breaks(Property::Protocol, "owed from 5 on");
}

#[test]
fn fragments_that_do_not_belong_together_are_found() {
    let create = Create {
        fragment: true,
        ..from(1)
    };
    let script = || Script::written().watch(create.clone(), 7);
    let piece = |places: &[usize], fragment: bool| Response {
        fragment,
        revision: Some(4),
        ..script().response_with(places)
    };
    let whole = script()
        .tell(piece(&[0, 1, 2], true))
        .tell(piece(&[3], false));
    whole.passes();
    let between = script().tell(piece(&[0], true)).progress(-1, 1);
    between.breaks(Property::Protocol, "not the next fragment");
    let unasked = watched().tell(piece(&[0], true));
    unasked.breaks(Property::Protocol, "did not ask for them");
}

#[test]
fn a_server_whose_created_is_late_may_tell_of_what_came_before_it() {
    let mut script = Script::written();
    script.lines[0] = Line::Begin {
        server: Server::Etcd,
    };
    let script = script.watch(from(0), 7);
    script.clone().events(&[5]).events(&[6]).passes();
    script
        .events(&[4])
        .events(&[6])
        .breaks(Property::Reliable, "passed over");
}

#[test]
fn a_stream_that_has_ended_owes_nothing() {
    let script = watched().events(&[0]).line(Line::Ended { stream: 1 });
    script.line(Line::Quiet).passes();
    let mut fresh = Script::new(Server::Vigil);
    fresh.call(
        delete("a"),
        done(
            1,
            Answer::Delete {
                deleted: 0,
                prev_kvs: Vec::new(),
            },
        ),
    );
    let ask = Ask::Create(Create {
        range: everything(),
        ..Create::default()
    });
    fresh
        .line(Line::Ask { stream: 1, ask })
        .line(Line::Quiet)
        .passes();
}

#[test]
fn a_request_whose_outcome_nobody_knows_may_be_seen_by_a_watch_or_not() {
    let lost = || Outcome::Unknown {
        why: "the connection broke".to_owned(),
    };
    let mut script = Script::written();
    script.call(put("b", "x"), lost());
    script.call(put("b", "y"), lost());
    let watched = script.watch(from(8), 7);
    watched.clone().line(Line::Quiet).passes();
    let seen = watched.response_with_put("b", "y", 8);
    assert_eq!(seen.events[0].kind, Kind::Put);
    let mut seen = seen;
    seen.events[0].kv.version = 2;
    seen.events[0].kv.create_revision = 3;
    watched
        .clone()
        .tell(seen.clone())
        .line(Line::Quiet)
        .passes();
    seen.events[0].kv.value = "z".into();
    let verdict = watched.tell(seen).verdict();
    assert!(!verdict.holds(), "nobody wrote that");
}

/// Two puts whose outcome nobody knows, one of which made revision 8: what a watch was told later, and what it was not
/// told, says which.
#[test]
fn what_a_watch_was_not_told_says_which_request_it_was() {
    let lost = || Outcome::Unknown {
        why: "the connection broke".to_owned(),
    };
    for (first, second) in [("a", "b"), ("b", "a")] {
        let mut script = Script::written();
        script.call(put(first, "x"), lost());
        script.call(put(second, "x"), lost());
        script.call(put("c", "y"), done(9, of_put()));
        let narrow = |key: &'static str| Create {
            range: single(key),
            ..from(8)
        };
        // A watch of `a` is told nothing up to 9, so it was the put of `b`.
        let watched = script.clone().watch(narrow("a"), 9).progress(0, 9);
        watched.clone().passes();
        let told = watched.response_with_put("b", "x", 8);
        let mut both = watched.line(Line::Ask {
            stream: 2,
            ask: Ask::Create(narrow("b")),
        });
        let created = Response {
            created: true,
            ..response(0, 9)
        };
        let told = Response {
            events: vec![record::Event {
                kv: super::script::kv("b", "x", (3, 8, 2)),
                ..told.events[0].clone()
            }],
            ..told
        };
        for response in [created, told, response(0, 9)] {
            both = both.line(Line::Told {
                stream: 2,
                response,
            });
        }
        both.clone().passes();
        // Neither of them cannot be.
        let neither = both.lines.len() - 2;
        both.lines.remove(neither);
        assert!(!both.verdict().holds(), "somebody made revision 8");
    }
}

#[test]
fn a_previous_value_says_which_request_it_was() {
    let lost = || Outcome::Unknown {
        why: "the connection broke".to_owned(),
    };
    let mut script = Script::written();
    for value in ["x", "y", "z"] {
        script.call(put("b", value), lost());
    }
    script.call(put("b", "w"), done(9, of_put()));
    let create = Create {
        prev_kv: true,
        ..from(9)
    };
    let script = script.watch(create, 9);
    for (value, version) in [("x", 2), ("y", 2), ("z", 2)] {
        let mut told = script.response_with_put("b", "w", 9);
        told.events[0].kv = super::script::kv("b", "w", (3, 9, 3));
        let before = super::script::kv("b", value, (3, 8, version));
        told.events[0].prev_kv = Some(before);
        script.clone().tell(told).passes();
    }
}

#[test]
fn a_watch_that_is_cancelled_unasked_is_found() {
    let cancelled = || Response {
        canceled: true,
        ..response(0, 7)
    };
    watched()
        .tell(cancelled())
        .breaks(Property::Protocol, "nobody asked");
    let ask = Ask::Cancel { watch_id: 0 };
    watched()
        .line(Line::Ask { stream: 1, ask })
        .tell(cancelled())
        .passes();
}

#[test]
fn a_stream_that_ends_without_trouble_is_found() {
    let broken = || Line::Broken {
        stream: 1,
        why: "enough".to_owned(),
    };
    let trouble = || watched().line(Line::Trouble);
    trouble().line(broken()).passes();
    watched()
        .line(broken())
        .breaks(Property::Protocol, "nothing explains it: enough");
    for over in [Line::Restart, Line::Quiet] {
        let all = trouble().events(&[0, 1, 2, 3, 4, 5, 6]).line(over);
        let ended = all.line(broken());
        ended.breaks(Property::Protocol, "nothing explains it");
    }
}

#[test]
fn a_watch_that_is_created_before_what_was_answered_is_found() {
    Script::written()
        .watch(from(0), 6)
        .breaks(Property::Protocol, "7 was answered before");
}

#[test]
fn what_is_owed_while_all_are_quiet_is_found_and_what_comes_later_is_not_asked_for() {
    let all = || watched().events(&[0, 1, 2, 3, 4, 5, 6]);
    let mut later = all().line(Line::Quiet);
    later.call(put("c", "later"), done(8, of_put()));
    later.passes();
    let mut late = watched().events(&[0]).line(Line::Quiet);
    late.call(put("c", "later"), done(8, of_put()));
    late.breaks(Property::Reliable, "lacks 6 events up to 7");
}
