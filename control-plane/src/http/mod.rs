//! The API over HTTPS.
//!
//! Owns: connections, who a caller is and what it may do, paths, and one file per verb.
//! Called by: clients over the network; controllers call the verbs directly.
//! Never: knows what is special about a kind; that is in `registry`.

pub(crate) mod admission;
pub(crate) mod apply;
pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod discovery;
mod enums;
pub(crate) mod escalation;
pub(crate) mod evict;
pub(crate) mod get;
pub(crate) mod json;
mod kubelet;
pub(crate) mod list;
mod logsocket;
pub(crate) mod nodes;
pub(crate) mod openapi;
pub(crate) mod patch;
pub(crate) mod protobuf;
mod published;
pub(crate) mod rbac;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod restriction;
pub(crate) mod reviews;
mod router;
pub(crate) mod seats;
pub(crate) mod server;
pub(crate) mod services;
pub(crate) mod signing;
mod stalled;
pub(crate) mod status;
pub(crate) mod steps;
pub(crate) mod subresource;
mod swagger;
pub(crate) mod table;
pub(crate) mod tokens;
pub(crate) mod update;
pub(crate) mod watch;
pub(crate) mod webhooks;
