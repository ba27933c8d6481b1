//! Which watchers a put reaches: all of them where they watch one key, and a part of them where their ranges are in each other.
//!
//! It counts exactly, so that an event that is missing or one too many shows. It speaks to nobody.

use super::args::FanoutLoad;
use super::fill::{EVERYTHING, key};
use super::listeners::watch_of;
use crate::api::pb::etcdserverpb::WatchCreateRequest;

/// How many keys are put to where ranges are in each other.
const KEYS: usize = 100;
/// How many of them are in one prefix: those that differ in the last digit alone.
const KEYS_PER_PREFIX: usize = 10;
/// Of so many watchers, this many are of everything, and this many of a prefix; the others are of a key.
const WATCHERS: usize = 20;
const OF_EVERYTHING: usize = 1;
const OF_PREFIXES: usize = 5;
/// So many watchers in a row are of the same range. It has no divisor in common with numbers of streams that people choose, so
/// each stream has watchers of many ranges.
const ROW: usize = 13;

/// What a watcher watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Everything,
    Prefix(usize),
    Key(usize),
}

/// The ranges of all watchers.
#[derive(Debug)]
pub(super) struct Reach {
    watchers: usize,
    is_nested: bool,
    /// How many watchers a put reaches, by the number of its key.
    due: Vec<u64>,
}

impl Reach {
    /// That of a load's watchers.
    pub(super) fn of(load: &FanoutLoad) -> Self {
        let mut reach = Self {
            watchers: load.watchers,
            is_nested: load.nested,
            due: Vec::new(),
        };
        let keys = if load.nested { KEYS } else { 1 };
        let due = (0..keys).map(|key| {
            let reached = (0..load.watchers).filter(|&watcher| reach.range(watcher).has(key));
            reached.count() as u64
        });
        reach.due = due.collect();
        reach
    }

    /// The watch of the watcher with this number.
    pub(super) fn create(&self, watcher: usize) -> WatchCreateRequest {
        match self.range(watcher) {
            Range::Everything => watch_of(EVERYTHING.0, EVERYTHING.1, 0),
            Range::Key(number) => watch_of(&key(number), "", 0),
            Range::Prefix(number) => {
                let mut prefix = key(number * KEYS_PER_PREFIX);
                let digit = prefix.pop();
                debug_assert_eq!(digit, Some('0'), "the first of its keys");
                let mut end = prefix.clone();
                // Digits follow each other, and behind the last comes one that is none.
                let last = end.pop().map_or('0', |last| char::from(last as u8 + 1));
                end.push(last);
                watch_of(&prefix, &end, 0)
            }
        }
    }

    /// The key of a put, and how many watchers it reaches; the keys take turns.
    pub(super) fn put(&self, turn: u64) -> (String, u64) {
        let number = turn as usize % self.due.len();
        let due = self.due.get(number).copied().unwrap_or_default();
        (key(number), due)
    }

    fn range(&self, watcher: usize) -> Range {
        if !self.is_nested {
            return Range::Key(0);
        }
        let everything = (self.watchers * OF_EVERYTHING).div_ceil(WATCHERS);
        let prefixes = everything + self.watchers * OF_PREFIXES / WATCHERS;
        match watcher {
            watcher if watcher < everything => Range::Everything,
            watcher if watcher < prefixes => {
                Range::Prefix(watcher / ROW % (KEYS / KEYS_PER_PREFIX))
            }
            watcher => Range::Key(watcher / ROW % KEYS),
        }
    }
}

impl Range {
    fn has(self, key: usize) -> bool {
        match self {
            Self::Everything => true,
            Self::Prefix(prefix) => key / KEYS_PER_PREFIX == prefix,
            Self::Key(number) => key == number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::Pace;
    use super::*;

    fn load(watchers: usize, nested: bool) -> FanoutLoad {
        FanoutLoad {
            watchers,
            nested,
            streams: 1,
            pace: Pace::PingPong,
            ahead: 1,
            rate: 1,
            writers: 1,
        }
    }

    /// Whether a watch is of a key, by the bytes that the server is told.
    fn is_told(create: &WatchCreateRequest, key: &str) -> bool {
        match &*create.range_end {
            [] => create.key == key,
            end => *create.key <= *key.as_bytes() && key.as_bytes() < end,
        }
    }

    #[test]
    fn as_many_events_are_due_as_watches_are_of_the_key() {
        for watchers in [1, 2, 19, 20, 1000, 10_000] {
            for nested in [false, true] {
                let reach = Reach::of(&load(watchers, nested));
                let creates: Vec<_> = (0..watchers).map(|number| reach.create(number)).collect();
                for turn in 0..200 {
                    let (key, due) = reach.put(turn);
                    let told = creates.iter().filter(|create| is_told(create, &key));
                    assert_eq!(due, told.count() as u64, "{watchers} {nested} {key}");
                }
            }
        }
    }

    #[test]
    fn a_put_to_one_key_reaches_everybody_and_one_to_nested_ranges_some_of_each_depth() {
        let (_, due) = Reach::of(&load(1000, false)).put(7);
        assert_eq!(due, 1000);
        let reach = Reach::of(&load(10_000, true));
        for number in 0..KEYS {
            let of = |range| {
                let all = 0..10_000;
                all.filter(|&watcher| reach.range(watcher) == range).count()
            };
            assert_eq!(of(Range::Everything), 500);
            assert!((240..=260).contains(&of(Range::Prefix(number / 10))));
            assert!((65..=78).contains(&of(Range::Key(number))));
        }
        let everybody = (0..KEYS as u64).map(|turn| reach.put(turn).1).sum::<u64>();
        assert_eq!(everybody, 500 * 100 + 2500 * 10 + 7000);
    }

    #[test]
    fn each_stream_has_watchers_of_many_ranges() {
        let reach = Reach::of(&load(10_000, true));
        for streams in [10, 100] {
            for stream in 0..streams {
                let watchers = (stream..10_000).step_by(streams);
                let ranges = watchers.map(|watcher| reach.create(watcher).key);
                let different: std::collections::HashSet<_> = ranges.collect();
                // Of 100 watchers on one of 100 streams: everything, ten prefixes, thirteen keys.
                assert!(different.len() >= 24, "stream {stream} of {streams}");
            }
        }
    }
}
