//! How fast messages may go up. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: `burst` at once, then `qps` a second. A rate of 0 ends when the burst is used up.
#[derive(Debug)]
pub(crate) struct Pace {
    qps: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Pace {
    pub(crate) fn new(qps: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst).max(1.0);
        Self { qps: f64::from(qps), burst, tokens: burst, at: now }
    }

    /// Whether a message may go now; takes its token if so.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }

    /// Gives back the token of a message that there was none of.
    pub(crate) fn give_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.burst);
    }

    /// As `take`, and only while more than half of the burst is left: for what can be dropped.
    pub(crate) fn take_spare(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= self.spare() && self.take(now)
    }

    /// When the next message may go; none if never.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.when(1.0)
    }

    /// When the next message that can be dropped may go; none if never.
    pub(crate) fn next_spare(&self) -> Option<Instant> {
        self.when(self.spare())
    }

    fn spare(&self) -> f64 {
        (self.burst / 2.0 + 1.0).min(self.burst)
    }

    fn when(&self, tokens: f64) -> Option<Instant> {
        let missing = (tokens - self.tokens).max(0.0);
        if missing <= 0.0 {
            return Some(self.at);
        }
        (self.qps > 0.0).then(|| self.at + Duration::from_secs_f64(missing / self.qps))
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.qps).min(self.burst);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let mut now = Instant::now();
        let mut pace = Pace::new(10, 3, now);
        assert!((0..3).all(|_| pace.take(now)));
        assert!(!pace.take(now));
        assert_eq!(pace.next(), Some(now + Duration::from_millis(100)));
        assert_eq!(pace.next_spare(), Some(now + Duration::from_millis(250)));
        now += Duration::from_millis(101);
        assert!(pace.take(now) && !pace.take(now));
    }

    #[test]
    fn a_rate_of_zero_stops_after_the_burst() {
        let now = Instant::now();
        let mut pace = Pace::new(0, 1, now);
        assert!(pace.take(now));
        assert!(!pace.take(now + Duration::from_secs(3600)));
        assert_eq!(pace.next(), None);
    }

    #[test]
    fn what_can_be_dropped_leaves_half_of_the_burst_alone() {
        let now = Instant::now();
        let mut pace = Pace::new(1, 4, now);
        assert!(pace.take_spare(now) && pace.take_spare(now) && !pace.take_spare(now));
        assert!(pace.take(now));
    }
}
