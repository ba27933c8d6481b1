//! Faults of the KV service, each alone.

use super::script::{Script, delete, done, from, kv, of_put, of_range, put, read};
use super::validator::answers::single;
use super::validator::record::{
    Answer, Compare, Kv, Line, OpAnswer, Outcome, Relation, Request, Server, Target,
};
use super::validator::verdict::Property;

fn state_at_7() -> Answer {
    of_range(vec![
        kv("a", "6", (6, 7, 2)),
        kv("b", "2", (3, 3, 1)),
        kv("c", "3", (4, 4, 1)),
        kv("d", "4", (4, 4, 1)),
    ])
}

fn state_at_2() -> Answer {
    of_range(vec![kv("a", "1", (2, 2, 1))])
}

fn with(request: Request, outcome: Outcome) -> Script {
    let mut script = Script::written();
    script.call(request, outcome);
    script
}

fn unknown() -> Outcome {
    Outcome::Unknown {
        why: "the connection broke".to_owned(),
    }
}

#[test]
fn reads_of_now_and_of_the_past_pass() {
    let mut script = with(read(0), done(7, state_at_7()));
    script.call(read(2), done(7, state_at_2()));
    script.call(read(8), Outcome::Future);
    let count = Request::Range {
        range: super::script::everything(),
        revision: 0,
        limit: 1,
        keys_only: false,
        count_only: true,
    };
    let counted = Answer::Range {
        kvs: Vec::new(),
        more: false,
        count: 4,
    };
    script.call(count, done(7, counted));
    script.passes();
    let mut script = script.compacted(3);
    script.call(read(2), Outcome::Compacted);
    script.passes();
}

/// Revisions 2 and 3 put a and b with a lease, and then both are gone, or only one of them.
fn leased(both_are_gone: bool) -> Script {
    let mut script = Script::new(Server::Vigil);
    script.begin(Request::LeaseEnd { lease: 9 });
    for (key, revision) in [("a", 2), ("b", 3)] {
        let put = Request::Put {
            key: key.into(),
            value: "v".into(),
            lease: 9,
            prev_kv: false,
        };
        script.call(put, done(revision, of_put()));
    }
    script.call(put("c", "stays"), done(4, of_put()));
    let mut left = vec![kv("c", "stays", (4, 4, 1))];
    if !both_are_gone {
        let b = Kv {
            lease: 9,
            ..kv("b", "v", (3, 3, 1))
        };
        left.insert(0, b);
    }
    script.call(read(0), done(5, of_range(left)));
    script
}

#[test]
fn a_lease_ends_by_itself_and_takes_all_its_keys() {
    leased(true).passes();
    leased(false).breaks(Property::Sequential, "answered");
}

/// The same, and a client has asked for the end of the lease and was answered before anybody read.
fn revoked(at: i64, both_are_gone: bool) -> Script {
    let mut script = leased(both_are_gone);
    let read = script.lines.split_off(script.lines.len() - 2);
    script.end(0, done(at, Answer::LeaseEnd));
    script.lines.extend(read);
    script
}

#[test]
fn a_lease_that_was_revoked_has_no_keys_from_then_on() {
    revoked(5, true).passes();
    // It was over before: nobody is told since when.
    let mut late = leased(true);
    late.call(put("d", "later"), done(6, of_put()));
    late.end(0, done(6, Answer::LeaseEnd));
    late.passes();
    revoked(4, true).breaks(Property::Sequential, "lease 9 is over at 4");
    revoked(5, false).breaks(Property::Sequential, "answered");
    let mut kept = Script::new(Server::Vigil);
    let end = kept.begin(Request::LeaseEnd { lease: 9 });
    let put = Request::Put {
        key: "a".into(),
        value: "v".into(),
        lease: 9,
        prev_kv: false,
    };
    kept.call(put, done(2, of_put()));
    kept.end(end, done(2, Answer::LeaseEnd));
    kept.breaks(Property::Sequential, "lease 9 is over at 2");
}

