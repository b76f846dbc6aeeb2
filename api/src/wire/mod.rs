//! The messages between cloud and edge, as KubeEdge writes them.
//!
//! [`message`] is the envelope, [`json`] puts it on a WebSocket, [`package`] is the binary form of
//! QUIC. [`upstream`] and [`downstream`] turn envelopes into enums named for what they mean;
//! [`route`] alone knows the strings.

pub mod downstream;
pub mod message;
pub mod upstream;
