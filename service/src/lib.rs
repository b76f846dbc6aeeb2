//! The process: start, supervise, ready, stop, log, back off.
//!
//! Owns: what `cloudcore`, `edgecore` and `control-plane` have in common as programs.
//! Called by: their `app.rs`, and `keadm`.
//! Never: knows what a node or a pod is.
//!
//! ```no_run
//! # async fn f() -> Result<(), service::Stopped> {
//! let mut svc = service::Service::new("edgecore");
//! let ready = svc.readiness().part("edgehub");
//! let stop = svc.stopping();
//! svc.spawn("edgehub", service::Policy::StopAll, async move {
//!     drop(ready); // this part is up
//!     stop.cancelled().await;
//!     Ok(())
//! });
//! svc.until_stopped().await
//! # }
//! ```

pub mod admin;
pub mod backoff;
pub mod keyed;
pub mod pages;
pub mod readiness;
pub mod shutdown;
pub mod stream;
mod supervise;
pub mod telemetry;
pub mod tls;

pub use admin::{Admin, Metrics};
pub use keyed::{Keyed, NotTaken};
pub use readiness::{Readiness, ReadyPart};
pub use supervise::{BoxError, Policy, Service, Stopped, error_chain};
pub use tokio_util::sync::CancellationToken;

/// Bytes that nobody can guess.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    std::array::from_fn(|_| rand::random())
}
