//! Which objects are to be looked at, and when.
//!
//! Owns: what is due, what is in hand, what comes later, and how often what failed is tried again.
//! Called by: the loop in `mod.rs`. Never: hands out an object that is in hand.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::Work;

/// The first wait after a failure; each further one doubles it.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait after failures.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest sleep: a clock that was set is noticed after this.
const SLEEP: Duration = Duration::from_secs(30);

/// Why a plan could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Somebody else was faster; what they did brings the object back.
    Overtaken,
    /// It was refused.
    Refused(String),
}

#[derive(Default)]
pub(crate) struct Queue {
    due: VecDeque<Work>,
    queued: HashSet<Work>,
    running: HashSet<Work>,
    /// Touched while in hand.
    again: HashSet<Work>,
    later: BTreeSet<(jiff::Timestamp, Work)>,
    at: BTreeMap<Work, jiff::Timestamp>,
    failed: HashMap<Work, (u32, String)>,
}

impl Queue {
    pub(crate) fn add(&mut self, work: impl IntoIterator<Item = Work>) {
        for w in work {
            // What was refused waits its time, whatever happens around it meanwhile.
            if self.failed.contains_key(&w) && self.at.contains_key(&w) {
                continue;
            }
            if self.running.contains(&w) {
                self.again.insert(w);
            } else if self.queued.insert(w.clone()) {
                self.due.push_back(w);
            }
        }
    }

    /// Looks at something at a time; only the earliest one asked for counts.
    pub(crate) fn add_at(&mut self, work: Work, at: jiff::Timestamp) {
        if let Some(known) = self.at.get(&work).copied() {
            if known <= at {
                return;
            }
            self.later.remove(&(known, work.clone()));
        }
        self.at.insert(work.clone(), at);
        self.later.insert((at, work));
    }

    /// What is to be looked at now; it is in hand until [`Queue::finished`].
    pub(crate) fn next(&mut self, now: jiff::Timestamp) -> Option<Work> {
        while let Some((at, work)) = self.later.first().cloned().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, work.clone()));
            self.at.remove(&work);
            self.add([work]);
        }
        let work = self.due.pop_front()?;
        self.queued.remove(&work);
        self.running.insert(work.clone());
        Some(work)
    }

    /// Why the last attempt failed, if it did.
    pub(crate) fn failure(&self, work: &Work) -> Option<String> {
        self.failed.get(work).map(|(_, why)| why.clone())
    }

    /// Takes back what was in hand.
    pub(crate) fn finished(&mut self, work: Work, done: Result<(), Failure>, now: jiff::Timestamp) {
        self.running.remove(&work);
        let touched = self.again.remove(&work);
        match done {
            Ok(()) => {
                self.failed.remove(&work);
                if touched {
                    self.add([work]);
                }
            }
            Err(Failure::Overtaken) => self.add([work]),
            Err(Failure::Refused(why)) => {
                let (times, known) = self.failed.entry(work.clone()).or_default();
                *times += 1;
                *known = why;
                let wait = FIRST.saturating_mul(1 << (*times - 1).min(16)).min(LONGEST);
                self.add_at(work, now + jiff::SignedDuration::try_from(wait).unwrap_or_default());
            }
        }
    }

    /// Waits until something is due by the clock.
    pub(crate) async fn waits(&self, now: jiff::Timestamp) {
        let next = self.later.first().map_or(SLEEP, |(at, _)| {
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
        });
        tokio::time::sleep(next.min(SLEEP)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn work(name: &str) -> Work {
        (Kind::Job, name.to_owned())
    }

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_touched_while_in_hand_comes_again_afterwards() {
        let mut q = Queue::default();
        q.add([work("a"), work("a")]);
        assert_eq!(q.next(at(0)), Some(work("a")));
        q.add([work("a")]);
        assert_eq!(q.next(at(0)), None);
        q.finished(work("a"), Ok(()), at(0));
        assert_eq!(q.next(at(0)), Some(work("a")));
        q.finished(work("a"), Ok(()), at(0));
        assert_eq!(q.next(at(0)), None);
    }

    #[test]
    fn what_was_refused_waits_longer_each_time_and_says_why() {
        let mut q = Queue::default();
        q.add([work("a")]);
        let refused = || Err(Failure::Refused("quota".into()));
        assert_eq!(q.next(at(0)), Some(work("a")));
        q.finished(work("a"), refused(), at(0));
        assert_eq!(q.next(at(0)), None);
        assert_eq!(q.next(at(1)), Some(work("a")));
        assert_eq!(q.failure(&work("a")).as_deref(), Some("quota"));
        let mut now = 1;
        for _ in 0..12 {
            q.finished(work("a"), refused(), at(now));
            // What happens around it does not shorten the wait.
            q.add([work("a")]);
            assert_eq!(q.next(at(now)), None);
            now += 30;
            assert_eq!(q.next(at(now)), Some(work("a")));
        }
        q.finished(work("a"), refused(), at(now));
        assert_eq!(q.next(at(now + 29)), None);
        assert_eq!(q.next(at(now + 30)), Some(work("a")));
        q.finished(work("a"), Ok(()), at(now + 30));
        assert_eq!(q.failure(&work("a")), None);
    }

    #[test]
    fn of_two_times_the_earlier_one_counts() {
        let mut q = Queue::default();
        q.add_at(work("a"), at(50));
        q.add_at(work("a"), at(10));
        q.add_at(work("a"), at(70));
        assert_eq!(q.next(at(9)), None);
        assert_eq!(q.next(at(10)), Some(work("a")));
        q.finished(work("a"), Ok(()), at(10));
        assert_eq!(q.next(at(100)), None);
    }
}
