//! Records in few words: seven revisions, a watch of them, and whatever a test changes.
//!
//! Only shapes; the judging is the validator's.

use super::validator::answers::single;
use super::validator::history::History;
use super::validator::record::{
    Answer, Ask, Create, Event, Kv, Line, Outcome, Range, Request, Response, Server,
};
use super::validator::verdict::{Property, Verdict};
use super::validator::{history_of, judge};
use std::collections::BTreeSet;

/// A record that grows.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) lines: Vec<Line>,
    next_call: u64,
}

pub(crate) fn everything() -> Range {
    Range {
        key: "\0".into(),
        end: "\0".into(),
    }
}

pub(crate) fn from(start_revision: i64) -> Create {
    Create {
        range: everything(),
        start_revision,
        ..Create::default()
    }
}

pub(crate) fn put(key: &str, value: &str) -> Request {
    Request::Put {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease: 0,
        prev_kv: false,
    }
}

pub(crate) fn delete(key: &str) -> Request {
    Request::Delete {
        range: single(key.to_owned()),
        prev_kv: false,
    }
}

pub(crate) fn read(revision: i64) -> Request {
    Request::Range {
        range: everything(),
        revision,
        limit: 0,
        keys_only: false,
        count_only: false,
    }
}

pub(crate) fn done(revision: i64, answer: Answer) -> Outcome {
    Outcome::Done { revision, answer }
}

pub(crate) fn of_put() -> Answer {
    Answer::Put { prev_kv: None }
}

pub(crate) fn kv(key: &str, value: &str, numbers: (i64, i64, i64)) -> Kv {
    let (create_revision, mod_revision, version) = numbers;
    Kv {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        create_revision,
        mod_revision,
        version,
        lease: 0,
    }
}

pub(crate) fn of_range(kvs: Vec<Kv>) -> Answer {
    Answer::Range {
        count: i64::try_from(kvs.len()).expect("few"),
        more: false,
        kvs,
    }
}

impl Script {
    pub(crate) fn new(server: Server) -> Self {
        Self {
            lines: vec![Line::Begin { server }],
            next_call: 0,
        }
    }

    /// Revisions 2 to 7: put a, put b, both of c and d, delete a, put a, put a.
    pub(crate) fn written() -> Self {
        let mut script = Self::new(Server::Vigil);
        script.call(put("a", "1"), done(2, of_put()));
        script.call(put("b", "2"), done(3, of_put()));
        let both = Request::Txn {
            compares: Vec::new(),
            success: vec![put("c", "3"), put("d", "4")],
            failure: Vec::new(),
        };
        let of_op = || super::validator::record::OpAnswer {
            revision: 4,
            answer: of_put(),
        };
        let answer = Answer::Txn {
            succeeded: true,
            responses: vec![of_op(), of_op()],
        };
        script.call(both, done(4, answer));
        let answer = Answer::Delete {
            deleted: 1,
            prev_kvs: Vec::new(),
        };
        script.call(delete("a"), done(5, answer));
        script.call(put("a", "5"), done(6, of_put()));
        script.call(put("a", "6"), done(7, of_put()));
        script
    }

    /// A request, not answered; gives its number.
    pub(crate) fn begin(&mut self, request: Request) -> u64 {
        let call = self.next_call;
        self.next_call += 1;
        self.lines.push(Line::Call { call, request });
        call
    }

    pub(crate) fn end(&mut self, call: u64, outcome: Outcome) {
        self.lines.push(Line::Return { call, outcome });
    }

    pub(crate) fn call(&mut self, request: Request, outcome: Outcome) {
        let call = self.begin(request);
        self.end(call, outcome);
    }

    pub(crate) fn compacted(mut self, revision: i64) -> Self {
        self.call(Request::Compact { revision }, done(7, Answer::Compact));
        self
    }

    pub(crate) fn line(mut self, line: Line) -> Self {
        self.lines.push(line);
        self
    }

    /// A watch that is created at a revision.
    pub(crate) fn watch(mut self, create: Create, created: i64) -> Self {
        let ask = Ask::Create(create);
        self.lines.push(Line::Ask { stream: 1, ask });
        self.tell(Response {
            created: true,
            ..response(0, created)
        })
    }

    pub(crate) fn tell(self, response: Response) -> Self {
        self.line(Line::Told {
            stream: 1,
            response,
        })
    }

    /// A response with the events at these places of the history.
    pub(crate) fn events(self, places: &[usize]) -> Self {
        let response = self.response_with(places);
        self.tell(response)
    }

    pub(crate) fn response_with(&self, places: &[usize]) -> Response {
        let history: History = history_of(&self.lines);
        let event = |place: &usize| Event {
            prev_kv: None,
            ..history.at(*place).expect("an event").clone()
        };
        let events: Vec<Event> = places.iter().map(event).collect();
        let last = events.last().expect("an event").kv.mod_revision;
        Response {
            events,
            ..response(0, last)
        }
    }

    pub(crate) fn progress(self, watch_id: i64, revision: i64) -> Self {
        self.tell(response(watch_id, revision))
    }

    pub(crate) fn verdict(&self) -> Verdict {
        judge(&self.lines)
    }

    pub(crate) fn passes(&self) {
        let verdict = self.verdict();
        assert!(verdict.holds(), "{:#?}", verdict.faults);
    }

    /// Exactly this property is broken, and the fault is said in these words.
    pub(crate) fn breaks(&self, property: Property, said: &str) {
        let verdict = self.verdict();
        let faults = verdict.faults;
        let broken: BTreeSet<Property> = faults.iter().map(|fault| fault.property).collect();
        assert_eq!(broken, BTreeSet::from([property]), "{faults:#?}");
        let is_said = faults.iter().any(|fault| fault.what.contains(said));
        assert!(is_said, "{said:?} is not in {faults:#?}");
    }
}

pub(crate) fn response(watch_id: i64, revision: i64) -> Response {
    Response {
        watch_id,
        revision: Some(revision),
        ids: Some((1, 1)),
        ..Response::default()
    }
}

impl Script {
    /// A response with one put, as it is.
    pub(crate) fn response_with_put(&self, key: &str, value: &str, revision: i64) -> Response {
        let event = Event {
            kind: super::validator::record::Kind::Put,
            kv: kv(key, value, (revision, revision, 1)),
            prev_kv: None,
        };
        Response {
            events: vec![event],
            ..response(0, revision)
        }
    }
}
