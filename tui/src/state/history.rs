//! What rows were before: a sample at each change, and from those a value for each cell of a
//! sparkline, whose axis is time. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use api::status::row::{DeviceRow, Millis, NodeRow, PodRow};

/// One sample of a row's history. It holds until the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When, on our clock.
    pub at: Millis,
    /// What was true then: `up, Ready`, `Running` ..
    pub state: Arc<str>,
    /// Thousandths of a core.
    pub cpu: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Restarts; hundredths of the first numeric property of a device; 1 for a node whose link is up.
    pub value: i64,
}

impl Sample {
    /// Whether it says the same at another time.
    pub(super) fn says(&self, other: &Self) -> bool {
        (&self.state, self.cpu, self.memory, self.value)
            == (&other.state, other.cpu, other.memory, other.value)
    }

    /// Whether it is news for the eye: what is used goes up and down all the time.
    pub(super) fn is_news(&self, before: &Self) -> bool {
        (&self.state, self.value) != (&before.state, before.value)
    }

    /// Shares the text of the sample before, if it is the same.
    pub(super) fn share(&mut self, before: &Self) {
        if self.state == before.state {
            self.state = Arc::clone(&before.state);
        }
    }
}

fn millicores(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(super) fn sample_node(row: &NodeRow, at: Millis) -> Sample {
    let usage = row.usage.unwrap_or_default();
    let link = if row.link.is_some() { "up" } else { "down" };
    let (status, _) = crate::rows::node_status(row);
    Sample {
        at,
        state: format!("link {link}, {status}").into(),
        cpu: millicores(usage.cpu_millis),
        memory: usage.memory,
        value: i64::from(row.link.is_some()),
    }
}

pub(super) fn sample_pod(row: &PodRow, at: Millis) -> Sample {
    let usage = row.usage.unwrap_or_default();
    Sample {
        at,
        state: row.status.as_str().into(),
        cpu: millicores(usage.cpu_millis),
        memory: usage.memory,
        value: i64::from(row.restarts),
    }
}

/// The first property that reports a number, and the number.
pub fn numeric(row: &DeviceRow) -> Option<(&str, f64)> {
    row.twins.iter().find_map(|t| {
        let value = t.reported.as_ref()?.parse::<f64>().ok()?;
        value.is_finite().then_some((t.property.as_str(), value))
    })
}

pub(super) fn sample_device(row: &DeviceRow, at: Millis) -> Sample {
    let number = numeric(row).map_or(0.0, |(_, value)| value);
    #[expect(clippy::cast_possible_truncation, reason = "for a sparkline")]
    let value = (number.clamp(-1e12, 1e12) * 100.0) as i64;
    Sample { at, state: row.state.as_str().into(), cpu: 0, memory: 0, value }
}

/// The value that held at each of `width` moments up to `now`; nothing before the first sample.
pub fn series(
    history: &VecDeque<Sample>,
    now: Millis,
    width: usize,
    value: impl Fn(&Sample) -> i64,
) -> Vec<i64> {
    let Some(first) = history.front().map(|s| s.at.min(now)) else { return Vec::new() };
    // A cell is a second at least, so that a short history is short.
    let cells = i64::try_from(width.max(1)).unwrap_or(1);
    let cell = ((now - first) / cells).max(1000);
    let mut samples = history.iter().peekable();
    let mut current = 0;
    let mut values = Vec::new();
    for n in (0..cells).rev() {
        let until = now - n * cell;
        while let Some(sample) = samples.next_if(|s| s.at <= until) {
            current = value(sample);
        }
        if until >= first {
            values.push(current);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Millis, value: i64) -> Sample {
        Sample { at, state: "".into(), cpu: 0, memory: 0, value }
    }

    #[test]
    fn a_cell_of_a_sparkline_has_the_value_that_held_then() {
        let history = VecDeque::from([sample(0, 1), sample(4_000, 5), sample(9_000, 2)]);
        assert_eq!(series(&history, 10_000, 5, |s| s.value), [1, 5, 5, 5, 2]);
        assert_eq!(series(&history, 10_000, 100, |s| s.value).len(), 11, "a second a cell");
        assert!(series(&VecDeque::new(), 10_000, 5, |s| s.value).is_empty());
        let later = VecDeque::from([sample(50_000, 3)]);
        assert_eq!(series(&later, 10_000, 5, |s| s.value).len(), 1, "a clock that was set back");
    }

    #[test]
    fn values_below_zero_are_values_too() {
        let twin = |reported: &str| api::status::row::TwinRow {
            property: "t".into(),
            reported: Some(reported.into()),
            ..Default::default()
        };
        let row = |reported| DeviceRow { twins: vec![twin(reported)], ..DeviceRow::default() };
        assert_eq!(sample_device(&row("-3.5"), 0).value, -350);
        assert_eq!(sample_device(&row("NaN"), 0).value, 0);
        assert_eq!(numeric(&row("on")), None);
    }
}
