//! Made from `edgecore/proto/*.proto`; a test makes it again and compares.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated code has no writer to please"
)]

#[rustfmt::skip]
#[path = "containerd.services.events.v1.rs"]
pub(super) mod containerd;
#[rustfmt::skip]
#[path = "runtime.v1.rs"]
pub(super) mod cri;
