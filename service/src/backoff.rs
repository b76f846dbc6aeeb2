//! How long to wait before the next try. Pure.

use std::time::Duration;

/// Exponential back-off with full jitter between a floor and a ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest wait, and the first step.
    pub floor: Duration,
    /// The longest wait.
    pub ceiling: Duration,
}

impl Backoff {
    /// Between `floor` and `ceiling`.
    pub const fn new(floor: Duration, ceiling: Duration) -> Self {
        Self { floor, ceiling }
    }

    /// The wait before try number `attempt` (0 is the first retry).
    ///
    /// Doubles from the floor; `jitter` in 0.0..=1.0 chooses a point between half of the step and
    /// the whole step, so that a fleet does not come back in one moment.
    pub fn delay(&self, attempt: u32, jitter: f64) -> Duration {
        let step = self.floor.saturating_mul(1u32 << attempt.min(16)).min(self.ceiling);
        let half = step / 2;
        (half + half.mul_f64(jitter.clamp(0.0, 1.0))).max(self.floor.min(step))
    }

    /// [`Backoff::delay`] with a random jitter.
    pub fn next_delay(&self, attempt: u32) -> Duration {
        self.delay(attempt, rand::random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

    #[test]
    fn it_starts_at_the_floor_and_never_passes_the_ceiling() {
        for attempt in 0..100 {
            for jitter in [0.0, 0.3, 1.0] {
                let d = B.delay(attempt, jitter);
                assert!(d >= B.floor && d <= B.ceiling, "{attempt} {jitter} {d:?}");
            }
        }
        assert_eq!(B.delay(0, 1.0), B.floor);
        assert_eq!(B.delay(50, 1.0), B.ceiling);
    }

    #[test]
    fn jitter_spreads_a_step_over_its_upper_half() {
        assert_eq!(B.delay(3, 0.0), Duration::from_millis(800));
        assert_eq!(B.delay(3, 1.0), Duration::from_millis(1600));
    }
}
