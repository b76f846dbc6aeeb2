//! Device twins on MQTT and in messages to the cloud.
//!
//! [`topics`] is where, [`message`] is what.
//!
//! Owns: the topics and the JSON.
//! Called by: eventbus, devicetwin, devicecontroller.
//! Never: merges twins or compares versions.

pub mod message;
pub mod topics;
