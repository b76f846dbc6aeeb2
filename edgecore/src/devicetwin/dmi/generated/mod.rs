//! Made from `edgecore/proto/dmi.proto`; a test makes it again and compares.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::pedantic,
    reason = "generated code has no writer to please"
)]

#[rustfmt::skip]
#[path = "v1beta1.rs"]
pub(crate) mod pb;
