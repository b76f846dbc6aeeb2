//! The stream tunnel between edgestream and cloudstream: logs, exec, attach, metrics.
//!
//! [`ws`] is the WebSocket, [`frame`] what one of its messages holds, [`connect`] the request that
//! opens a connection within the tunnel, [`window`] how much a connection may have on its way.
//!
//! Owns: the bytes in the tunnel, the names of its handshake.
//! Called by: cloudstream, edgestream.
//! Never: dials or listens.

pub mod connect;
pub mod frame;
pub mod window;
pub mod ws;

pub use connect::{ConnectError, ConnectRequest, GoUrl};
pub use frame::{Frame, FrameError, FrameKind, MAX_DATA};

/// The path that an edge node dials.
pub const PATH: &str = "/v1/kubeedge/connect";
/// Header that names the node. The certificate says who it is.
pub const NODE_NAME: &str = "SessionHostNameOverride";
/// Header with the node's address.
pub const NODE_IP: &str = "SessionInternalIP";
/// Header by which both ends of this program know each other: the value is [`WINDOWS_ON`]. The edge
/// then keeps to windows and answers every connect with the head of an HTTP response, so that a
/// refusal is not taken for a log; so does the cloud. The original has no such header.
pub const WINDOWS: &str = "SessionWindows";
/// The value of [`WINDOWS`].
pub const WINDOWS_ON: &str = "1";