fn stale(read: Request) -> Request {
    let read = Box::new(read);
    Request::Stale { read }
}

#[test]
fn a_read_that_may_be_old_has_to_be_exact_at_its_revision() {
    with(stale(read(0)), done(7, state_at_7())).passes();
    with(stale(read(0)), done(2, state_at_2())).passes();
    let wrong = with(stale(read(0)), done(3, state_at_2()));
    wrong.breaks(Property::Sequential, "it is Range");
    let ahead = with(stale(read(0)), done(2, state_at_7()));
    ahead.breaks(Property::Sequential, "it is Range");
    let unheard = with(stale(read(0)), done(8, state_at_7()));
    unheard.breaks(Property::Sequential, "there cannot be a revision 8");
    // One that may not be old is found at once.
    with(read(0), done(2, state_at_2())).breaks(Property::Sequential, "7 was seen");
}

// What such a read says of how far the server was is less than what had happened.
#[test]
fn a_read_that_may_be_old_does_not_say_what_was_not_made_before() {
    let mut script = Script::new(Server::Vigil);
    script.call(put("a", "1"), done(2, of_put()));
    script.call(put("b", "2"), unknown());
    let mut script = script.line(Line::Restart);
    script.call(stale(read(0)), done(2, state_at_2()));
    let both = vec![kv("a", "1", (2, 2, 1)), kv("b", "2", (3, 3, 1))];
    script.call(read(0), done(3, of_range(both)));
    script.passes();
}

#[test]
fn an_answer_that_does_not_fit_is_found() {
    with(read(0), done(7, state_at_2())).breaks(Property::Sequential, "it is Range");
    with(read(2), done(7, state_at_7())).breaks(Property::Sequential, "it is Range");
    with(delete("x"), done(8, of_deleted(1))).breaks(Property::Sequential, "it is Delete");
    with(delete("b"), done(7, of_deleted(0))).breaks(Property::Sequential, "it is Delete");
    with(delete("b"), done(8, of_deleted(1))).passes();
}

fn of_deleted(deleted: i64) -> Answer {
    let prev_kvs = Vec::new();
    Answer::Delete { deleted, prev_kvs }
}

#[test]
fn a_revision_that_is_given_twice_or_to_nobody_is_found() {
    let mut script = Script::new(Server::Vigil);
    let (one, other) = (script.begin(put("a", "1")), script.begin(put("b", "2")));
    script.end(one, done(2, of_put()));
    let mut twice = script.clone();
    twice.end(other, done(2, of_put()));
    twice.breaks(Property::Sequential, "given to two requests");
    script.end(other, done(3, of_put()));
    script.passes();
    script.begin(put("a", "3"));
    let mut nobody = script.clone();
    nobody.call(put("c", "3"), done(5, of_put()));
    nobody.passes();
    nobody.call(delete("x"), done(6, of_deleted(0)));
    nobody.breaks(Property::Sequential, "revision 6 was made by nobody");
}

#[test]
fn a_revision_below_one_that_was_seen_is_found() {
    with(read(0), done(6, of_range(vec![]))).breaks(Property::Sequential, "7 was seen");
    let seen = with(read(7), Outcome::Future);
    seen.breaks(Property::Sequential, "in the future, and was seen");
    let mut fresh = Script::new(Server::Vigil);
    fresh.call(put("a", "1"), done(1, of_put()));
    fresh.breaks(Property::Sequential, "1 was seen before the request");
    // What overlaps may come in any order.
    let mut script = Script::new(Server::Vigil);
    let early = script.begin(read(0));
    script.call(put("a", "1"), done(2, of_put()));
    script.end(early, done(1, of_range(Vec::new())));
    script.passes();
}

