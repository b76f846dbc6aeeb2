//! Where edge nodes connect: port 10000 for messages, port 10002 for certificates.
//!
//! Owns: the sessions, the outboxes, the CA.
//! Called by: `app.rs`; the controllers hand over messages through [`registry::Registry`].
//! Never: talks to the API server about anything but certificates and tokens.

pub mod authorizer;
pub mod bootstrap;
pub mod budget;
pub mod certs;
pub mod dispatch;
pub mod listener;
pub mod outbox;
pub mod registry;
pub mod sec1;
pub mod secrets;
pub mod server;
pub mod session;
pub mod throttle;
pub mod tokens;
