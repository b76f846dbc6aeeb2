//! The part of the edge that runs pods.
//!
//! Owns: sandboxes, containers, volumes and images of this node, through a container runtime.
//! Called by: `app.rs`, which hands over the wanted pods and takes what is reported.
//! Never: speaks to the cloud, or keeps in memory alone what a restart would need.

pub(crate) mod node;
pub mod runtime;
