//! Bytes as base64 text, the way JSON answers carry keys and values: standard alphabet, padded.
//!
//! What is read back has to be exactly what would have been written.

const ALPHABET: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const PADDING: char = '=';

/// Three bytes become four letters; what a last, shorter group lacks becomes padding.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut bits = 0_u32;
        for place in 0..3 {
            bits = bits << 8 | u32::from(group.get(place).copied().unwrap_or_default());
        }
        for place in 0..4 {
            let letter = (bits >> (18 - 6 * place)) & 0x3f;
            let letter = usize::try_from(letter).ok().and_then(|at| ALPHABET.get(at));
            match letter {
                Some(letter) if place <= group.len() => text.push(char::from(*letter)),
                _ => text.push(PADDING),
            }
        }
    }
    text
}

/// The bytes of a text, if it is their base64 and nothing else.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for letter in group {
            let at = ALPHABET.iter().position(|known| known == letter);
            bits = bits << 6 | u32::try_from(at.unwrap_or_default()).unwrap_or_default();
        }
        bytes.extend(bits.to_be_bytes().into_iter().skip(1));
    }
    let padding = text.chars().rev().take_while(|letter| *letter == PADDING);
    let padding = padding.count().min(2);
    bytes.truncate(bytes.len().saturating_sub(padding));
    // Whatever was passed over above is not what these bytes are written as.
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn every_length_of_the_last_group_is_padded_right() {
        let check = |bytes: &[u8], text: &str| {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text).as_deref(), Some(bytes), "{text}");
        };
        check(b"", "");
        check(b"f", "Zg==");
        check(b"fo", "Zm8=");
        check(b"foo", "Zm9v");
        check(b"foob", "Zm9vYg==");
        check(b"\x00\xff\xfe\x3e", "AP/+Pg==");
    }

    #[test]
    fn what_is_not_base64_is_not_taken_for_it() {
        for text in [
            "Zg", "Zg=", "Zh==", "Zg==Zg==", "Z", "Zm9v=", "Zm9v====", "Zm 9", "Zm-_", "=", "====",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
