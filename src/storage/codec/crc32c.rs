//! CRC-32C, the checksum of the hashes that operators compare.
//!
//! Everything on the disk has CRC-32 instead. A hash is made of whole stores now and then, so a table is fast enough.

/// Castagnoli's polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "the table has an entry for every byte; this runs in the compiler"
)]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 {
                (rest >> 1) ^ POLYNOMIAL
            } else {
                rest >> 1
            };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
}

/// A checksum of bytes that come one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc32c {
    /// Adds bytes behind those before.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let [.., low] = self.0.to_be_bytes();
            let entry = TABLE.get(usize::from(low ^ byte)).copied();
            self.0 = entry.unwrap_or_default() ^ (self.0 >> 8);
        }
    }

    /// The checksum of all of them.
    pub(crate) fn finish(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Crc32c;

    #[test]
    fn it_is_the_checksum_of_rfc_3720() {
        let of = |bytes: &[u8]| {
            let mut crc = Crc32c::default();
            crc.update(bytes);
            crc.finish()
        };
        assert_eq!(of(b"123456789"), 0xe306_9283);
        assert_eq!(of(&[0; 32]), 0x8a91_36aa);
        assert_eq!(of(&[0xff; 32]), 0x62a8_ab43);
        let mut parts = Crc32c::default();
        parts.update(b"1234");
        parts.update(b"56789");
        assert_eq!(parts.finish(), of(b"123456789"));
    }
}
