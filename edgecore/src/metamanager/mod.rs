//! What the node holds: the edge's copy of the objects that concern it.
//!
//! Owns: the database and what its rows mean.
//! Called by: the edgehub (store first, acknowledge after), edged and the node's registration.
//! Never: decides what to run.

pub(crate) mod apply;
pub(crate) mod objects;
pub(crate) mod remote;
pub(crate) mod store;
mod store_copy;
mod store_look;

pub use apply::WantedChange;
pub(crate) use objects::{ObjectError, Objects};
pub(crate) use store::Store;
pub use store::StoreError;
pub use store_copy::{copy_database, restore_database};
pub use store_look::{Stored, stored};
