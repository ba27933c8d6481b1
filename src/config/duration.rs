//! Times in words: `1h30m`, `500ms`, `1.5h`, as flags of etcd take them.
//!
//! A number without a unit is no time; whoever knows a unit for it looks for it first.

use std::time::Duration;

/// Units, each with its length in nanoseconds; those that begin like another one stand before it.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The time that is meant; nothing when that is none, is negative, or is longer than can be counted.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let is_number = |letter: char| letter.is_ascii_digit() || letter == '.';
        let (number, behind) = rest.split_at(rest.find(|letter| !is_number(letter))?);
        let (unit, unit_ns) = UNITS.iter().find(|(unit, _)| behind.starts_with(unit))?;
        total = total.checked_add(part(number, *unit_ns)?)?;
        rest = behind.strip_prefix(unit)?;
    }
    Some(total).filter(|_| !text.is_empty())
}

/// So many units, with digits behind a point.
fn part(number: &str, unit_ns: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut ns = unit_ns.checked_mul(whole)?;
    let mut place_ns = unit_ns;
    for digit in fraction.chars() {
        place_ns /= 10;
        ns = ns.checked_add(place_ns.checked_mul(digit.to_digit(10)?.into())?)?;
    }
    Some(Duration::from_nanos(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_added_and_may_have_fractions() {
        let ms = |text| parse(text).map(|time| time.as_millis());
        assert_eq!(ms("5m"), Some(300_000));
        assert_eq!(ms("1h30m"), Some(5_400_000));
        assert_eq!(ms("1.5h"), Some(5_400_000));
        assert_eq!(ms(".5s"), Some(500));
        assert_eq!(ms("2s5ms"), Some(2005));
        assert_eq!(parse("7us"), Some(Duration::from_micros(7)));
        for not_a_time in [
            "",
            "5",
            "m",
            ".h",
            "-1h",
            "1 h",
            "1d",
            "1.2.3h",
            "9999999999h",
        ] {
            assert_eq!(parse(not_a_time), None, "{not_a_time:?}");
        }
    }
}
