//! The stream's messages: what a reader on this node is told.
//!
//! Owns: one cursor per reader.
//! Called by: `service::stream`, which has the socket.
//! Never: answers what is the cloud's to do.

use api::status::reader::{Look, Reader as Told};
use api::status::stream::{
    Done, FromReader, Hello, LogLines, MAX_REQUEST, MAX_UPDATE, ToReader, VERSION,
};
use futures::future::BoxFuture;
use service::CancellationToken;
use service::stream::{Feed, Heard, Pace, Sizes, UnixSocket};
use tokio::sync::{mpsc, watch};

use super::{Status, answer, now};
use crate::edged::LocalApi;

/// Readers at one time.
const READERS: usize = 16;
const PATH: &str = "/status/v1";
const SIZES: Sizes = Sizes { request: MAX_REQUEST, update: MAX_UPDATE };

pub(super) async fn serve(
    status: Status,
    socket: UnixSocket,
    own: Option<LocalApi>,
    stopping: CancellationToken,
) {
    let told = stopping.clone();
    let each = |stream| {
        let (reader, stopping) = (Reader::new(status.clone(), own.clone()), stopping.clone());
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
    own: Option<LocalApi>,
    told: Told,
}

impl Reader {
    pub(super) fn new(status: Status, own: Option<LocalApi>) -> Self {
        status.0.readers.send_modify(|n| *n += 1);
        Self { status, own, told: Told::default() }
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
            requests: self.own.iter().flat_map(|_| answer::REQUESTS).map(str::to_owned).collect(),
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

    fn heard(&mut self, text: &str, say: &mpsc::Sender<String>) -> Result<Heard, String> {
        Ok(match FromReader::read(text)? {
            Ok(FromReader::Flow { on }) => {
                self.told.set_flow(on);
                Heard::Nothing
            }
            // It is measured always, and more often while somebody reads.
            Ok(FromReader::Usage { .. }) => Heard::Nothing,
            Ok(FromReader::Request { id, request }) => {
                let (own, node, say) = (self.own.clone(), self.status.0.node.clone(), say.clone());
                let job = Box::pin(async move {
                    // A reader that takes no line keeps the log waiting, and nothing else.
                    let lines = move |lines| -> BoxFuture<'static, bool> {
                        let (say, text) =
                            (say.clone(), write(&ToReader::Log(LogLines { id, lines })));
                        Box::pin(async move { say.send(text).await.is_ok() })
                    };
                    write(&ToReader::Done(
                        match answer::answer(own, &node, request, &lines).await {
                            Ok(text) => Done { id, text, ..Done::default() },
                            Err(error) => Done { id, error, ..Done::default() },
                        },
                    ))
                });
                Heard::Begin { id, job }
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
