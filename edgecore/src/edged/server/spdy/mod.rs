//! SPDY/3.1, which the API servers of clusters speak to kubelets: they translate a client's
//! WebSocket into it.
//!
//! [`frame`] is what is on the wire, [`session`] the streams of an exec or attach.
//!
//! Owns: one connection after its switch of protocols.
//! Called by: `exec.rs`.
//! Never: heeds windows: Kubernetes' clients neither send nor expect them, and TCP has its own.

mod dictionary;
mod frame;
mod session;

pub(super) use session::{Wanted, carry, gather};
