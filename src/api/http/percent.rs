//! Bytes out of the text of a URL, and the other way round.
//!
//! Keys are bytes and need not be UTF-8, so nothing here makes text of them.

/// The bytes that a part of a path says; `None` when a percent sign is not followed by two hexadecimal digits.
pub(super) fn path(text: &str) -> Option<Vec<u8>> {
    decode(text, false)
}

/// The bytes that a name or a value of a query says: there a plus is a space.
pub(super) fn query(text: &str) -> Option<Vec<u8>> {
    decode(text, true)
}

/// A path that says these bytes; a question mark in it is no query.
pub(super) fn encode(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            for half in [byte >> 4, byte & 15] {
                let digit = char::from_digit(half.into(), 16).unwrap_or('0');
                text.push(digit.to_ascii_uppercase());
            }
        }
    }
    text
}

fn decode(text: &str, plus_is_space: bool) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    Some(decoded)
}

fn digit(letter: u8) -> Option<u8> {
    let digit = char::from(letter).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_can_be_said() {
        let all: Vec<u8> = (0..=255).collect();
        let said = encode(&all);
        assert!(said.is_ascii() && !said.contains(['?', '#', ' ']), "{said}");
        assert_eq!(path(&said).unwrap(), all);
        assert_eq!(path("a%2Fb%ff+%00").unwrap(), b"a/b\xff+\0");
        assert_eq!(query("a+%2b%2B").unwrap(), b"a ++");
        for wrong in ["%", "%4", "%4g", "a%zz"] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
    }
}
