//! edgecore as a whole, against a cloud of our making.

#![allow(clippy::unwrap_used, reason = "tests; a failure should show where")]

mod certs;
mod devices;
mod jobs;
mod link;
mod pods;
mod support;
