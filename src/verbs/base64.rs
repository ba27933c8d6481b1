//! Bytes as base64 text, the way JSON answers carry keys and values: standard alphabet, padded.
//!
//! It only encodes: no verb reads base64.

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

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn every_length_of_the_last_group_is_padded_right() {
        let check = |bytes: &[u8], text: &str| assert_eq!(encode(bytes), text);
        check(b"", "");
        check(b"f", "Zg==");
        check(b"fo", "Zm8=");
        check(b"foo", "Zm9v");
        check(b"foob", "Zm9vYg==");
        check(b"\x00\xff\xfe\x3e", "AP/+Pg==");
    }
}
