//! When a CronJob is due.
//!
//! Owns: Kubernetes' schedules, read by `croner`: five fields, the names `@daily` and their like,
//! `@every`, and time zones. Called by: validation of CronJobs, and their controller.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::meta;

/// A schedule in its time zone.
#[derive(Debug, Clone)]
pub(crate) enum Schedule {
    Cron(Box<Cron>, TimeZone),
    Every(SignedDuration),
}

/// What the documentation names as macros.
const NAMES: [(&str, &str); 6] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
];

/// The least and the most of each field, and its words, of which the first stands for the least.
const FIELDS: [(i64, i64, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// One of the expressions of a field, which commas separate, with its end where it has a step and
/// only a beginning. What is not in its bounds is told in the words of Kubernetes.
fn check(expression: &str, least: i64, most: i64, words: &[&str]) -> Result<String, String> {
    let number = |text: &str| match text.parse::<i64>() {
        Ok(n) if n < 0 => Err(format!("negative number ({n}) not allowed: {expression}")),
        Ok(n) => Ok(n),
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        )),
    };
    let named = |text: &str| {
        let mut at = (least..).zip(words);
        at.find(|(_, w)| text.eq_ignore_ascii_case(w)).map_or_else(|| number(text), |(n, _)| Ok(n))
    };
    let (range, step) = match expression.split_once('/') {
        Some((_, step)) if step.contains('/') => {
            return Err(format!("too many slashes: {expression}"));
        }
        Some((range, step)) => (range, Some(step)),
        None => (expression, None),
    };
    let (start, end) = match range.split_once('-') {
        _ if matches!(range, "*" | "?") => (least, most),
        Some((_, end)) if end.contains('-') => {
            return Err(format!("too many hyphens: {expression}"));
        }
        Some((start, end)) => (named(start)?, named(end)?),
        None if step.is_some() => (named(range)?, most),
        None => named(range).map(|n| (n, n))?,
    };
    let step = step.map_or(Ok(1), number)?;
    if start < least {
        return Err(format!("beginning of range ({start}) below minimum ({least}): {expression}"));
    }
    if end > most {
        return Err(format!("end of range ({end}) above maximum ({most}): {expression}"));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {expression}"
        ));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {expression}"));
    }
    Ok(match range.contains(['-', '*', '?']) {
        false if expression != range => format!("{start}-{end}/{step}"),
        _ => expression.to_owned(),
    })
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// When it is not one, or the time zone is unknown.
    pub(crate) fn read(text: &str, zone: Option<&str>) -> Result<Self, String> {
        if let Some(every) = text.strip_prefix("@every ") {
            return every_from(every);
        }
        let fields = match NAMES.iter().find(|(name, _)| *name == text) {
            Some((_, fields)) => fields,
            None if text == "@hourly" => "0 * * * *",
            None => text,
        };
        if fields.starts_with('@') {
            return Err(format!("unrecognized descriptor: {text}"));
        }
        let count = fields.split_whitespace().count();
        if count != 5 {
            return Err(format!("expected exactly 5 fields, found {count}: [{text}]"));
        }
        let mut spelled = Vec::with_capacity(count);
        for (field, (least, most, words)) in fields.split_whitespace().zip(FIELDS) {
            let parts = field.split(',').filter(|e| !e.is_empty());
            let parts: Result<Vec<_>, _> = parts.map(|e| check(e, least, most, words)).collect();
            spelled.push(parts?.join(","));
        }
        // Extensions of other crons that Kubernetes does not know.
        let own = |c: char| matches!(c, '#' | '+') || c == 'L' || c == 'W';
        let names = |word: &str| word.chars().any(|c| c.is_ascii_lowercase());
        let days: Vec<&str> = fields.split_whitespace().collect();
        if [2, 4].iter().any(|i| days[*i].contains(own) && !names(days[*i]) && !is_name(days[*i])) {
            return Err(format!("failed to parse schedule: [{text}]"));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .dom_and_dow(false)
            .build();
        let cron = parser
            .parse(&spelled.join(" ").replace('?', "*"))
            .map_err(|e| format!("{e}: [{text}]"))?;
        Ok(Self::Cron(Box::new(cron), zone_named(zone)?))
    }

    /// The first time after `after`; none if there is none for years.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(cron, zone) => {
                let from = after.to_zoned(zone.clone());
                cron.find_next_occurrence(&from, false).ok().map(|t| t.timestamp())
            }
            Self::Every(every) => Some(meta::later(after, every.as_secs())),
        }
    }

    /// The newest time after `since` that is not after `now`.
    pub(crate) fn last(&self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let last = match self {
            Self::Cron(cron, zone) => {
                let from = now.to_zoned(zone.clone());
                cron.find_previous_occurrence(&from, true).ok()?.timestamp()
            }
            Self::Every(every) => {
                let times = now.duration_since(since).as_secs().div_euclid(every.as_secs().max(1));
                meta::later(since, every.as_secs().saturating_mul(times))
            }
        };
        (last > since).then_some(last)
    }
}

/// `JUL`, `MON-FRI` and the like.
fn is_name(field: &str) -> bool {
    let word = |w: &str| w.len() == 3 && w.chars().all(|c| c.is_ascii_uppercase());
    field.split([',', '-']).all(|w| word(w) || w.chars().all(|c| c.is_ascii_digit()))
}

/// Schedules without a zone are in that of the control plane's machine; ours is UTC everywhere.
fn zone_named(zone: Option<&str>) -> Result<TimeZone, String> {
    match zone {
        None => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name).map_err(|_| format!("unknown time zone {name}")),
    }
}

fn every_from(text: &str) -> Result<Schedule, String> {
    let bad = || format!("failed to parse duration @every {text}");
    let every: SignedDuration = text.trim().parse().map_err(|_| bad())?;
    // Less than a second is rounded up to one, as in Kubernetes.
    Ok(Schedule::Every(every.max(SignedDuration::from_secs(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: Option<&str>, after: &str) -> String {
        let s = Schedule::read(schedule, zone).expect("a schedule");
        s.next(after.parse().unwrap()).expect("a time").to_string()
    }

    #[test]
    fn the_documented_schedules_are_understood() {
        let after = "2026-01-01T00:00:00Z";
        assert_eq!(next("*/5 * * * *", None, after), "2026-01-01T00:05:00Z");
        assert_eq!(next("0 3 * * 1", None, after), "2026-01-05T03:00:00Z");
        assert_eq!(next("0 0 13 * 5", None, after), "2026-01-02T00:00:00Z");
        assert_eq!(next("0 0 * FEB MON", None, after), "2026-02-02T00:00:00Z");
        assert_eq!(next("@hourly", None, after), "2026-01-01T01:00:00Z");
        assert_eq!(next("@daily", None, after), "2026-01-02T00:00:00Z");
        assert_eq!(next("@every 90s", None, after), "2026-01-01T00:01:30Z");
        assert_eq!(next("0 12 * * ?", None, after), "2026-01-01T12:00:00Z");
    }

    #[test]
    fn a_time_zone_moves_the_schedule() {
        let after = "2026-07-01T00:00:00Z";
        assert_eq!(next("0 9 * * *", Some("Europe/Berlin"), after), "2026-07-01T07:00:00Z");
        assert!(Schedule::read("0 9 * * *", Some("Nowhere/Land")).is_err());
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        for bad in [
            "",
            "* * * *",
            "0 * * * * *",
            "61 * * * *",
            "0 0 L * *",
            "0 0 * * 1#2",
            "x",
            "@often",
            "@every x",
        ] {
            assert!(Schedule::read(bad, None).is_err(), "{bad}");
        }
    }
}
