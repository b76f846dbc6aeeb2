//! The edge half.

pub mod edged;
