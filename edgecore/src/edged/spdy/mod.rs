//! SPDY/3.1, which Kubernetes' streams speak between API servers, kubelets and container runtimes.
//!
//! [`frame`] is what is on the wire. A server of it is in `server/`, a client in `runtime/cri/`.
//!
//! Owns: frames, and the compression of their headers.
//! Called by: `server/spdy.rs`, `server/portforward/`, `runtime/cri/streaming.rs`.
//! Never: heeds windows: Kubernetes' clients and servers neither send nor expect them, and TCP has
//! its own.

mod dictionary;
pub(crate) mod frame;
