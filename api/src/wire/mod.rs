//! The messages between cloud and edge, as KubeEdge writes them.
//!
//! [`message`] is the envelope, [`json`] puts it on a WebSocket, [`package`] is the binary form of
//! QUIC, [`handshake`] is how a link begins. [`upstream`] and [`downstream`] turn envelopes into
//! enums named for what they mean, [`request`] is what the edge asks of the API server, [`reply`]
//! the forms of answers, [`task`] what messages about jobs carry; [`route`] alone knows the
//! strings.
//!
//! Owns: every byte between cloudhub and edgehub.
//! Called by: both hubs, once per message; fuzz targets and golden tests.
//! Never: decides what to do with a message, reads a clock, or holds back a message it cannot read:
//! that is a [`DecodeError`] with the message's own words.

pub mod downstream;
pub mod error;
pub mod handshake;
pub mod json;
pub mod message;
pub mod package;
#[cfg(test)]
mod proptests;
pub mod reply;
pub mod request;
pub(crate) mod route;
mod subject;
pub mod task;
pub mod upstream;

pub use downstream::Downstream;
pub use error::{DecodeError, DecodeFault};
pub use message::{Header, MAX_MESSAGE, Message, Route};
pub use upstream::Upstream;
