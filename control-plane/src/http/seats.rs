//! How much clients may ask at once.
//!
//! Owns: the number of requests that are answered at the same time, of each sort.
//! Called by: the router, before it reads a body; watches. Never: counts what has no end, but watches.
//!
//! As in Kubernetes, who finds no seat is told to come again:
//! <https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/>
//! (`--max-requests-inflight`, `--max-mutating-requests-inflight`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::status::Status;
use crate::ClientLimits;

/// How long a request waits for a seat.
const PATIENCE: Duration = Duration::from_secs(1);

/// The seats.
pub(crate) struct Seats {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

/// A seat that is taken until this is dropped.
pub(crate) type Seat = OwnedSemaphorePermit;

impl Seats {
    pub(crate) fn new(limits: &ClientLimits) -> Self {
        let of = |n: usize| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS)));
        Self { reads: of(limits.reads), writes: of(limits.writes), watches: of(limits.watches) }
    }

    /// A seat for a request with an end.
    ///
    /// # Errors
    /// When there is none for a while.
    pub(crate) async fn request(&self, verb: &str) -> Result<Seat, Status> {
        let reads = matches!(verb, "get" | "list");
        taken(if reads { &self.reads } else { &self.writes }).await
    }

    /// A seat for a watch.
    ///
    /// # Errors
    /// When there is none for a while.
    pub(crate) async fn watch(&self) -> Result<Seat, Status> {
        taken(&self.watches).await
    }
}

async fn taken(of: &Arc<Semaphore>) -> Result<Seat, Status> {
    let seat = tokio::time::timeout(PATIENCE, Arc::clone(of).acquire_owned()).await;
    seat.ok()
        .and_then(Result::ok)
        .ok_or_else(|| Status::too_many_requests("Too many requests, please try again later.", 1))
}
