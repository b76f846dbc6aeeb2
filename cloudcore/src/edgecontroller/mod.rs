//! Pods, nodes, configmaps and secrets: down to the edge nodes, and what they report up.
//!
//! Owns: the index of who needs what; the watches; the workers that write to the API server.
//! Called by: `app.rs` (spawns), `cloudhub::dispatch` (hands over requests).
//! Never: knows a socket.

pub mod downstream;
pub mod index;
pub mod upstream;
