//! The cloud half: edge nodes connect to it, and it speaks to the API server for them.
//!
//! ```text
//! API server ─watch─► edgecontroller::downstream ─call─► Index ─► [outbox of node] ─► session ─► edge
//! API server ◄─write─ edgecontroller::upstream ◄─[shard]─ dispatch ◄─call─ session ◄─ edge
//! ```
//!
//! Owns: ports 10000, 10002, 10003 and 10004, and what each edge node has and lacks.
//! Called by: `keadm`, alone or with a control plane in one process.
//! Never: knows which API server it speaks to, or that there is an edge half in this repository.

pub mod admission;
pub mod apiserver;
pub mod app;
pub mod cloudhub;
pub mod cloudstream;
pub mod devicecontroller;
pub mod edgecontroller;
mod error;
mod kubeconfig;
pub mod metrics;
pub mod object;
pub mod status;
pub mod synccontroller;
pub mod taskmanager;
mod watching;

pub use app::{Addresses, CloudCore, Options};
pub use error::Error;

use api::config::cloudcore::CloudCoreConfig;
use service::Service;

/// Runs cloudcore until `svc` is told to stop.
///
/// # Errors
/// When it cannot start, or a part that the others need fails.
pub async fn run(config: CloudCoreConfig, options: Options, mut svc: Service) -> Result<(), Error> {
    let app = CloudCore::build(config, options).await?;
    app.spawn(&mut svc);
    Ok(svc.until_stopped().await?)
}
