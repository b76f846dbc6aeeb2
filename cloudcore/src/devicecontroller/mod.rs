//! Devices: down to their node as they should be, and up into the DeviceStatus as they are.
//!
//! ```text
//! Device, DeviceModel ─watch─► downstream ─call─► Index ─► outbox of the node
//! cloudhub::dispatch ─call─► upstream ─► Reports ─ one write a second and device ─► DeviceStatus
//! ```

pub mod downstream;
pub mod index;
pub mod membership;
pub mod reports;
pub mod upstream;

pub use downstream::Downstream;
pub use upstream::Upstream;
