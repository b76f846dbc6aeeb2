//! Topics and filters of MQTT. Pure.
//!
//! Owns: what is a valid one, and which topics a filter has.
//! Called by: the broker, the event bus.
//! Never: lets a wildcard at the begin of a filter match a topic that begins with `$`.

/// Bytes of a topic or filter at most, and levels.
const MAX_BYTES: usize = 1024;
const MAX_LEVELS: usize = 64;

fn is_text(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_BYTES
        && !text.contains('\0')
        && text.split('/').count() <= MAX_LEVELS
}

/// Whether something can be published there: no wildcards, and not too long.
pub(super) fn is_topic(text: &str) -> bool {
    is_text(text) && !text.contains(['+', '#'])
}

/// Whether it can be subscribed to: wildcards stand alone in their level, `#` in the last one.
pub(super) fn is_filter(text: &str) -> bool {
    let levels = text.split('/').count();
    is_text(text)
        && !text.starts_with("$share/")
        && text.split('/').enumerate().all(|(at, level)| match level {
            "+" => true,
            "#" => at + 1 == levels,
            plain => !plain.contains(['+', '#']),
        })
}

/// Whether a filter has wildcards.
pub(super) fn has_wildcards(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// Whether a valid filter has a valid topic.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filters, mut levels) = (filter.split('/'), topic.split('/'));
    loop {
        match (filters.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_has_it() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("+/+", "/a", true),
            ("+", "/a", false),
            ("#", "$hw/events/x", false),
            ("+/events/x", "$hw/events/x", false),
            ("$hw/#", "$hw/events/x", true),
            ("$hw/events/device/+/+/twin/+", "$hw/events/device/default/a/twin/update", true),
            (
                "$hw/events/device/+/+/twin/+",
                "$hw/events/device/default/a/twin/update/result",
                false,
            ),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn tricks_with_wildcards_are_no_topics_and_no_filters() {
        for bad in ["", "a/+", "a/#", "a+b", "a\0b", &"a".repeat(1025), &"/".repeat(64)] {
            assert!(!is_topic(bad), "{bad}");
        }
        for bad in ["", "a/#/b", "a#", "a/b+", "+a", "#/a", "a\0", "$share/g/a", &"/".repeat(64)] {
            assert!(!is_filter(bad), "{bad}");
        }
        for good in ["a", "/", "+", "#", "a/+/b/#", "$hw/#", "käse/ß"] {
            assert!(is_filter(good), "{good}");
        }
    }
}
