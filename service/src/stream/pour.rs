//! Bytes poured into a WebSocket until they end: the way Kubernetes sends a log to who asks for one.
//!
//! Owns: the sizes of messages, the silence after which a peer is asked whether it is there.
//! Called by: whoever has answered an upgrade with [`accept_key`]. Never: reads ahead; a peer that
//! takes little is read for slowly, and the limits of what it is written to are those of its connection.

use std::pin::pin;
use std::time::Duration;

use futures::{SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message as Frame};

pub use tokio_tungstenite::tungstenite::handshake::derive_accept_key as accept_key;

/// The longest message, before it is written in letters. Kubernetes reads as much at a time.
const PIECE: usize = 2048;
/// Nothing that the peer says means anything; it need not be long.
const HEARD: usize = 64 << 10;
/// A peer that says nothing for so long is asked whether it is there, and is gone if it does not
/// answer in the same time.
const SILENCE: Duration = Duration::from_secs(60);

/// How bytes stand in messages.
#[derive(Debug, Clone, Copy)]
pub enum Written {
    /// As they are.
    Binary,
    /// As text, each message by itself.
    Text(fn(&[u8]) -> String),
}

impl Written {
    fn frame(self, piece: Bytes) -> Frame {
        match self {
            Self::Binary => Frame::Binary(piece),
            Self::Text(encode) => Frame::text(encode(&piece)),
        }
    }
}

/// Sends an empty message, then all pieces, then a close; ends early when the peer leaves.
pub async fn pour<S>(io: S, pieces: impl Stream<Item = Bytes>, written: Written)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(8 << 10)
        .max_message_size(Some(HEARD))
        .max_frame_size(Some(HEARD));
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    if all(&mut socket, pieces, written).await.is_ok() {
        super::close(&mut socket, CloseCode::Normal, "").await;
    }
}

/// An error means that the peer is gone.
async fn all<S>(
    socket: &mut WebSocketStream<S>,
    pieces: impl Stream<Item = Bytes>,
    written: Written,
) -> Result<(), WsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut pieces = pin!(pieces);
    // Kubernetes shows so that the stream has begun, however long its first bytes take.
    socket.send(written.frame(Bytes::new())).await?;
    let (mut limit, mut asked) = (Instant::now() + SILENCE, false);
    loop {
        tokio::select! {
            piece = pieces.next() => {
                let Some(mut piece) = piece else { return Ok(()) };
                while !piece.is_empty() {
                    let part = piece.split_to(piece.len().min(PIECE));
                    socket.feed(written.frame(part)).await?;
                }
                socket.flush().await?;
            }
            heard = socket.next() => {
                // A ping is answered, and a close, too: the next reading says that it is closed.
                heard.ok_or(WsError::ConnectionClosed)??;
                (limit, asked) = (Instant::now() + SILENCE, false);
            }
            () = sleep_until(limit) => {
                if asked {
                    return Err(WsError::ConnectionClosed);
                }
                socket.send(Frame::Ping(Bytes::new())).await?;
                (limit, asked) = (Instant::now() + SILENCE, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    /// Two ends of a connection, the second spoken to as a client does.
    async fn client() -> (tokio::io::DuplexStream, WebSocketStream<tokio::io::DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(16 << 10);
        (ours, WebSocketStream::from_raw_socket(theirs, Role::Client, None).await)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    // `NewReader(.., ping: true, ..)` of k8s.io/apimachinery/pkg/util/httpstream/wsstream.
    #[tokio::test]
    async fn bytes_come_after_an_empty_message_in_pieces_and_end_with_a_close() {
        let long = vec![0xff; PIECE + 1];
        let expected = [&b""[..], b"one\n", &long[..PIECE], &long[PIECE..]];
        for (written, text) in [(Written::Binary, false), (Written::Text(hex), true)] {
            let (ours, mut client) = client().await;
            let sent = stream::iter([Bytes::from_static(b"one\n"), long.clone().into()]);
            let pouring = tokio::spawn(pour(ours, sent, written));
            for piece in expected {
                let heard = client.next().await.unwrap().unwrap();
                let piece = Bytes::copy_from_slice(piece);
                assert_eq!(
                    heard,
                    if text { Frame::text(hex(&piece)) } else { Frame::Binary(piece) }
                );
            }
            let Frame::Close(Some(why)) = client.next().await.unwrap().unwrap() else {
                panic!("no close");
            };
            assert_eq!(why.code, CloseCode::Normal);
            assert!(client.next().await.is_none());
            pouring.await.unwrap();
        }
    }

    #[tokio::test]
    async fn it_ends_when_the_peer_closes_vanishes_or_sends_what_is_too_long() {
        for leaving in 0..3 {
            let (ours, mut client) = client().await;
            let pouring = tokio::spawn(pour(ours, stream::pending(), Written::Binary));
            assert_eq!(client.next().await.unwrap().unwrap(), Frame::Binary(Bytes::new()));
            match leaving {
                0 => client.close(None).await.unwrap(),
                1 => drop(client),
                _ => {
                    let _ = client.send(Frame::Binary(vec![0; HEARD + 1].into())).await;
                }
            }
            pouring.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_not_there_any_more_is_let_go_and_one_that_answers_is_not() {
        let (ours, mut client) = client().await;
        let begun = Instant::now();
        let pouring = tokio::spawn(pour(ours, stream::pending(), Written::Binary));
        // Reading answers pings.
        let _ = tokio::time::timeout(5 * SILENCE, async { while client.next().await.is_some() {} })
            .await;
        assert!(begun.elapsed() >= 5 * SILENCE && !pouring.is_finished());
        pouring.await.unwrap();
        assert!(begun.elapsed() <= 8 * SILENCE);
    }
}
