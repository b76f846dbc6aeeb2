//! How often one address may ask. Pure.
//!
//! Owns: a bucket of tokens per address.
//! Called by: `bootstrap.rs`.
//! Never: grows beyond its limit of addresses: the fullest bucket, which limits nobody, goes first.

use std::collections::HashMap;
use std::hash::Hash;

use tokio::time::Instant;

/// So many at once, and then so many a second.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// At once.
    pub burst: f64,
    /// Then, per second.
    pub per_second: f64,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// See the module.
#[derive(Debug)]
pub struct Throttle<K> {
    rate: Rate,
    most: usize,
    buckets: HashMap<K, Bucket>,
}

impl<K: Hash + Eq + Clone> Throttle<K> {
    /// Remembers at most `most` addresses.
    pub fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most: most.max(1), buckets: HashMap::new() }
    }

    /// Whether `who` may ask now; if so, one token is gone.
    pub fn take(&mut self, who: &K, now: Instant) -> bool {
        let allowed = self.allows(who, now);
        if allowed && let Some(bucket) = self.buckets.get_mut(who) {
            bucket.tokens -= 1.0;
        }
        allowed
    }

    /// Whether `who` might ask now; no token is taken.
    pub fn allows(&mut self, who: &K, now: Instant) -> bool {
        let rate = self.rate;
        if !self.buckets.contains_key(who) && self.buckets.len() >= self.most {
            self.make_room(now);
        }
        let bucket =
            self.buckets.entry(who.clone()).or_insert(Bucket { tokens: rate.burst, at: now });
        refill(bucket, rate, now);
        bucket.tokens >= 1.0
    }

    fn make_room(&mut self, now: Instant) {
        let rate = self.rate;
        for bucket in self.buckets.values_mut() {
            refill(bucket, rate, now);
        }
        self.buckets.retain(|_, b| b.tokens < rate.burst);
        while self.buckets.len() >= self.most {
            let fullest = self.buckets.iter().max_by(|a, b| a.1.tokens.total_cmp(&b.1.tokens));
            let Some(who) = fullest.map(|(k, _)| k.clone()) else { return };
            self.buckets.remove(&who);
        }
    }
}

fn refill(bucket: &mut Bucket, rate: Rate, now: Instant) {
    let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
    bucket.tokens = (bucket.tokens + passed * rate.per_second).min(rate.burst);
    bucket.at = now;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_burst_is_allowed_and_then_the_rate() {
        let now = Instant::now();
        let mut throttle = Throttle::new(Rate { burst: 3.0, per_second: 0.5 }, 10);
        let asked = (0..5).filter(|_| throttle.take(&"a", now)).count();
        assert_eq!(asked, 3);
        assert!(throttle.take(&"b", now), "another address has its own");
        assert!(!throttle.take(&"a", now + Duration::from_secs(1)));
        assert!(throttle.take(&"a", now + Duration::from_secs(2)));
    }

    #[tokio::test]
    async fn a_flood_of_addresses_does_not_grow_the_table_or_free_the_guilty() {
        let now = Instant::now();
        let mut throttle = Throttle::new(Rate { burst: 2.0, per_second: 0.0 }, 100);
        while throttle.take(&0, now) {}
        for who in 1..10_000 {
            throttle.take(&who, now);
        }
        assert!(throttle.buckets.len() <= 100);
        assert!(!throttle.take(&0, now));
    }
}
