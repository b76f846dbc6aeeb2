//! How much memory half-received messages may take, of all connections together.
//!
//! A WebSocket message may have 32 MiB, and only its last byte makes it a message. A node that
//! sends slowly, or hundreds that send at once, would hold that much each. So bytes beyond a small
//! allowance per message are taken from one budget; while it is used up the connection is not read,
//! and the keepalive clock ends those that block it.
//!
//! Owns: the budget.
//! Called by: `session.rs`, which says when a message is complete.
//! Never: counts what TLS buffers (at most 64 KiB a connection).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The unit of the budget.
const CHUNK: usize = 64 << 10;

/// Shared by all connections.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / CHUNK)))
    }

    /// What is left, in bytes.
    pub fn left(&self) -> usize {
        self.0.available_permits() * CHUNK
    }
}

type Asking =
    Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;

/// What one connection has read of the message that it is in.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Bytes read since the last complete message.
    pending: usize,
    held: Option<OwnedSemaphorePermit>,
}

impl Meter {
    /// A message is complete. What it took from the budget goes with it, to be dropped when the
    /// message has been dealt with.
    pub fn message_complete(&self) -> Option<OwnedSemaphorePermit> {
        let mut state = self.0.lock();
        state.pending = 0;
        state.held.take()
    }

    /// Chunks to be taken from the budget before more is read; the first of a message is free.
    fn owed(&self) -> usize {
        let state = self.0.lock();
        let held = state.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        (state.pending / CHUNK).saturating_sub(held)
    }

    fn hold(&self, permit: OwnedSemaphorePermit) {
        match &mut self.0.lock().held {
            Some(held) => held.merge(permit),
            held => *held = Some(permit),
        }
    }
}

/// A stream whose reading draws on a [`Budget`].
pub struct Metered<S> {
    inner: S,
    budget: Budget,
    meter: Meter,
    asking: Option<Asking>,
}

impl<S> Metered<S> {
    /// Meters `inner`.
    pub fn new(inner: S, budget: Budget) -> Self {
        Self { inner, budget, meter: Meter::default(), asking: None }
    }

    /// What it has read.
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let owed = this.meter.owed();
            if owed == 0 {
                break;
            }
            let owed = u32::try_from(owed).unwrap_or(u32::MAX);
            let asking = this.asking.get_or_insert_with(|| {
                Box::pin(Arc::clone(&this.budget.0).acquire_many_owned(owed))
            });
            let permit = match asking.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(permit) => permit.map_err(io::Error::other)?,
            };
            this.asking = None;
            this.meter.hold(permit);
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        this.meter.0.lock().pending += buf.filled().len() - before;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_large_messages_share_the_budget_one_after_the_other() {
        let budget = Budget::new(4 * CHUNK);
        let open = || {
            let (mut far, near) = tokio::io::duplex(16 * CHUNK);
            let task = async move { far.write_all(&vec![0; 5 * CHUNK]).await.map(|()| far) };
            (Metered::new(near, budget.clone()), task)
        };
        let ((mut a, write_a), (mut b, write_b)) = (open(), open());
        let (_a, _b) = (write_a.await.unwrap(), write_b.await.unwrap());
        read_all(&mut a).await;
        let mut reading = Box::pin(read_all(&mut b));
        timeout(Duration::from_secs(1), &mut reading).await.unwrap_err();
        drop(a.meter().message_complete());
        reading.await;
    }

    /// In the small pieces in which TLS gives them.
    async fn read_all(from: &mut Metered<tokio::io::DuplexStream>) {
        for _ in 0..5 * CHUNK / 4096 {
            from.read_exact(&mut [0; 4096]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn small_messages_cost_nothing() {
        let budget = Budget::new(0);
        let (mut far, near) = tokio::io::duplex(CHUNK);
        let mut near = Metered::new(near, budget);
        for _ in 0..100 {
            far.write_all(&[1; 1000]).await.unwrap();
            near.read_exact(&mut [0; 1000]).await.unwrap();
            assert!(near.meter().message_complete().is_none());
        }
    }
}
