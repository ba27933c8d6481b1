//! Bytes as text that a person can read and that loses nothing: printable ASCII as it is, the rest escaped.
//!
//! It is the form of every key and value in a recorded file, and of nothing else.

use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes bytes as escaped text.
pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&bytes.escape_ascii())
}

/// Reads escaped text.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    unescape(&text).ok_or_else(|| D::Error::custom(format!("no escaped bytes: {text}")))
}

fn unescape(text: &str) -> Option<Bytes> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b't' => b'\t',
            b'r' => b'\r',
            b'n' => b'\n',
            b'x' => {
                let digits = [char::from(rest.next()?), char::from(rest.next()?)];
                u8::try_from(digits[0].to_digit(16)? * 16 + digits[1].to_digit(16)?).ok()?
            }
            other => other,
        });
    }
    Some(bytes.into())
}
