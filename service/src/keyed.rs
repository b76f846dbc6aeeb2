//! N workers, one bounded queue each, sharded by key: two items of one key are handled in the order
//! in which they were sent, and a slow key holds up only its own shard.
//!
//! Owns: the queues.
//! Called by: whoever writes objects to the API server or to a runtime.
//! Never: drops an item by itself; [`Keyed::try_send`] gives it back to the caller, who counts it.

use std::future::Future;
use std::hash::{BuildHasher, Hash, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::mpsc;

use crate::supervise::{Policy, Service};

/// Sends items to the worker of their key.
#[derive(Debug)]
pub struct Keyed<T> {
    shards: Arc<[mpsc::Sender<T>]>,
    hasher: RandomState,
}

impl<T> Clone for Keyed<T> {
    fn clone(&self) -> Self {
        Self { shards: Arc::clone(&self.shards), hasher: self.hasher.clone() }
    }
}

/// Why an item was not taken. It carries the item.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotTaken<T> {
    /// The queue of the key's worker is full.
    #[error("the queue is full")]
    Full(T),
    /// The workers have stopped.
    #[error("the workers have stopped")]
    Stopped(T),
}

impl<T: Send + 'static> Keyed<T> {
    /// Starts `workers` tasks in `svc`, each with a queue of `capacity` items.
    ///
    /// `handle` is called for one item after the other of a shard. A panic in it is logged and costs
    /// only its own item. When the service stops, no further items are taken; those already in the
    /// queues are still handled, within the service's drain limit.
    pub fn spawn<H, F>(
        svc: &mut Service,
        name: &str,
        workers: usize,
        capacity: usize,
        handle: H,
    ) -> Self
    where
        H: Fn(T) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let shards = (0..workers.max(1))
            .map(|shard| {
                let (to_worker, queue) = mpsc::channel(capacity.max(1));
                let label = format!("{name}-{shard}");
                let worker = work(label.clone(), queue, svc.stopping(), handle.clone());
                svc.spawn(&label, Policy::StopAll, async move {
                    worker.await;
                    Ok(())
                });
                to_worker
            })
            .collect();
        Self { shards, hasher: RandomState::new() }
    }

    /// Waits for room in the queue of `key`'s worker.
    ///
    /// # Errors
    /// [`NotTaken::Stopped`] when the service stops.
    pub async fn send(&self, key: &impl Hash, item: T) -> Result<(), NotTaken<T>> {
        self.shard(key).send(item).await.map_err(|e| NotTaken::Stopped(e.0))
    }

    /// Takes the item only if there is room now.
    ///
    /// # Errors
    /// The item, when the queue of its worker is full or the service stops.
    pub fn try_send(&self, key: &impl Hash, item: T) -> Result<(), NotTaken<T>> {
        self.shard(key).try_send(item).map_err(|e| match e {
            mpsc::error::TrySendError::Full(item) => NotTaken::Full(item),
            mpsc::error::TrySendError::Closed(item) => NotTaken::Stopped(item),
        })
    }

    /// How many items wait in all queues, for a metric.
    pub fn waiting(&self) -> usize {
        self.shards.iter().map(|s| s.max_capacity() - s.capacity()).sum()
    }

    fn shard(&self, key: &impl Hash) -> &mpsc::Sender<T> {
        let hash = self.hasher.hash_one(key) as usize;
        &self.shards[hash % self.shards.len()]
    }
}

async fn work<T, H, F>(
    label: String,
    mut queue: mpsc::Receiver<T>,
    stopping: tokio_util::sync::CancellationToken,
    handle: H,
) where
    H: Fn(T) -> F,
    F: Future<Output = ()>,
{
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled(), if !queue.is_closed() => queue.close(),
            item = queue.recv() => match item {
                Some(item) => {
                    if let Err(panic) = contained(|| handle(item)).await {
                        tracing::error!(worker = label, panic, "an item was lost to a panic");
                    }
                }
                // Either closed above and drained, or every sender is gone: with nobody left to
                // send, the worker waits for the service so as not to look like a failure.
                None => break stopping.cancelled().await,
            },
        }
    }
}

/// Runs a future to its end; a panic in it becomes an error.
async fn contained<F: Future<Output = ()>>(make: impl FnOnce() -> F) -> Result<(), String> {
    let future = catch_unwind(AssertUnwindSafe(make)).map_err(panic_text)?;
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
        Err(payload) => Poll::Ready(Err(panic_text(payload))),
    })
    .await
}

fn panic_text(payload: Box<dyn std::any::Any + Send>) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[tokio::test]
    async fn items_of_one_key_are_handled_in_order_and_none_is_lost_at_the_stop() {
        let mut svc = Service::new("test");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let keyed = Keyed::spawn(&mut svc, "w", 3, 4, move |(key, n): (u8, u32)| {
            let log = Arc::clone(&log);
            async move {
                tokio::task::yield_now().await;
                log.lock().push((key, n));
            }
        });
        for n in 0..50 {
            for key in 0..5u8 {
                keyed.send(&key, (key, n)).await.unwrap();
            }
        }
        svc.stopping().cancel();
        svc.until_stopped().await.unwrap();
        for key in 0..5 {
            let of_key: Vec<u32> =
                seen.lock().iter().filter(|(k, _)| *k == key).map(|(_, n)| *n).collect();
            assert_eq!(of_key, (0..50).collect::<Vec<_>>());
        }
        assert_eq!(keyed.try_send(&0u8, (0, 0)), Err(NotTaken::Stopped((0, 0))));
    }

    #[tokio::test]
    async fn a_full_queue_gives_the_item_back() {
        let mut svc = Service::new("test");
        let keyed = Keyed::spawn(&mut svc, "w", 1, 2, |_: u8| std::future::pending());
        assert_eq!(keyed.try_send(&"k", 1), Ok(()));
        assert_eq!(keyed.try_send(&"k", 2), Ok(()));
        assert_eq!(keyed.try_send(&"k", 3), Err(NotTaken::Full(3)));
        assert_eq!(keyed.waiting(), 2);
    }

    #[tokio::test]
    async fn a_panic_costs_one_item_and_not_the_worker() {
        let mut svc = Service::new("test");
        let stop = svc.stopping();
        let keyed = Keyed::spawn(&mut svc, "w", 1, 2, move |n: u8| {
            let stop = stop.clone();
            async move {
                assert!(n != 1, "bad item");
                stop.cancel();
            }
        });
        keyed.send(&"k", 1).await.unwrap();
        keyed.send(&"k", 2).await.unwrap();
        svc.until_stopped().await.unwrap();
    }
}
