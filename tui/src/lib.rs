//! The dashboard: draws the status stream in a terminal.
//!
//! Owns: the screen, the keys, and one connection to a status stream.
//! Called by: `keadm dashboard` and `keadm up`.
//! Never: speaks to an API server, or changes anything except through the stream's requests.
//!
//! Four parts, one direction: [`conn`] brings events, [`update`] alone changes [`state`], [`view`]
//! draws `&State`. What the network should do next comes back from `update` as an `Effect`.

pub mod app;
pub mod columns;
pub mod conn;
pub mod keys;
pub mod palette;
pub mod picture;
pub mod record;
pub mod rows;
pub mod state;
pub mod term;
pub mod update;
pub mod view;

pub use app::{Error, Feed, Options, Source, run};
pub use conn::{Endpoint, StreamEvent, Token};
