//! The stream tunnel between edgestream and cloudstream: logs, exec, attach, metrics.
//!
//! [`frame`] is what one WebSocket message holds, [`connect`] is the request that opens a
//! connection within the tunnel.
//!
//! Owns: the bytes in the tunnel, the names of its handshake.
//! Called by: cloudstream, edgestream.
//! Never: dials or listens.

pub mod connect;
pub mod frame;

pub use connect::{ConnectError, ConnectRequest, GoUrl};
pub use frame::{Frame, FrameError, FrameKind, MAX_DATA};

/// The path that an edge node dials.
pub const PATH: &str = "/v1/kubeedge/connect";
/// Header that names the node. The certificate says who it is.
pub const NODE_NAME: &str = "SessionHostNameOverride";
/// Header with the node's address.
pub const NODE_IP: &str = "SessionInternalIP";
