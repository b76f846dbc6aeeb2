//! One forwarded connection.
//!
//! Owns: the TCP connection to the pod.
//! Called by: `spdy.rs` and `channels.rs`, a task for each connection.
//! Never: holds more than a piece of what the pod sends: who reads slowly is written to slowly.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::{CONNECTIONS, Dial};

/// What is sent at once.
const PIECE: usize = 16 << 10;
/// What a connection says to its client. Streams are numbered as the carrier numbers them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Bytes on a stream.
    Data(u32, Bytes),
    /// The last of a stream.
    End(u32),
    /// A stream is accepted. SPDY's alone, as what follows.
    Accept(u32),
    /// A stream is refused, or given up.
    Refuse(u32),
    /// A ping is answered.
    Pong(u32),
}

/// Where a connection is in its carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    /// The stream of its bytes.
    pub(super) data: u32,
    /// The stream on which is said why it does not go on; it ends with the connection.
    pub(super) error: u32,
    /// The client may still send so long after the pod has sent all.
    pub(super) linger: Duration,
}

/// Connects, moves all bytes, and says what went wrong if something did. The end of `from` is the
/// client's.
pub(super) async fn run(
    dial: Dial,
    slots: Arc<Semaphore>,
    port: u16,
    pair: Pair,
    from: mpsc::Receiver<Bytes>,
    to: mpsc::Sender<Said>,
) {
    let moved = match slots.try_acquire_owned() {
        Ok(_slot) => match dial(port).await {
            Ok(socket) => both_ways(socket, pair, from, &to).await,
            Err(why) => Err(why),
        },
        Err(_) => Err(format!("{CONNECTIONS} connections are forwarded on this node already")),
    };
    if let Err(why) = moved {
        tracing::debug!(port, why, "a forwarded connection does not go on");
        let _ = to.send(Said::Data(pair.error, why.into())).await;
        let _ = to.send(Said::End(pair.data)).await;
    }
    // Fails when the client has left, and all its connections with it.
    let _ = to.send(Said::End(pair.error)).await;
}

async fn both_ways(
    socket: TcpStream,
    pair: Pair,
    from: mpsc::Receiver<Bytes>,
    to: &mpsc::Sender<Said>,
) -> Result<(), String> {
    let (read, write) = socket.into_split();
    let up = upwards(write, from);
    tokio::pin!(up);
    let down = downwards(read, pair, to);
    tokio::pin!(down);
    let mut sent = false;
    loop {
        tokio::select! {
            result = &mut down => {
                result.map_err(|e| format!("the pod broke the connection: {e}"))?;
                break;
            }
            // What the pod does not take is told by the pod's side of it.
            () = &mut up, if !sent => sent = true,
        }
    }
    if !sent {
        let _ = timeout(pair.linger, up).await;
    }
    Ok(())
}

/// From the client to the pod, and then the end.
async fn upwards(mut write: OwnedWriteHalf, mut from: mpsc::Receiver<Bytes>) {
    while let Some(data) = from.recv().await {
        if write.write_all(&data).await.is_err() {
            // The client is not kept waiting for room.
            from.close();
            while from.recv().await.is_some() {}
            return;
        }
    }
    let _ = write.shutdown().await;
}

async fn downwards(
    mut read: OwnedReadHalf,
    pair: Pair,
    to: &mpsc::Sender<Said>,
) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        if read.read_buf(&mut buffer).await? == 0 {
            let _ = to.send(Said::End(pair.data)).await;
            return Ok(());
        }
        while !buffer.is_empty() {
            let piece = buffer.split_to(buffer.len().min(PIECE)).freeze();
            if to.send(Said::Data(pair.data, piece)).await.is_err() {
                return Ok(());
            }
        }
    }
}
