//! What clients ask for in a simulation: writes, transactions in transactions, reads, compactions and watches.
//!
//! Few keys, so that everything that is asked for meets everything else.

use super::convert;
use super::reached::Reached;
use super::steps::Simulation;
use super::validator::answers::single;
use super::validator::record::{Compare, Create, Outcome, Range, Relation, Request, Target};
use crate::model::Revision;

const KEYS: usize = 4;

fn range(key: &str, end: &str) -> Range {
    let (key, end) = (key.to_owned().into(), end.to_owned().into());
    Range { key, end }
}

impl Simulation {
    fn key(&mut self) -> String {
        format!("k{}", self.chance.below(KEYS))
    }

    fn put(&mut self, key: String) -> Request {
        self.written += 1;
        let long = if self.chance.once_in(8) { 150 } else { 0 };
        Request::Put {
            key: key.into(),
            value: format!("v{}{}", self.written, ".".repeat(long)).into(),
            lease: self.lease_of_put(),
            prev_kv: self.chance.once_in(4),
        }
    }

    fn delete(&mut self, range: Range) -> Request {
        let prev_kv = self.chance.once_in(4);
        Request::Delete { range, prev_kv }
    }

    pub(super) fn write(&mut self) {
        let key = self.key();
        let request = match self.chance.below(10) {
            0..5 => self.put(key),
            5 => self.delete(single(key)),
            6 => self.delete(range("k", "l")),
            7 => self.compare_and_swap(key),
            8 => self.nested(key),
            _ => {
                let puts = (0..2 + self.chance.below(KEYS - 1)).map(|key| format!("k{key}"));
                let puts: Vec<String> = puts.collect();
                Request::Txn {
                    compares: Vec::new(),
                    success: puts.into_iter().map(|key| self.put(key)).collect(),
                    failure: Vec::new(),
                }
            }
        };
        let engine = self.machine.engine.clone();
        let (recorder, call) = (self.recorder.clone(), self.recorder.call(&request));
        let Some(write) = convert::write(&request) else {
            return;
        };
        let has_quota = self.machine.has_quota();
        self.calls.push(actix::spawn(async move {
            let outcome = convert::of_write(engine.write(write).await);
            if !has_quota && matches!(&outcome, Outcome::Refused { why } if why.contains("space")) {
                recorder.reached(Reached::DiskFull, 1);
            }
            recorder.answered(call, outcome);
        }));
    }

    /// What a key may be like, or not.
    fn compare(&mut self, key: String) -> Compare {
        let near = self.machine.engine.revision().0 - self.chance.few(6);
        let target = match self.chance.below(4) {
            0 => Target::Mod(near),
            1 => Target::Create(near),
            2 => Target::Version(self.chance.few(3)),
            _ => Target::Value("v".into()),
        };
        let relation = self.chance.of(&[
            Relation::Equal,
            Relation::NotEqual,
            Relation::Less,
            Relation::Greater,
        ]);
        Compare {
            range: single(key),
            relation,
            target,
        }
    }

    /// Puts a key, and deletes and reads others, unless it is not as it was thought to be.
    fn compare_and_swap(&mut self, key: String) -> Request {
        let compare = self.compare(key.clone());
        let put = self.put(key);
        let gone = self.delete(single(format!("l{}", self.chance.clone().below(2))));
        // What cannot be read is refused when the transaction has done a part of its work.
        let is_refused = self.chance.once_in(8);
        let revision = self.machine.engine.revision().0 + 100;
        let last = self.range_request(if is_refused { revision } else { 0 });
        Request::Txn {
            compares: vec![compare],
            success: vec![self.range_request(0), put, gone, last],
            failure: vec![self.range_request(0)],
        }
    }

    /// A transaction in a transaction, whose conditions look at what was there before both.
    fn nested(&mut self, key: String) -> Request {
        let other = self.key();
        let compare = self.compare(other);
        let before = self.put(format!("n{}", self.chance.clone().below(2)));
        let swap = self.compare_and_swap(key.clone());
        let otherwise = self.delete(single(key));
        let inner = Request::Txn {
            compares: Vec::new(),
            success: vec![otherwise, self.range_request(0)],
            failure: Vec::new(),
        };
        Request::Txn {
            compares: vec![compare],
            success: vec![before, swap, self.range_request(0)],
            failure: vec![inner],
        }
    }

    fn range_request(&mut self, revision: i64) -> Request {
        let key = self.key();
        Request::Range {
            range: match self.chance.below(3) {
                0 => single(key),
                1 => range("k", "l"),
                _ => range("\0", "\0"),
            },
            revision,
            limit: self.chance.of(&[0, 0, 1, 2]),
            keys_only: self.chance.once_in(4),
            count_only: self.chance.once_in(4),
        }
    }

    pub(super) fn range(&mut self) {
        let current = self.machine.engine.revision().0;
        let revision = match self.chance.below(3) {
            0 => 0,
            1 => current + 1 - self.chance.few(4),
            _ => 1 + self.chance.few(current),
        };
        let request = self.range_request(revision);
        let Some(query) = convert::query(&request) else {
            return;
        };
        let engine = self.machine.engine.clone();
        let (recorder, call) = (self.recorder.clone(), self.recorder.call(&request));
        self.calls.push(actix::spawn(async move {
            let answer = engine.range(query).await;
            recorder.answered(call, convert::of_range(answer));
        }));
    }

    pub(super) fn compact(&mut self) {
        let current = self.machine.engine.revision().0;
        if self.chance.once_in(2) || current < 4 {
            return;
        }
        let span = self.chance.of(&[current / 2, 4, 20]).min(current - 1);
        let revision = current - self.chance.few(span);
        let physical = self.chance.once_in(2);
        let engine = self.machine.engine.clone();
        let call = self.recorder.call(&Request::Compact { revision });
        let recorder = self.recorder.clone();
        self.calls.push(actix::spawn(async move {
            let answer = engine.compact(Revision(revision), physical).await;
            recorder.answered(call, convert::of_compact(answer));
        }));
    }

    /// A watch that starts anywhere: now, in the past, in what is compacted, in the future.
    pub(super) fn new_watch(&mut self) -> Create {
        let key = self.key();
        let range = match self.chance.below(5) {
            0 | 1 => single(key),
            2 => range("k1", "k3"),
            _ => range("\0", "\0"),
        };
        let current = self.machine.engine.revision().0;
        let start_revision = match self.chance.below(6) {
            0 | 1 => 0,
            2 => current + self.chance.few(4),
            3 => 1,
            4 => current - self.chance.few(current),
            _ => (current - self.chance.few(8)).max(1),
        };
        Create {
            watch_id: self.chance.of(&[0, 0, 0, 1, 2, 77, -1]),
            range,
            start_revision,
            no_put: self.chance.once_in(6),
            no_delete: self.chance.once_in(6),
            prev_kv: self.chance.once_in(2),
            fragment: self.chance.once_in(3),
        }
    }
}
