//! What the edge has counted since the server started, on all of its workers together.
//!
//! Counting never waits and never fails; nobody decides anything by these numbers.

use super::pb::DESCRIPTORS;
use prost_reflect::DescriptorPool;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A gRPC call and how often it was begun.
#[derive(Debug)]
pub(crate) struct CallCount {
    pub(crate) service: String,
    pub(crate) method: String,
    /// How Prometheus' users know the kinds of calls.
    pub(crate) kind: &'static str,
    started: AtomicU64,
}

impl CallCount {
    /// How often it was begun.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }
}

/// How a check of the server's health went, all times together and last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckCount {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    pub(crate) was_well: bool,
}

/// What the edge has counted.
#[derive(Debug)]
pub struct Counts {
    calls: HashMap<String, CallCount, ahash::RandomState>,
    /// Checks by kind and name.
    checks: Mutex<BTreeMap<(&'static str, &'static str), CheckCount>>,
    /// Watches over plain HTTP that are open.
    event_streams: AtomicI64,
}

impl Counts {
    /// Nothing counted yet, of the calls that there are.
    pub fn of_our_calls() -> Self {
        // Unreadable descriptors are reported where JSON is made of them.
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap_or_default();
        let mut calls = HashMap::default();
        for service in pool.services() {
            for method in service.methods() {
                let kind = match (method.is_client_streaming(), method.is_server_streaming()) {
                    (false, false) => "unary",
                    (true, false) => "client_stream",
                    (false, true) => "server_stream",
                    (true, true) => "bidi_stream",
                };
                let path = format!("/{}/{}", service.full_name(), method.name());
                let call = CallCount {
                    service: service.full_name().to_owned(),
                    method: method.name().to_owned(),
                    kind,
                    started: AtomicU64::new(0),
                };
                calls.insert(path, call);
            }
        }
        Self {
            calls,
            checks: Mutex::default(),
            event_streams: AtomicI64::new(0),
        }
    }

    /// A call of this path has begun. Paths that are none of ours are not counted: anybody can make them up.
    pub(crate) fn call(&self, path: &str) {
        if let Some(call) = self.calls.get(path) {
            call.started.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every call there is, by service and name.
    pub(crate) fn calls(&self) -> Vec<&CallCount> {
        let mut calls: Vec<_> = self.calls.values().collect();
        calls.sort_by_key(|call| (&call.service, &call.method));
        calls
    }

    /// A check went so.
    pub(crate) fn check(&self, kind: &'static str, name: &'static str, is_well: bool) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let check = checks.entry((kind, name)).or_default();
        check.was_well = is_well;
        if is_well {
            check.successes += 1;
        } else {
            check.failures += 1;
        }
    }

    /// How each check went that was ever asked for.
    pub(crate) fn checks(&self) -> BTreeMap<(&'static str, &'static str), CheckCount> {
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A watch over plain HTTP was opened, or has ended.
    pub(crate) fn event_streams(&self, change: i64) {
        self.event_streams.fetch_add(change, Ordering::Relaxed);
    }

    /// Watches over plain HTTP that are open.
    pub(crate) fn open_event_streams(&self) -> i64 {
        self.event_streams.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_calls_are_counted_and_others_are_not() {
        let counts = Counts::of_our_calls();
        counts.call("/etcdserverpb.KV/Put");
        counts.call("/etcdserverpb.KV/Put");
        counts.call("/made.up/Call");
        let started: Vec<_> = counts
            .calls()
            .into_iter()
            .filter(|call| call.started() > 0)
            .map(|call| (call.method.as_str(), call.kind, call.started()))
            .collect();
        assert_eq!(started, [("Put", "unary", 2)]);
        assert!(counts.calls().iter().any(|it| it.kind == "bidi_stream"));
    }

    #[test]
    fn a_check_is_counted_by_how_it_went() {
        let counts = Counts::of_our_calls();
        for is_well in [true, false, true] {
            counts.check("readyz", "data_corruption", is_well);
        }
        let expected = CheckCount {
            successes: 2,
            failures: 1,
            was_well: true,
        };
        assert_eq!(counts.checks()[&("readyz", "data_corruption")], expected);
    }
}
