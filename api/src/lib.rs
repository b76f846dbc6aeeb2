//! What both halves agree on: names, configuration files, wire messages, resource types.
//!
//! Owns: every type that crosses a socket or a file between the cloud and the edge.
//! Called by: every other crate of ours.
//! Never: opens a socket or a file, spawns a task, or asks what time it is.

pub mod config;
pub mod crd;
pub mod moment;
pub mod names;
pub mod printable;
pub mod quantity;
pub mod raw;
pub mod status;
pub mod tunnel;
pub mod twin;
pub mod wire;
