//! The stream's messages: what a reader on this node is told.
//!
//! Owns: one cursor per reader.
//! Called by: `service::stream`, which has the socket.
//! Never: answers a request: an edge is asked, not told.

use api::status::reader::{Look, Reader as Told};
use api::status::stream::{Done, FromReader, Hello, MAX_REQUEST, MAX_UPDATE, ToReader, VERSION};
use service::CancellationToken;
use service::stream::{Feed, Heard, Pace, Sizes, UnixSocket};
use tokio::sync::{mpsc, watch};

use super::{Status, now};

/// Readers at one time.
const READERS: usize = 16;
const PATH: &str = "/status/v1";
const SIZES: Sizes = Sizes { request: MAX_REQUEST, update: MAX_UPDATE };

pub(super) async fn serve(status: Status, socket: UnixSocket, stopping: CancellationToken) {
    let told = stopping.clone();
    let each = |stream| {
        let (reader, stopping) = (Reader::new(status.clone()), stopping.clone());
        async move {
            let until = async {
                stopping.cancelled().await;
                "edgecore is stopping".to_owned()
            };
            service::stream::accept(stream, PATH, reader, SIZES, until).await;
        }
    };
    socket.accept(READERS, told, each).await;
}

pub(super) struct Reader {
    status: Status,
    told: Told,
}

impl Reader {
    pub(super) fn new(status: Status) -> Self {
        status.0.readers.send_modify(|n| *n += 1);
        Self { status, told: Told::default() }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.status.0.readers.send_modify(|n| *n -= 1);
    }
}

impl Feed for Reader {
    fn changed(&self) -> watch::Receiver<u64> {
        self.status.0.changed.subscribe()
    }

    fn hello(&self) -> String {
        write(&ToReader::Hello(Hello {
            version: VERSION,
            server: format!("edgecore {}", env!("CARGO_PKG_VERSION")),
            node: Some(self.status.0.node.to_string()),
            now: now(),
            requests: Vec::new(),
        }))
    }

    fn news(&mut self, pace: Pace) -> Vec<String> {
        let look = Look {
            now: now(),
            totals: self.status.totals(),
            totals_due: pace.small_due,
            heartbeat: pace.heartbeat,
        };
        let updates = self.told.look(look, |cursor| self.status.since(cursor));
        updates.into_iter().map(|update| write(&ToReader::Update(Box::new(update)))).collect()
    }

    fn heard(&mut self, text: &str, _: &mpsc::Sender<String>) -> Result<Heard, String> {
        Ok(match FromReader::read(text)? {
            Ok(FromReader::Flow { on }) => {
                self.told.set_flow(on);
                Heard::Nothing
            }
            Ok(FromReader::Request { id, .. }) => {
                let error = "an edge shows itself and answers no requests; ask the cloud";
                Heard::Say(write(&ToReader::Done(Done {
                    id,
                    error: error.to_owned(),
                    ..Done::default()
                })))
            }
            Ok(FromReader::Stop { id }) => Heard::Stop { id },
            Err(unknown) => Heard::Say(write(&ToReader::Done(unknown))),
        })
    }

    fn busy(&self, id: u64, limit: usize) -> String {
        let error = format!("{limit} requests are in work already; try again");
        write(&ToReader::Done(Done { id, error, ..Done::default() }))
    }
}

fn write(message: &ToReader) -> String {
    // Only numbers, texts and lists: it always has a JSON form.
    serde_json::to_string(message).unwrap_or_default()
}
