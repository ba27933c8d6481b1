//! Takes a sequence of JSON objects apart while it arrives, in pieces that may end anywhere.
//!
//! It finds where a value ends and does not ask whether it is any good; it holds one value and never more than it may.

use bytes::{Bytes, BytesMut};

/// How deep inside lists and objects a text of JSON is, byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nesting {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

/// Where a byte was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// In no list and no object.
    Outside,
    /// In one.
    Inside,
    /// At the end of the outermost.
    Ended,
}

impl Nesting {
    /// How many are open.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Goes on by a byte.
    pub(super) fn step(&mut self, byte: u8) -> Step {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Step::Inside;
        }
        match byte {
            b'{' | b'[' => self.depth += 1,
            _ if self.depth == 0 => return Step::Outside,
            b'}' | b']' => {
                self.depth -= 1;
                if self.depth == 0 {
                    return Step::Ended;
                }
            }
            b'"' => self.in_string = true,
            _ => {}
        }
        Step::Inside
    }
}

/// What has come of a sequence of objects.
#[derive(Debug)]
pub(super) struct JsonValues {
    buffer: BytesMut,
    /// How much of the buffer was looked at.
    seen: usize,
    nesting: Nesting,
    value_bytes_max: usize,
}

/// Why no value can be taken any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// A value does not end within the limit.
    TooLong,
    /// What begins here is no object.
    NotAnObject,
}

impl JsonValues {
    /// Nothing yet; a value may have so many bytes.
    pub(super) fn new(value_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            seen: 0,
            nesting: Nesting::default(),
            value_bytes_max,
        }
    }

    /// More has come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// True when a value has begun and not ended.
    pub(super) fn is_inside(&self) -> bool {
        self.nesting.depth() > 0
    }

    /// The next value, once all of it is here.
    pub(super) fn take(&mut self) -> Result<Option<Bytes>, Unusable> {
        while let Some(byte) = self.buffer.get(self.seen).copied() {
            self.seen += 1;
            if self.nesting.depth() == 0 && byte != b'{' && !byte.is_ascii_whitespace() {
                return Err(Unusable::NotAnObject);
            }
            if self.nesting.step(byte) == Step::Ended {
                let value = self.buffer.split_to(self.seen).freeze();
                self.seen = 0;
                return self.within(value.len()).map(|()| Some(value));
            }
        }
        self.within(self.buffer.len()).map(|()| None)
    }

    fn within(&self, bytes: usize) -> Result<(), Unusable> {
        if bytes > self.value_bytes_max {
            Err(Unusable::TooLong)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Vec<String>, Unusable> {
        let mut open = JsonValues::new(64);
        let mut found = Vec::new();
        for piece in pieces {
            open.push(piece.as_ref());
            while let Some(value) = open.take()? {
                found.push(String::from_utf8(value.to_vec()).unwrap().trim().to_owned());
            }
        }
        Ok(found)
    }

    #[test]
    fn values_are_found_wherever_the_pieces_end() {
        let text = r#" {"a":{"b":["}","\"}\\"]}}{} {"c":"]"}"#;
        let expected = vec![r#"{"a":{"b":["}","\"}\\"]}}"#, "{}", r#"{"c":"]"}"#];
        assert_eq!(values([text]).unwrap(), expected);
        for size in 1..text.len() {
            assert_eq!(values(text.as_bytes().chunks(size)).unwrap(), expected);
        }
    }

    #[test]
    fn an_unfinished_value_is_waited_for() {
        let mut open = JsonValues::new(64);
        open.push(b" {\"a\"");
        assert_eq!(open.take(), Ok(None));
        assert!(open.is_inside());
        open.push(b":1} ");
        assert!(open.take().unwrap().is_some());
        assert_eq!(open.take(), Ok(None));
        assert!(!open.is_inside());
    }

    #[test]
    fn what_is_too_long_or_no_object_is_refused() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(64));
        assert_eq!(values([&long]), Err(Unusable::TooLong));
        assert_eq!(values([&long[..65]]), Err(Unusable::TooLong));
        for wrong in ["[]", "null", "{} x", "}", "\"a\""] {
            assert_eq!(values([wrong]), Err(Unusable::NotAnObject), "{wrong}");
        }
    }
}