#[test]
fn an_acknowledged_write_that_a_restart_lost_is_found() {
    let script = Script::written().line(Line::Restart);
    let mut kept = script.clone();
    kept.call(read(0), done(7, state_at_7()));
    kept.passes();
    let mut lost = script;
    lost.call(read(2), done(2, state_at_2()));
    lost.breaks(Property::Durable, "before the restart");
}

#[test]
fn compactions_that_do_not_fit_are_found() {
    with(read(2), Outcome::Compacted).breaks(Property::Sequential, "nobody has compacted 2");
    let mut script = Script::written().compacted(3);
    script.call(Request::Compact { revision: 3 }, Outcome::Compacted);
    script.call(
        read(3),
        done(
            7,
            of_range(vec![kv("a", "1", (2, 2, 1)), kv("b", "2", (3, 3, 1))]),
        ),
    );
    script.passes();
    script.call(read(2), done(7, state_at_2()));
    script.breaks(Property::Sequential, "it is compacted");
}

#[test]
fn an_unknown_write_is_allowed_either_way() {
    let mut script = Script::written();
    script.call(put("x", "1"), unknown());
    script.call(put("x", "2"), unknown());
    let mut without = script.clone();
    without.call(read(0), done(7, state_at_7()));
    without.passes();
    // Which of the two it was shows only in what is read later.
    script.call(put("y", "1"), done(9, of_put()));
    for value in ["1", "2"] {
        let mut with = script.clone();
        let x = of_range(vec![kv("x", value, (8, 8, 1))]);
        let one = Request::Range {
            range: single("x"),
            revision: 0,
            limit: 0,
            keys_only: false,
            count_only: false,
        };
        with.call(one, done(9, x));
        with.passes();
    }
    script.call(read(0), done(9, state_at_7()));
    script.breaks(Property::Sequential, "it is Range");
}

#[test]
fn conditions_and_the_answers_of_operations_are_checked() {
    let txn = |version: i64| Request::Txn {
        compares: vec![Compare {
            range: single("a"),
            relation: Relation::Equal,
            target: Target::Version(version),
        }],
        success: vec![read(0), put("a", "7"), delete("b")],
        failure: vec![read(2)],
    };
    let op = |revision: i64, answer: Answer| OpAnswer { revision, answer };
    let succeeded = |first: i64| Answer::Txn {
        succeeded: true,
        responses: vec![
            op(first, state_at_7()),
            op(8, of_put()),
            op(8, of_deleted(1)),
        ],
    };
    let failed = || Answer::Txn {
        succeeded: false,
        responses: vec![op(7, state_at_2())],
    };
    with(txn(2), done(8, succeeded(7))).passes();
    with(txn(3), done(7, failed())).passes();
    with(txn(3), done(8, succeeded(7))).breaks(Property::Sequential, "it is Txn");
    with(txn(2), done(7, failed())).breaks(Property::Sequential, "it is Txn");
    with(txn(2), done(8, succeeded(8))).breaks(Property::Sequential, "it is Txn");
}

/// Ten puts that a restart has cut off, and ten behind it: only the later ones can have made what is seen then. Too many to
/// try which of them it was.
#[test]
fn what_a_restart_has_cut_off_makes_nothing_any_more() {
    let lost = || Outcome::Unknown {
        why: "the connection broke".to_owned(),
    };
    let mut script = Script::written();
    for _ in 0..10 {
        script.call(put("k", "x"), lost());
    }
    let mut script = script.line(Line::Restart);
    let answer = Answer::Delete {
        deleted: 0,
        prev_kvs: Vec::new(),
    };
    script.call(delete("nothing"), done(7, answer));
    let mut script = script.watch(from(8), 7).line(Line::Quiet);
    for _ in 0..10 {
        script.call(put("k", "x"), lost());
    }
    for (version, revision) in (1..).zip(8..18) {
        let mut seen = script.response_with_put("k", "x", revision);
        seen.events[0].kv.version = version;
        seen.events[0].kv.create_revision = 8;
        script = script.tell(seen);
    }
    script.line(Line::Quiet).passes();
}
