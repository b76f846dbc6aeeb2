//! The edge half: edgehub, metamanager, edged.
//!
//! Owns: everything that runs on an edge node.
//! Called by: `keadm edgecore` and the tests.
//! Never: speaks to an API server; what it needs comes through the link to cloudcore.
#![allow(dead_code, unused_imports, reason = "the wiring in app.rs follows; it uses all of this")]

pub mod edged;
mod edgehub;
mod metamanager;

pub use edgehub::certs;
pub use edgehub::link::LinkError;
