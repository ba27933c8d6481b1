//! A half-open range of keys, in the three shapes that the protocol's `key` and `range_end` can say.
//!
//! A range never reorders or repairs what it was given: an empty range stays empty and says so.

use bytes::Bytes;
use std::cmp::Ordering;
use std::iter::repeat_n;
use std::ops::Bound;

/// Where a range of keys ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RangeEnd {
    /// The range is the one key it starts at.
    Single,
    /// The range has no end.
    Open,
    /// The first key that is no longer in the range.
    Until(Bytes),
}

/// A range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyRange {
    /// The first key of the range.
    pub start: Bytes,
    /// Where it ends.
    pub end: RangeEnd,
}

impl KeyRange {
    /// Just this key.
    pub fn single(key: impl Into<Bytes>) -> Self {
        Self {
            start: key.into(),
            end: RangeEnd::Single,
        }
    }

    /// Every key there can be: a key is never empty, so the zero byte is the lowest.
    pub fn everything() -> Self {
        Self {
            start: Bytes::from_static(b"\0"),
            end: RangeEnd::Open,
        }
    }

    /// All keys that start with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        if start.is_empty() {
            return Self::everything();
        }
        let end = match prefix_end(&start) {
            Some(end) => RangeEnd::Until(end),
            None => RangeEnd::Open,
        };
        Self { start, end }
    }

    /// True when the range is all keys that start with `start`, and that start is not empty or all 0xff (such a prefix
    /// has no end, and the range is open).
    pub fn is_prefix(&self) -> bool {
        let RangeEnd::Until(end) = &self.end else {
            return false;
        };
        let Some((last, kept)) = end.split_last() else {
            return false;
        };
        let Some((same, rest)) = self.start.split_at_checked(kept.len()) else {
            return false;
        };
        let Some((bumped, tail)) = rest.split_first() else {
            return false;
        };
        same == kept
            && bumped.checked_add(1) == Some(*last)
            && tail.iter().all(|byte| *byte == 0xff)
    }

    /// Reads the protocol's pair: an empty `range_end` is the one key, a single zero byte is "no end", and anything
    /// else is the first key past the range.
    pub fn from_wire(key: Bytes, range_end: Bytes) -> Self {
        let end = match range_end.as_ref() {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Open,
            _ => RangeEnd::Until(range_end),
        };
        Self { start: key, end }
    }

    /// True when no key can be in the range.
    pub fn is_empty(&self) -> bool {
        match &self.end {
            RangeEnd::Single | RangeEnd::Open => false,
            RangeEnd::Until(end) => end <= &self.start,
        }
    }

    /// True when the range is exactly one key.
    pub fn is_single(&self) -> bool {
        matches!(self.end, RangeEnd::Single)
    }

    /// True when `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => self.start == key,
            RangeEnd::Open => self.start <= key,
            RangeEnd::Until(end) => self.start <= key && key < end.as_ref(),
        }
    }

    /// True when all keys of `inner` are keys of this range.
    pub fn encloses(&self, inner: &Self) -> bool {
        self.start <= inner.start && self.cmp_end(inner) != Ordering::Less
    }

    /// The narrowest range with all keys of both.
    #[must_use]
    pub fn hull(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let last = if self.cmp_end(other) == Ordering::Less {
            other
        } else {
            self
        };
        Self {
            start: self.start.clone().min(other.start.clone()),
            end: last.past().map_or(RangeEnd::Open, RangeEnd::Until),
        }
    }

    /// The narrowest range with all keys of all of them; none of none.
    pub fn hull_of<'a>(ranges: impl Iterator<Item = &'a Self> + Clone) -> Option<Self> {
        let first = ranges.clone().min_by_key(|range| &range.start)?;
        let last = ranges.max_by(|one, other| one.cmp_end(other))?;
        Some(first.hull(last))
    }

    /// The first key that is no longer in the range; `None` when it has no end.
    pub fn past(&self) -> Option<Bytes> {
        self.past_bytes().map(|bytes| bytes.copied().collect())
    }

    /// Which of the two ends later. Nothing is copied for that: there may be a million to be compared.
    pub fn cmp_end(&self, other: &Self) -> Ordering {
        match (self.past_bytes(), other.past_bytes()) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(one), Some(other)) => one.cmp(other),
        }
    }

    fn past_bytes(&self) -> Option<impl Iterator<Item = &u8>> {
        let (key, zeros) = match &self.end {
            RangeEnd::Single => (&self.start, 1),
            RangeEnd::Until(end) => (end, 0),
            RangeEnd::Open => return None,
        };
        Some(key.iter().chain(repeat_n(&0, zeros)))
    }

    /// The same range as bounds for an ordered map. Ask [`Self::is_empty`] first: an ordered map panics when the start
    /// lies behind the end.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let start = Bound::Included(self.start.as_ref());
        match &self.end {
            RangeEnd::Single => (start, Bound::Included(self.start.as_ref())),
            RangeEnd::Open => (start, Bound::Unbounded),
            RangeEnd::Until(end) => (start, Bound::Excluded(end.as_ref())),
        }
    }
}

/// The first key past all keys with this prefix, or `None` when there is none (the prefix is empty or all 0xff).
fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let keep = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix.get(..=keep)?.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(Bytes::from(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_covers_exactly_the_keys_that_start_with_it() {
        let range = KeyRange::prefix("ab");
        assert!(range.contains(b"ab") && range.contains(b"ab\xff\xff"));
        assert!(!range.contains(b"aa") && !range.contains(b"ac") && !range.contains(b"a"));
        let high = KeyRange::prefix(Bytes::from_static(b"a\xff"));
        assert!(high.contains(b"a\xff\xff") && !high.contains(b"b"));
        assert_eq!(
            KeyRange::prefix(Bytes::from_static(b"\xff\xff")).end,
            RangeEnd::Open
        );
        assert_eq!(KeyRange::prefix(""), KeyRange::everything());
    }

    #[test]
    fn a_range_knows_whether_it_is_a_prefix() {
        for prefix in [&b"a"[..], b"ab", b"a\xff", b"a\xff\xff", b"\xfe", b"\0"] {
            assert!(KeyRange::prefix(prefix).is_prefix(), "{prefix:?}");
        }
        for (start, end) in [
            (&b"a"[..], &b"c"[..]),
            (b"a", b"a\0"),
            (b"ab", b"b"),
            (b"\xff", b"\xff\xff"),
            (b"b", b"a"),
            (b"", b"a"),
        ] {
            let end = RangeEnd::Until(Bytes::from_static(end));
            let start = Bytes::from_static(start);
            assert!(!KeyRange { start, end }.is_prefix());
        }
        assert!(!KeyRange::everything().is_prefix() && !KeyRange::single("a").is_prefix());
    }

    #[test]
    fn wire_pairs_read_as_the_protocol_says() {
        let wire = |key: &'static [u8], end: &'static [u8]| {
            KeyRange::from_wire(Bytes::from_static(key), Bytes::from_static(end))
        };
        assert!(wire(b"a", b"").is_single());
        assert!(wire(b"a", b"\0").contains(b"\xff") && !wire(b"b", b"\0").contains(b"a"));
        assert!(wire(b"b", b"b").is_empty() && wire(b"b", b"a").is_empty());
        assert!(!wire(b"b", b"a").contains(b"b"));
        assert!(wire(b"a", b"c").contains(b"b") && !wire(b"a", b"c").contains(b"c"));
    }
}
