//! Times and spans of time, as every screen and every command writes them for people.
//!
//! Owns: the form. Documents for scripts have RFC 3339 in UTC, of `jiff` itself.
//! Called by: whoever shows when something was, or for how long.
//! Never: asks what time it is, or which zone the reader is in.

use jiff::tz::TimeZone;

use crate::status::row::Millis;

/// A time in a zone, in RFC 3339 and to the second: `2026-01-02T03:04:05Z`, `2026-01-02T04:04:05+01:00`.
pub fn stamp(at: Millis, zone: &TimeZone) -> String {
    let Ok(time) = jiff::Timestamp::from_millisecond(at) else {
        return format!("{} s after 1970", at / 1000);
    };
    let local = time.to_zoned(zone.clone());
    let utc = local.offset() == jiff::tz::Offset::UTC;
    local.strftime(if utc { "%FT%TZ" } else { "%FT%T%:z" }).to_string()
}

/// A time, and how long ago or how far ahead that is: `2026-01-02T03:04:05Z (5m ago)`.
pub fn seen_from(at: Millis, now: Millis, zone: &TimeZone) -> String {
    let stamp = stamp(at, zone);
    if at > now {
        format!("{stamp} (in {})", span(at - now))
    } else {
        format!("{stamp} ({} ago)", span(now - at))
    }
}

/// A span of time as kubectl writes ages: `45s`, `5m20s`, `3h12m`, `2d4h`, `400d`, `2y70d`.
pub fn span(millis: Millis) -> String {
    let s = (millis / 1000).max(0);
    let (m, h, d) = (s / 60, s / 3600, s / 86_400);
    let two = |a: i64, unit: char, b: i64, lesser: char| match b {
        0 => format!("{a}{unit}"),
        b => format!("{a}{unit}{b}{lesser}"),
    };
    match s {
        0..120 => format!("{s}s"),
        120..600 => two(m, 'm', s % 60, 's'),
        600..10_800 => format!("{m}m"),
        10_800..28_800 => two(h, 'h', m % 60, 'm'),
        28_800..172_800 => format!("{h}h"),
        172_800..691_200 => two(d, 'd', h % 24, 'h'),
        691_200..63_072_000 => format!("{d}d"),
        _ => two(d / 365, 'y', d % 365, 'd'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Millis = 1_767_323_045_678;

    #[test]
    fn a_time_is_told_in_one_form_whatever_the_zone() {
        assert_eq!(stamp(AT, &TimeZone::UTC), "2026-01-02T03:04:05Z");
        let east = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(stamp(AT, &east), "2026-01-02T04:04:05+01:00");
        assert_eq!(stamp(i64::MAX, &east), "9223372036854775 s after 1970");
        let seen = |now| seen_from(AT, now, &TimeZone::UTC);
        assert_eq!(seen(AT + 300_000), "2026-01-02T03:04:05Z (5m ago)");
        assert_eq!(seen(AT - 3_600_000), "2026-01-02T03:04:05Z (in 60m)");
        // What is shown is what whoever searches for it may give back.
        for zone in [TimeZone::UTC, east] {
            let read: jiff::Timestamp = stamp(AT, &zone).parse().unwrap();
            assert_eq!(read.as_second(), AT / 1000);
        }
    }

    #[test]
    fn ages_read_as_kubectl_writes_them() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (3599, "59m"),
            (3 * 3600 + 720, "3h12m"),
            (9 * 3600, "9h"),
            (2 * 86_400 + 4 * 3600, "2d4h"),
            (400 * 86_400, "400d"),
            (800 * 86_400, "2y70d"),
        ];
        for (seconds, want) in cases {
            assert_eq!(span(seconds * 1000), want);
        }
        assert_eq!(span(-5), "0s", "a clock that is behind");
    }
}
