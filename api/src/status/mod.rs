//! What a dashboard can show, and how it gets there.
//!
//! [`row`] has the rows, [`board`] the table with a sequence number per row, [`stream`] the JSON
//! messages that carry it. docs/status-stream.md describes them for others.

pub mod board;
pub mod drained;
pub mod lines;
pub mod objects;
pub mod reader;
pub mod row;
pub mod stream;
pub mod upgrades;
