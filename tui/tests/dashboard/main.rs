//! The dashboard as a user meets it: messages and keys in, screens out; and the stream over a real
//! socket.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests"
)]

mod keys;
mod large;
mod sample;
mod screens;
mod stream;
mod terminal;
