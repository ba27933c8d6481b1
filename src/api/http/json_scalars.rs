//! A number, a text, bytes or a name in JSON, as the values of a message.
//!
//! The rules are those of protobuf's JSON, as etcd's gateway has them: numbers may be text, and written in any way that is
//! whole; base64 is of either alphabet, padded or not.

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use prost_reflect::{Kind, Value};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// More digits than a number of 64 bits can have.
const DIGITS_MAX: usize = 20;

/// What a field of this kind has when JSON says this: `None` when that is no value of it, and `Some(None)` for the name of
/// an enum's value that there is not, which leaves the field as it is.
#[expect(
    clippy::option_option,
    reason = "refused, and nothing to set, are two things"
)]
pub(super) fn scalar(kind: &Kind, json: &str) -> Option<Option<Value>> {
    let value = match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(integer(json)?.try_into().ok()?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(integer(json)?.try_into().ok()?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(integer(json)?.try_into().ok()?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(integer(json)?.try_into().ok()?),
        Kind::Bool => Value::Bool(json.parse().ok()?),
        Kind::String => Value::String(text(json)?.into_owned()),
        Kind::Bytes => Value::Bytes(bytes(&text(json)?)?),
        Kind::Enum(names) => match text(json) {
            Some(name) => match names.get_value_by_name(&name) {
                Some(value) => Value::EnumNumber(value.number()),
                None => return Some(None),
            },
            None => Value::EnumNumber(whole(json)?.try_into().ok()?),
        },
        Kind::Float | Kind::Double | Kind::Message(_) => return None,
    };
    Some(Some(value))
}

/// The text that a JSON string stands for.
fn text(json: &str) -> Option<Cow<'_, str>> {
    let inside = json.strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inside))
}

/// A whole number, or text that is one.
fn integer(json: &str) -> Option<i128> {
    match text(json) {
        None => whole(json),
        Some(number) => {
            // Whatever else is JSON, and space around it, is no number.
            serde_json::from_str::<&RawValue>(&number).ok()?;
            whole(&number)
        }
    }
}

/// A JSON number without a fraction, however it is written: 100, 1e2, 100.0.
fn whole(number: &str) -> Option<i128> {
    let (is_negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
    let (before, after) = (before.trim_start_matches('0'), after.trim_end_matches('0'));
    let digits = [before, after].concat();
    if !number.ends_with(|last: char| last.is_ascii_digit())
        || !digits.bytes().all(|digit| digit.is_ascii_digit())
    {
        return None;
    }
    if digits.is_empty() {
        return Some(0);
    }
    let exponent: i64 = exponent.parse::<i32>().ok()?.into();
    let zeros = exponent - i64::try_from(after.len()).ok()?;
    let kept = usize::try_from(i64::try_from(digits.len()).ok()? + zeros).ok()?;
    if kept > DIGITS_MAX {
        return None;
    }
    let (kept, dropped) = digits.split_at_checked(kept).unwrap_or((&digits, ""));
    if dropped.contains(|digit| digit != '0') {
        return None;
    }
    let zeros = u32::try_from(zeros).unwrap_or(0);
    let number = kept.parse::<i128>().ok()? * 10_i128.pow(zeros);
    Some(if is_negative { -number } else { number })
}

/// The bytes that base64 stands for. Of its last letter only the bits that are needed count, and line breaks count nothing,
/// but for whether the text is padded: it has to be when its length is that of padded text.
fn bytes(text: &str) -> Option<Bytes> {
    let alphabet = if text.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    let padding = if text.len().is_multiple_of(4) {
        DecodePaddingMode::RequireCanonical
    } else {
        DecodePaddingMode::RequireNone
    };
    let reader = reader(alphabet, padding);
    let decoded = if text.contains(['\r', '\n']) {
        reader.decode(text.replace(['\r', '\n'], ""))
    } else {
        reader.decode(text)
    };
    decoded.ok().map(Bytes::from)
}

fn reader(alphabet: &Alphabet, padding: DecodePaddingMode) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(padding);
    GeneralPurpose::new(alphabet, config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ttl(json: &str) -> Option<i64> {
        match scalar(&Kind::Int64, json)?? {
            Value::I64(number) => Some(number),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        for (json, number) in [
            ("1e2", 100),
            ("\"1e2\"", 100),
            ("1.0", 1),
            ("\"1.0\"", 1),
            ("100e-2", 1),
            ("10.0e-1", 1),
            ("0.5e1", 5),
            ("-1E+2", -100),
            ("-0", 0),
            ("-0.0", 0),
            ("0e2147483648", 0),
            ("\"\\u0031\"", 1),
            ("9.223372036854775807e18", i64::MAX),
            ("12345678901234567890e-1", 1_234_567_890_123_456_789),
            ("-9223372036854775808", i64::MIN),
            ("9007199254740993.0", 9_007_199_254_740_993),
        ] {
            assert_eq!(ttl(json), Some(number), "{json}");
        }
    }

    #[test]
    fn what_is_no_whole_number_of_the_kind_is_refused() {
        for json in [
            "1.5",
            "\"1.5\"",
            "5.0e-1",
            "1e-400",
            "1e400",
            "1e2147483648",
            "1e19",
            "\"+1\"",
            "\" 1\"",
            "\"1 \"",
            "\"1\\n\"",
            "\"01\"",
            "\"1.\"",
            "\".5\"",
            "\"1e\"",
            "\"0x10\"",
            "\"1_000\"",
            "\"\"",
            "\"-\"",
            "\"null\"",
            "\"NaN\"",
            "\"Infinity\"",
            "\"\\\"1\\\"\"",
            "\"1,2\"",
            "true",
            "[1]",
            "{}",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(ttl(json), None, "{json}");
        }
        assert_eq!(scalar(&Kind::Uint64, "-1"), None);
        assert_eq!(scalar(&Kind::Int32, "2147483648"), None);
        let largest = Some(Some(Value::U64(u64::MAX)));
        assert_eq!(scalar(&Kind::Uint64, "\"18446744073709551615\""), largest);
    }

    #[test]
    fn base64_is_padded_or_not_and_of_one_alphabet() {
        for (json, expected) in [
            (r#""""#, &b""[..]),
            (r#""YQ==""#, b"a"),
            (r#""YQ""#, b"a"),
            (r#""YR==""#, b"a"),
            (r#""Y\u0051==""#, b"a"),
            (r#""\/w==""#, b"\xff"),
            (r#""+/8=""#, b"\xfb\xff"),
            (r#""-_8=""#, b"\xfb\xff"),
            (r#""-_8""#, b"\xfb\xff"),
            (r#""YWFh\nYWFh""#, b"aaaaaa"),
            (r#""YQ==\n\n\n\n""#, b"a"),
        ] {
            let expected = Some(Some(Value::Bytes(Bytes::from_static(expected))));
            assert_eq!(scalar(&Kind::Bytes, json), expected, "{json}");
        }
        for json in [
            r#""YQ=""#,
            r#""YQ===""#,
            r#""Y""#,
            r#""====""#,
            r#""Y Q==""#,
            r#""YQ==YQ==""#,
            r#""Y\nQ==""#,
            r#""YQ==\n""#,
            r#""YQ\n\n""#,
            r#""YWJj+_==""#,
            r#""Z=Z=""#,
            "1",
            "[]",
            "true",
        ] {
            assert_eq!(scalar(&Kind::Bytes, json), None, "{json}");
        }
    }
}
