//! The link to the cloud: certificates, the connection, what goes up and what comes down.
//!
//! Owns: the socket to cloudhub, what the cloud must still be told, questions that wait for answers.
//! Called by: `app.rs`; modules speak to the cloud through [`ToCloud`] and [`Requests`].
//! Never: keeps objects (that is the metamanager's) or decides what to run.

pub mod certs;
mod device_outbox;
pub(crate) mod dispatch;
pub(crate) mod link;
pub(crate) mod metrics;
pub(crate) mod outbox;
mod pace;
pub(crate) mod requests;
pub(crate) mod session;
mod task_reports;
pub(crate) mod to_cloud;
mod uploads;

pub(crate) use requests::{RequestError, Requests};
pub(crate) use to_cloud::ToCloud;
