//! Port-forward over a WebSocket: a connection for each port that was asked for, with two channels,
//! 2n for its bytes and 2n + 1 for what went wrong. Each channel begins with its port.
//!
//! A channel cannot be ended: the WebSocket closes once all connections have ended.
//!
//! Owns: that layout.
//! Called by: `mod.rs`.
//! Never: opens a second connection to a port; a client that wants one asks anew.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::Dial;
use super::connection::{self, Pair, Said};
use super::spdy::{IDLE, STUCK, WAITING};

/// Moves everything until all connections have ended or the client leaves.
pub(super) async fn carry<S>(
    socket: WebSocketStream<S>,
    ports: &[u16],
    dial: Dial,
    slots: Arc<Semaphore>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, source) = socket.split();
    let (to, said) = mpsc::channel(WAITING); // full: the pod waits
    // Dropped with this future: no connection outlives its client.
    let mut tasks = JoinSet::new();
    let mut open = Vec::new();
    for (port, data) in ports.iter().zip((0..).step_by(2)) {
        let (to_pod, from) = mpsc::channel(WAITING);
        open.push(Some(to_pod));
        // A client cannot say that it has sent all, so that nobody waits for it to say so.
        let pair = Pair { data, error: data + 1, linger: Duration::ZERO };
        let (dial, slots, to) = (Arc::clone(&dial), Arc::clone(&slots), to.clone());
        tasks.spawn(connection::run(dial, slots, *port, pair, from, to));
    }
    drop(to);
    tokio::select! {
        sent = transmit(sink, ports, said) => {
            if let Err(e) = sent {
                tracing::debug!(error = %e, "a port-forward has ended");
            }
        }
        why = listen(source, open) => tracing::debug!(why, "a port-forward has ended"),
    }
}

fn message(channel: u32, data: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(data.len() + 1);
    // There are ports for a byte's worth of channels.
    bytes.put_u8(channel as u8);
    bytes.extend_from_slice(data);
    Message::Binary(bytes.freeze())
}

async fn transmit<S>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    ports: &[u16],
    mut said: mpsc::Receiver<Said>,
) -> Result<(), WsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for (port, channel) in ports.iter().flat_map(|port| [port, port]).zip(0..) {
        sink.send(message(channel, &port.to_le_bytes())).await?;
    }
    while let Some(said) = said.recv().await {
        if let Said::Data(channel, data) = said {
            sink.send(message(channel, &data)).await?;
        }
    }
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    sink.send(Message::Close(Some(frame))).await
}

/// What the client says, until it leaves.
async fn listen<S>(
    mut source: SplitStream<WebSocketStream<S>>,
    mut open: Vec<Option<mpsc::Sender<Bytes>>>,
) -> &'static str
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let mut data = match timeout(IDLE, source.next()).await {
            Err(_) => return "nothing was heard for hours",
            Ok(None | Some(Err(_) | Ok(Message::Close(_)))) => return "the client left",
            Ok(Some(Ok(Message::Binary(data)))) if data.len() > 1 => data,
            Ok(Some(Ok(_))) => continue,
        };
        let channel = usize::from(data.split_to(1)[0]);
        let Some(to) = open.get_mut(channel / 2).filter(|_| channel % 2 == 0) else { continue };
        let Some(sender) = to else { continue };
        match timeout(STUCK, sender.send(data)).await {
            Ok(Ok(())) => {}
            // The connection has ended; others may go on.
            Ok(Err(_)) => *to = None,
            Err(_) => return "the pod takes nothing",
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[tokio::test]
    async fn each_port_has_two_channels_that_begin_with_it_and_all_end_together() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dial: Dial = Arc::new(move |wanted| {
            Box::pin(async move {
                match wanted == port {
                    true => Ok(TcpStream::connect(("127.0.0.1", port)).await.unwrap()),
                    false => Err("connection refused".to_owned()),
                }
            })
        });
        let (near, far) = tokio::io::duplex(1 << 16);
        let serving = tokio::spawn(async move {
            let socket = super::super::super::channels::socket(near).await;
            carry(socket, &[port, 9], dial, Arc::new(Semaphore::new(8))).await;
        });
        let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        for sent in [&b"\x00hello"[..], b"\x01ignored", b"\x07no such channel", b"\x00"] {
            client.send(Message::Binary(Bytes::copy_from_slice(sent))).await.unwrap();
        }
        let (mut pod, _) = listener.accept().await.unwrap();
        let mut came = [0; 5];
        pod.read_exact(&mut came).await.unwrap();
        assert_eq!(&came, b"hello");
        pod.write_all(b"goodbye").await.unwrap();
        drop(pod);
        let mut heard: Vec<Vec<u8>> = Vec::new();
        while let Some(Ok(Message::Binary(data))) = client.next().await {
            heard.push(data.to_vec());
        }
        let [low, high] = port.to_le_bytes();
        assert_eq!(
            heard[..4],
            [vec![0, low, high], vec![1, low, high], vec![2, 9, 0], vec![3, 9, 0]]
        );
        assert!(heard.contains(&b"\x00goodbye".to_vec()), "{heard:?}");
        assert!(heard.contains(&b"\x03connection refused".to_vec()), "{heard:?}");
        drop(client);
        serving.await.unwrap();
    }
}
