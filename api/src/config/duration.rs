//! Go's durations in text: `1h2m0s`, `100ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A duration of zero or more, written as Go writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GoDuration(pub Duration);

/// Units and their nanoseconds.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Go's longest duration: 292 years.
const MAX_NANOS: u128 = i64::MAX as u128;

/// No number of a duration has more digits before or after its point.
const MAX_DIGITS: usize = 19;

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        nanos(text).map(|nanos| Self(Duration::from_nanos(nanos))).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            format!("`{shown}` is not a duration like `1m30s`")
        })
    }
}

fn nanos(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c))?);
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos += scaled(number, *size)?;
        if nanos > MAX_NANOS {
            return None;
        }
        rest = after;
    }
    u64::try_from(nanos).ok()
}

/// `number`, which may have a point, times `size`.
fn scaled(number: &str, size: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() > MAX_DIGITS || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits =
        |text: &str| -> Option<u128> { if text.is_empty() { Some(0) } else { text.parse().ok() } };
    // Digits beyond the limit are below a nanosecond whatever the unit.
    let fraction = &fraction[..fraction.len().min(MAX_DIGITS)];
    let power = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(digits(whole)? * size + digits(fraction)? * size / power)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < 1_000_000_000 {
            let (unit, size) = match nanos {
                0..1_000 => ("ns", 1),
                1_000..1_000_000 => ("µs", 1_000),
                _ => ("ms", 1_000_000),
            };
            return write!(f, "{}{unit}", decimal(nanos, size));
        }
        let minutes = nanos / 60_000_000_000;
        if minutes >= 60 {
            write!(f, "{}h", minutes / 60)?;
        }
        if minutes > 0 {
            write!(f, "{}m", minutes % 60)?;
        }
        write!(f, "{}s", decimal(nanos % 60_000_000_000, 1_000_000_000))
    }
}

/// `value / size` with as many decimals as it needs.
fn decimal(value: u128, size: u128) -> String {
    let (whole, rest) = (value / size, value % size);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = size.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0'))
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        String::deserialize(de)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for text in ["0s", "1ns", "1.5µs", "100ms", "10s", "2m0s", "5m0s", "4h0m0s", "1h2m3.25s"] {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), text);
        }
        for (text, millis) in
            [("0", 0), ("1.5h", 5_400_000), ("1m", 60_000), (".5s", 500), ("1.s", 1000)]
        {
            assert_eq!(text.parse::<GoDuration>().unwrap().0.as_millis(), millis, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for bad in [
            "",
            "5",
            "s",
            "5 s",
            "1d",
            "-5s",
            "1m30",
            "1..5s",
            "9999999h",
            ".",
            ".s",
            "1.2.3s",
            "99999999999999999999s",
        ] {
            assert!(bad.parse::<GoDuration>().is_err(), "{bad}");
        }
    }
}
