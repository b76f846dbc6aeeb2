//! A handle per part; the process is ready when all handles are dropped.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Which parts are not up yet.
#[derive(Clone, Debug)]
pub struct Readiness {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    waiting: Mutex<Vec<(u64, String)>>,
    next: Mutex<u64>,
    changed: watch::Sender<usize>,
}

/// Held by a part until it is up; dropping it says "ready".
#[derive(Debug)]
#[must_use = "dropping it at once says that the part is ready"]
pub struct ReadyPart {
    id: u64,
    inner: Arc<Inner>,
}

impl Default for Readiness {
    fn default() -> Self {
        let (changed, _) = watch::channel(0);
        Self { inner: Arc::new(Inner { waiting: Mutex::default(), next: Mutex::new(0), changed }) }
    }
}

impl Readiness {
    /// Registers a part that is not up yet.
    pub fn part(&self, name: &str) -> ReadyPart {
        let id = {
            let mut next = self.inner.next.lock();
            *next += 1;
            *next
        };
        let mut waiting = self.inner.waiting.lock();
        waiting.push((id, name.to_owned()));
        self.inner.changed.send_replace(waiting.len());
        ReadyPart { id, inner: Arc::clone(&self.inner) }
    }

    /// The parts that are not up, in the order of their registration. Empty: ready.
    pub fn waiting_for(&self) -> Vec<String> {
        self.inner.waiting.lock().iter().map(|(_, n)| n.clone()).collect()
    }

    /// Returns once every registered part is up.
    pub async fn ready(&self) {
        let mut changed = self.inner.changed.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = changed.wait_for(|n| *n == 0).await;
    }
}

impl Drop for ReadyPart {
    fn drop(&mut self) {
        let mut waiting = self.inner.waiting.lock();
        waiting.retain(|(id, _)| *id != self.id);
        self.inner.changed.send_replace(waiting.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_means_that_every_part_has_said_so() {
        let r = Readiness::default();
        let (a, b) = (r.part("a"), r.part("b"));
        assert_eq!(r.waiting_for(), ["a", "b"]);
        drop(a);
        assert_eq!(r.waiting_for(), ["b"]);
        drop(b);
        r.ready().await;
        assert!(r.waiting_for().is_empty());
    }
}
